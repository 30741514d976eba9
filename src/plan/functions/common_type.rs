//! The least type that holds the values of several: what CASE, COALESCE, IN, BETWEEN, comparisons
//! and UNION bring their operands to, as Spark does in ANSI mode.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};

use super::decimals::{precision_and_scale, wider};
use crate::plan::sql::types::timestamp_type;

/// The type that values of both types are brought to; `None` where there is none.
///
/// A text gives way: beside whole numbers it is read as BIGINT, beside other numbers as DOUBLE,
/// else as the other type.
pub fn common_type(left: &DataType, right: &DataType) -> Option<DataType> {
    use DataType as D;
    if left == right {
        return Some(left.clone());
    }
    match (left, right) {
        (D::Null, other) | (other, D::Null) => Some(other.clone()),
        (text, other) | (other, text) if is_string(text) => match other {
            other if is_string(other) => Some(D::Utf8),
            other if other.is_integer() => Some(D::Int64),
            other if is_number(other) => Some(D::Float64),
            other if other.is_nested() => None,
            other => Some(other.clone()),
        },
        (left, right) if is_number(left) && is_number(right) => Some(number(left, right)),
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
        (D::List(a), D::List(b)) => {
            let item = common_type(a.data_type(), b.data_type())?;
            Some(D::List(Arc::new(Field::new("item", item, true))))
        }
        (D::Struct(a), D::Struct(b)) if a.len() == b.len() => Some(D::Struct(fields(a, b)?)),
        (D::Map(a, sorted), D::Map(b, _)) => {
            let (D::Struct(entries), D::Struct(others)) = (a.data_type(), b.data_type()) else {
                return None;
            };
            let entries = D::Struct(fields(entries, others)?);
            Some(D::Map(
                Arc::new(Field::new(a.name(), entries, false)),
                *sorted,
            ))
        }
        _ => None,
    }
}

/// The common type of all; `None` where there is none. No types have the type of NULL.
pub fn common_type_of<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Option<DataType> {
    // Texts give way to whatever else there is, in whichever order they come.
    let (texts, others): (Vec<_>, Vec<_>) = types.into_iter().partition(|t| is_string(t));
    (others.into_iter().chain(texts)).try_fold(DataType::Null, |found, next| {
        common_type(&found, next)
    })
}

fn fields(left: &Fields, right: &Fields) -> Option<Fields> {
    (left.iter().zip(right))
        .map(|(a, b)| {
            let data_type = common_type(a.data_type(), b.data_type())?;
            let nullable = a.is_nullable() || b.is_nullable();
            Some(Field::new(a.name(), data_type, nullable))
        })
        .collect()
}

fn number(left: &DataType, right: &DataType) -> DataType {
    if left.is_integer() && right.is_integer() {
        let width = |t: &DataType| t.primitive_width().unwrap_or(0);
        return if width(left) >= width(right) { left } else { right }.clone();
    }
    match (precision_and_scale(left), precision_and_scale(right)) {
        (Some(left), Some(right)) => {
            let (precision, scale) = wider(left, right);
            DataType::Decimal128(precision, scale)
        }
        _ => DataType::Float64,
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_floating()
        || matches!(data_type, DataType::Decimal128(..))
}

fn is_string(data_type: &DataType) -> bool {
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
            (D::Null, D::Int32, Some(D::Int32)),
        ] {
            assert_eq!(common_type(&left, &right), expected, "{left} {right}");
            assert_eq!(common_type(&right, &left), expected, "{right} {left}");
        }
        let all = [D::Utf8, D::Int32, D::Decimal128(2, 1)];
        assert_eq!(common_type_of(&all), Some(D::Float64));
    }
}
