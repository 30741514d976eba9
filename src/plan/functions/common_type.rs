//! The least type that holds the values of several: what CASE, COALESCE, IN, BETWEEN, comparisons
//! and UNION bring their operands to, as Spark does in ANSI mode.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};

use super::collections::types::{entry, list_of, map_of};
use super::decimals::{precision_and_scale, wider};
use crate::plan::sql::types::timestamp_type;

/// How far two types may be widened to a common one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Widening {
    /// Numbers only along TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, and to a DECIMAL that is
    /// there.
    Tight,
    /// Also to a DECIMAL or DOUBLE that holds both.
    Numbers,
    /// Whole numbers and FLOAT meet in DOUBLE. A text gives way: beside whole numbers it is read as
    /// BIGINT, beside other numbers as DOUBLE, beside a date, a timestamp, a truth value or a BINARY
    /// as that.
    Texts,
}

/// The type that values of both types are brought to; `None` where there is none.
pub fn common_type(left: &DataType, right: &DataType) -> Option<DataType> {
    widened(left, right, Widening::Texts)
}

/// [`common_type`], as far as `how` allows.
pub fn widened(left: &DataType, right: &DataType, how: Widening) -> Option<DataType> {
    use DataType as D;
    if left == right {
        return Some(left.clone());
    }
    match (left, right) {
        (D::Null, other) | (other, D::Null) => Some(other.clone()),
        (text, other) | (other, text) if is_text(text) => match other {
            other if is_text(other) => Some(D::Utf8),
            _ if how != Widening::Texts => None,
            other if other.is_integer() => Some(D::Int64),
            other if is_number(other) => Some(D::Float64),
            D::Boolean | D::Date32 | D::Timestamp(..) | D::Binary => Some(other.clone()),
            _ => None,
        },
        (left, right) if is_number(left) && is_number(right) => number(left, right, how),
        (D::Date32, moment @ D::Timestamp(..)) | (moment @ D::Timestamp(..), D::Date32) => {
            Some(moment.clone())
        }
        (D::Timestamp(_, a), D::Timestamp(_, b)) => Some(if a.is_some() || b.is_some() {
            timestamp_type()
        } else {
            D::Timestamp(TimeUnit::Microsecond, None)
        }),
        (D::Duration(_) | D::Interval(IntervalUnit::DayTime), D::Duration(_)) => {
            Some(D::Duration(TimeUnit::Microsecond))
        }
        (
            D::Binary | D::BinaryView | D::LargeBinary,
            D::Binary | D::BinaryView | D::LargeBinary,
        ) => Some(D::Binary),
        (D::List(a), D::List(b)) => Some(list_of(widened(a.data_type(), b.data_type(), how)?)),
        (D::Struct(a), D::Struct(b)) if a.len() == b.len() => {
            let fields = a.iter().zip(b).map(|(a, b)| field(a, b, how));
            Some(D::Struct(fields.collect::<Option<_>>()?))
        }
        (D::Map(..), D::Map(..)) => {
            let ((key, value), (other_key, other_value)) = (entry(left)?, entry(right)?);
            Some(map_of(
                widened(key, other_key, how)?,
                widened(value, other_value, how)?,
            ))
        }
        _ => None,
    }
}

/// The common type of all; `None` where there is none. No types have the type of NULL.
pub fn common_type_of<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Option<DataType> {
    // Texts give way to whatever else there is, in whichever order they come.
    let (texts, others): (Vec<_>, Vec<_>) = types.into_iter().partition(|t| is_text(t));
    (others.into_iter().chain(texts))
        .try_fold(DataType::Null, |found, next| common_type(&found, next))
}

/// Fields of structs meet by place, and must have one name.
fn field(left: &FieldRef, right: &FieldRef, how: Widening) -> Option<FieldRef> {
    if !left.name().eq_ignore_ascii_case(right.name()) {
        return None;
    }
    let data_type = widened(left.data_type(), right.data_type(), how)?;
    let nullable = left.is_nullable() || right.is_nullable();
    Some(Arc::new(Field::new(left.name(), data_type, nullable)))
}

fn number(left: &DataType, right: &DataType, how: Widening) -> Option<DataType> {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64};
    let is_decimal = |t: &DataType| matches!(t, Decimal128(..));
    if !is_decimal(left) && !is_decimal(right) {
        let wider = [Int8, Int16, Int32, Int64, Float32, Float64]
            .into_iter()
            .rfind(|t| t == left || t == right)?;
        // A FLOAT has no room for the digits of a whole number, which Spark minds in ANSI mode's own
        // rules only.
        let lossy = wider == Float32 && how == Widening::Texts;
        return Some(if lossy { Float64 } else { wider });
    }
    match (precision_and_scale(left), precision_and_scale(right)) {
        (Some(l), Some(r)) if how == Widening::Tight => {
            // Only a whole number that the decimal has room for.
            let (decimal, other) = if is_decimal(left) {
                (left, right)
            } else {
                (right, left)
            };
            (!is_decimal(other) && Some(wider(l, r)) == precision_and_scale(decimal))
                .then(|| decimal.clone())
        }
        (Some(left), Some(right)) => {
            let (precision, scale) = wider(left, right);
            Some(Decimal128(precision, scale))
        }
        _ => (how != Widening::Tight).then_some(Float64),
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_floating()
        || matches!(data_type, DataType::Decimal128(..))
}

/// Whether it is a STRING.
pub fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_widen_and_texts_give_way() {
        use DataType as D;
        for (left, right, expected) in [
            (D::Int32, D::Int64, Some(D::Int64)),
            (D::Int32, D::Float32, Some(D::Float64)),
            (D::Int32, D::Decimal128(2, 1), Some(D::Decimal128(11, 1))),
            (D::Int64, D::Decimal128(2, 1), Some(D::Decimal128(21, 1))),
            (D::Utf8, D::Int8, Some(D::Int64)),
            (D::Utf8, D::Decimal128(2, 1), Some(D::Float64)),
            (D::Date32, D::Utf8, Some(D::Date32)),
            (D::Boolean, D::Int32, None),
            (D::Int32, D::Float32, Some(D::Float64)),
            (D::Utf8, D::Duration(TimeUnit::Microsecond), None),
            (D::Null, D::Int32, Some(D::Int32)),
        ] {
            assert_eq!(common_type(&left, &right), expected, "{left} {right}");
            assert_eq!(common_type(&right, &left), expected, "{right} {left}");
        }
        assert_eq!(
            widened(&D::Int64, &D::Float32, Widening::Tight),
            Some(D::Float32)
        );
        assert_eq!(widened(&D::Utf8, &D::Int32, Widening::Numbers), None);
        for (decimal, tight) in [(D::Decimal128(12, 2), true), (D::Decimal128(11, 2), false)] {
            let found = widened(&D::Int32, &decimal, Widening::Tight);
            assert_eq!(found, tight.then(|| decimal.clone()));
        }
        let all = [D::Utf8, D::Int32, D::Decimal128(2, 1)];
        assert_eq!(common_type_of(&all), Some(D::Float64));
    }
}
