//! Types of arrays and maps, and the one type that two others have in common.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, plan_err};

pub(super) use crate::plan::functions::define::unexpected;
use crate::plan::sql::type_name;

/// ARRAY of these elements.
pub(super) fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// The elements of an ARRAY; VOID has VOID elements. `None` for all else.
pub(super) fn element(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Null => Some(data_type),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => Some(field.data_type()),
        _ => None,
    }
}

/// The type as an ARRAY, which it must be: argument `index` of `name`.
pub(super) fn as_list(name: &str, index: usize, given: &DataType) -> Result<DataType> {
    match (given, element(given)) {
        (DataType::List(_), _) => Ok(given.clone()),
        (_, Some(element)) => Ok(list_of(element.clone())),
        (_, None) => unexpected(name, index, "an ARRAY", given),
    }
}

/// MAP of these keys and values.
pub(super) fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", key, false),
        Field::new("value", value, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entries), false);
    DataType::Map(Arc::new(entries), false)
}

/// Key and value of a MAP; those of VOID are VOID. `None` for all else.
pub(super) fn entry(data_type: &DataType) -> Option<(&DataType, &DataType)> {
    match data_type {
        DataType::Null => Some((data_type, data_type)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                Some((fields[0].data_type(), fields[1].data_type()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The type as a MAP, which it must be: argument `index` of `name`.
pub(super) fn as_map(name: &str, index: usize, given: &DataType) -> Result<DataType> {
    match entry(given) {
        Some((key, value)) => Ok(map_of(key.clone(), value.clone())),
        None => unexpected(name, index, "a MAP", given),
    }
}

/// Arguments whose types do not go together.
pub(super) fn different<T>(class: &str, name: &str, one: &DataType, other: &DataType) -> Result<T> {
    plan_err!(
        "[DATATYPE_MISMATCH.{class}] the arguments of {name} are {} and {}, which do not go together; add a CAST",
        type_name(one),
        type_name(other)
    )
}

/// Refuses types without an order or equality of their own: a MAP, and all that holds one.
pub(super) fn comparable(name: &str, data_type: &DataType) -> Result<()> {
    if holds_map(data_type) {
        return plan_err!(
            "[DATATYPE_MISMATCH.INVALID_ORDERING_TYPE] {name} cannot compare {}: maps have no order; compare map_entries(..) instead",
            type_name(data_type)
        );
    }
    Ok(())
}

/// Whether a MAP is in it, at whatever depth.
pub fn holds_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) => true,
        DataType::Struct(fields) => fields.iter().any(|f| holds_map(f.data_type())),
        other => match element(other) {
            Some(DataType::Null) | None => false,
            Some(element) => holds_map(element),
        },
    }
}

/// How far two types may be widened to a common one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Widening {
    /// Nothing of a value may be lost.
    Tight,
    /// Also to a DECIMAL or DOUBLE that holds both.
    Numbers,
    /// Also a STRING to the number, date or truth value beside it, as in ANSI mode.
    Strings,
}

/// The type that values of both can be cast to, Spark's rules.
pub(super) fn common(one: &DataType, other: &DataType, how: Widening) -> Option<DataType> {
    use DataType::{Date32, Map, Null, Struct, Timestamp};
    if one.equals_datatype(other) {
        return Some(one.clone());
    }
    match (one, other) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (Date32, Timestamp(..)) => Some(other.clone()),
        (Timestamp(..), Date32) => Some(one.clone()),
        (Timestamp(_, a), Timestamp(_, b)) => Some(
            if a.is_some() || b.is_none() {
                one
            } else {
                other
            }
            .clone(),
        ),
        (Struct(a), Struct(b)) if a.len() == b.len() => {
            let fields = a.iter().zip(b).map(|(a, b)| common_field(a, b, how));
            Some(Struct(fields.collect::<Option<Vec<_>>>()?.into()))
        }
        (Map(..), Map(..)) => {
            let ((key, value), (other_key, other_value)) = (entry(one)?, entry(other)?);
            Some(map_of(
                common(key, other_key, how)?,
                common(value, other_value, how)?,
            ))
        }
        _ if one.is_numeric() && other.is_numeric() => number(one, other, how),
        _ if is_text(one) && is_text(other) => Some(DataType::Utf8),
        _ if is_text(one) || is_text(other) => {
            let typed = if is_text(one) { other } else { one };
            (how == Widening::Strings).then(|| beside_text(typed))?
        }
        _ => {
            let element = common(element(one)?, element(other)?, how)?;
            Some(list_of(element))
        }
    }
}

fn common_field(one: &FieldRef, other: &FieldRef, how: Widening) -> Option<FieldRef> {
    if !one.name().eq_ignore_ascii_case(other.name()) {
        return None;
    }
    let data_type = common(one.data_type(), other.data_type(), how)?;
    Some(Arc::new(Field::new(one.name(), data_type, true)))
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// What a STRING is cast to beside a value of this type.
fn beside_text(typed: &DataType) -> Option<DataType> {
    match typed {
        _ if typed.is_integer() => Some(DataType::Int64),
        _ if typed.is_numeric() => Some(DataType::Float64),
        DataType::Boolean | DataType::Date32 | DataType::Timestamp(..) | DataType::Binary => {
            Some(typed.clone())
        }
        _ => None,
    }
}

/// The digits before and after the point of a whole or decimal number.
fn digits(data_type: &DataType) -> Option<(u8, i8)> {
    Some(match data_type {
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (20, 0),
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        _ => return None,
    })
}

fn number(one: &DataType, other: &DataType, how: Widening) -> Option<DataType> {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64};
    let decimal = |t: &DataType| matches!(t, Decimal128(..));
    if decimal(one) || decimal(other) {
        let (Some((p1, s1)), Some((p2, s2))) = (digits(one), digits(other)) else {
            return (how != Widening::Tight).then_some(Float64);
        };
        if how == Widening::Tight {
            // Only a whole number that the decimal has room for.
            let fits = |p: u8, s: i8, whole: &DataType| {
                digits(whole).is_some_and(|(d, _)| i16::from(p) - i16::from(s) >= i16::from(d))
            };
            return match (decimal(one), decimal(other)) {
                (true, false) => fits(p1, s1, other).then(|| one.clone()),
                (false, true) => fits(p2, s2, one).then(|| other.clone()),
                _ => None,
            };
        }
        let scale = s1.max(s2);
        let whole = (i16::from(p1) - i16::from(s1)).max(i16::from(p2) - i16::from(s2));
        let precision = u8::try_from(whole + i16::from(scale)).ok()?.min(38);
        // Where 38 digits are not enough those before the point go first.
        let scale = scale.min(i8::try_from(38 - whole.min(38)).ok()?);
        return Some(Decimal128(precision, scale));
    }
    [Int8, Int16, Int32, Int64, Float32, Float64]
        .into_iter()
        .rfind(|t| t == one || t == other)
}
