//! Types of arrays and maps.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, plan_err};

pub(super) use crate::plan::functions::common_type::{Widening, is_text, widened};
pub(super) use crate::plan::functions::define::unexpected;
use crate::plan::sql::type_name;

/// ARRAY of these elements.
pub(in crate::plan::functions) fn list_of(element: DataType) -> DataType {
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
pub(in crate::plan::functions) fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", key, false),
        Field::new("value", value, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entries), false);
    DataType::Map(Arc::new(entries), false)
}

/// Key and value of a MAP; those of VOID are VOID. `None` for all else.
pub(in crate::plan::functions) fn entry(data_type: &DataType) -> Option<(&DataType, &DataType)> {
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
