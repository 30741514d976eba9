//! `a[i]`: an element of an array, counted from 0, or the value of a key of a map.
//!
//! An index outside the array is an error; a key that the map does not have gives NULL.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int32Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::plan::sql::type_name;

/// `__item(array or map, index or key)`.
pub fn item() -> Arc<ScalarUDF> {
    static ITEM: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        Arc::new(ScalarUDF::new_from_impl(Item {
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    });
    Arc::clone(&ITEM)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Item {
    signature: Signature,
}

impl ScalarUDFImpl for Item {
    fn name(&self) -> &'static str {
        "__item"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [list @ DataType::List(_), index] if index.is_integer() || index.is_null() => {
                Ok(vec![list.clone(), DataType::Int32])
            }
            [map @ DataType::Map(entries, _), _] => Ok(vec![map.clone(), key_and_value(entries.data_type())?.0]),
            [DataType::List(_), index] => plan_err!(
                "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] an index is a whole number, not {}; add a CAST",
                type_name(index)
            ),
            [other, _] => plan_err!(
                "[INVALID_EXTRACT_BASE_FIELD_TYPE] there is no element of {}: only ARRAY, MAP and STRUCT have any",
                type_name(other)
            ),
            _ => plan_err!("an element has one index or key"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::List(item) => Ok(item.data_type().clone()),
            DataType::Map(entries, _) => Ok(key_and_value(entries.data_type())?.1),
            other => plan_err!(
                "[INVALID_EXTRACT_BASE_FIELD_TYPE] there is no element of {}: only ARRAY, MAP and STRUCT have any",
                type_name(other)
            ),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = (args.args.iter()).all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let container = args.args[0].to_array(rows)?;
        let key = args.args[1].to_array(rows)?;
        let (values, places) = match container.data_type() {
            DataType::List(_) => elements(&container, key.as_primitive::<Int32Type>())?,
            DataType::Map(..) => entries(&container, &key)?,
            other => return internal_err!("no element of {}", type_name(other)),
        };
        let items = take(&values, &places, None)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&items, 0)?)
        } else {
            ColumnarValue::Array(items)
        })
    }
}

fn key_and_value(entries: &DataType) -> Result<(DataType, DataType)> {
    match entries {
        DataType::Struct(fields) if fields.len() == 2 => Ok((
            fields[0].data_type().clone(),
            fields[1].data_type().clone(),
        )),
        other => internal_err!("a map of {other}"),
    }
}

/// All elements, and for each row the place of the one that is asked for.
fn elements(lists: &ArrayRef, indices: &Int32Array) -> Result<(ArrayRef, UInt32Array)> {
    let lists = lists.as_list::<i32>();
    let offsets = lists.value_offsets();
    let places = (0..lists.len())
        .map(|row| {
            if lists.is_null(row) || indices.is_null(row) {
                return Ok(None);
            }
            let (index, length) = (indices.value(row), offsets[row + 1] - offsets[row]);
            if (0..length).contains(&index) {
                Ok(Some((offsets[row] + index).unsigned_abs()))
            } else {
                exec_err!(
                    "[INVALID_ARRAY_INDEX] index {index} is not in the array: it has {length} elements, counted from 0; use get(array, index) where NULL will do"
                )
            }
        })
        .collect::<Result<UInt32Array>>()?;
    Ok((Arc::clone(lists.values()), places))
}

/// All values, and for each row the place of the one whose key is asked for.
fn entries(maps: &ArrayRef, asked: &ArrayRef) -> Result<(ArrayRef, UInt32Array)> {
    let maps = maps.as_map();
    let asked = cast(asked, maps.key_type())?;
    let converter = RowConverter::new(vec![SortField::new(maps.key_type().clone())])?;
    let keys = converter.convert_columns(&[Arc::clone(maps.keys())])?;
    let wanted = converter.convert_columns(&[Arc::clone(&asked)])?;
    let offsets = maps.value_offsets();
    let places: UInt32Array = (0..maps.len())
        .map(|row| {
            if maps.is_null(row) || asked.is_null(row) {
                return None;
            }
            (offsets[row]..offsets[row + 1])
                .map(i32::unsigned_abs)
                .find(|place| keys.row(*place as usize) == wanted.row(row))
        })
        .collect();
    Ok((Arc::clone(maps.values()), places))
}
