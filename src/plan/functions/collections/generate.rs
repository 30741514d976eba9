//! What generators make of a row, as an ARRAY with an element for each row of the result.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringBuilder, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::json::field_texts;

use super::arrays::check_length;
use super::lists::{Lists, Maps, Shape, fitted, joined};
use super::types::{element, entry, list_of};
use crate::plan::functions::define::{Call, Param, ResultType, function};

/// `__positions(array or map)`: a struct for each element or entry, with its place as `pos`.
pub const POSITIONS: &str = "__positions";
/// `__stack(n, ...)`: the values as `n` rows of structs.
pub const STACK: &str = "__stack";
/// `__json_tuple(json, name, ...)`: the members of these names as an array of one struct of texts.
pub const JSON_TUPLE: &str = "__json_tuple";
/// `__range(start, end, step)`: BIGINTs from the start to before the end.
pub const RANGE: &str = "__range";

/// The functions of this module; no user names them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        function(
            POSITIONS,
            &[Param::Any],
            positioned as ResultType,
            positions,
        )
        .udf(),
        function(STACK, &[Param::Any], stacked as ResultType, stack)
            .repeated()
            .coerced(|_, types| Ok(types.to_vec()))
            .udf(),
        function(
            JSON_TUPLE,
            &[Param::Text; 2],
            members as ResultType,
            json_tuple,
        )
        .repeated()
        .udf(),
        function(RANGE, &[Param::Long; 3], list_of(DataType::Int64), range).udf(),
    ]
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn positioned(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let mut fields = vec![Field::new("pos", DataType::Int32, true)];
    if let (DataType::Map(..), Some((key, value))) = (&types[0], entry(&types[0])) {
        fields.push(Field::new("key", key.clone(), true));
        fields.push(Field::new("value", value.clone(), true));
    } else {
        let element = element(&types[0]).cloned().unwrap_or(DataType::Null);
        fields.push(Field::new("col", element, true));
    }
    Ok(list_of(DataType::Struct(fields.into())))
}

fn positions(call: &Call) -> Result<ArrayRef> {
    let collection = call.array(0)?;
    let (columns, ranges): (Vec<ArrayRef>, Vec<_>) = if let DataType::Map(..) = collection.data_type() {
        let maps = Maps::new(&collection);
        let ranges = (0..call.rows()).map(|row| maps.get(row)).collect();
        (
            vec![Arc::clone(&maps.keys), Arc::clone(&maps.values)],
            ranges,
        )
    } else {
        let lists = Lists::new(&collection);
        let ranges = (0..call.rows()).map(|row| lists.get(row)).collect();
        (vec![Arc::clone(&lists.values)], ranges)
    };
    let Some(DataType::Struct(fields)) = element(call.returns()) else {
        return exec_err!("{POSITIONS} gives structs");
    };
    let (mut places, mut from) = (Vec::new(), Vec::new());
    let mut shape = Shape::new(call.rows());
    for range in ranges {
        let valid = range.is_some();
        for (place, element) in range.into_iter().flatten().enumerate() {
            places.push(place as i32);
            from.push(element as u32);
        }
        shape.end(places.len(), valid)?;
    }
    let from = UInt32Array::from(from);
    let mut all: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(places))];
    for column in &columns {
        all.push(take(column, &from, None)?);
    }
    let all = (all.iter().zip(fields))
        .map(|(column, field)| fitted(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let rows = StructArray::try_new(fields.clone(), all, None)?;
    shape.list(&(Arc::new(rows) as ArrayRef), call.returns())
}

fn stacked(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let rows = match constants.first() {
        Some(Some(ScalarValue::Int32(Some(rows)))) => i64::from(*rows),
        Some(Some(ScalarValue::Int64(Some(rows)))) => *rows,
        _ => {
            return plan_err!(
                "[DATATYPE_MISMATCH.NON_FOLDABLE_INPUT] the first argument of stack is the number of rows, a constant INT"
            );
        }
    };
    let Some(rows) = usize::try_from(rows).ok().filter(|rows| *rows > 0) else {
        return plan_err!(
            "[DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE] the first argument of stack is the number of rows, at least 1, not {rows}"
        );
    };
    let values = &types[1..];
    let width = values.len().div_ceil(rows);
    let mut columns = vec![DataType::Null; width];
    for (index, given) in values.iter().enumerate() {
        let column = &mut columns[index % width];
        if *column == DataType::Null {
            *column = given.clone();
        } else if *given != DataType::Null && !column.equals_datatype(given) {
            return super::types::different("STACK_COLUMN_DIFF_TYPES", "stack", column, given);
        }
    }
    let fields: Fields = (columns.into_iter().enumerate())
        .map(|(index, data_type)| Field::new(format!("col{index}"), data_type, true))
        .collect();
    Ok(list_of(DataType::Struct(fields)))
}

fn stack(call: &Call) -> Result<ArrayRef> {
    let Some(DataType::Struct(fields)) = element(call.returns()) else {
        return exec_err!("{STACK} gives structs");
    };
    let lines = match ScalarValue::try_from_array(&call.array(0)?, 0)? {
        ScalarValue::Int32(Some(lines)) => lines as usize,
        ScalarValue::Int64(Some(lines)) => lines as usize,
        other => return exec_err!("stack cannot make {other} rows"),
    };
    let (rows, width) = (call.rows(), fields.len());
    let mut shape = Shape::new(rows);
    for row in 1..=rows {
        shape.end(row * lines, true)?;
    }
    let columns = fields.iter().enumerate().map(|(column, field)| {
        // The values of this column, line by line; those that are missing are null.
        let values = (0..lines)
            .map(|line| match 1 + line * width + column {
                given if given < call.len() => fitted(&call.array(given)?, field.data_type()),
                _ => Ok(arrow::array::new_null_array(field.data_type(), rows)),
            })
            .collect::<Result<Vec<_>>>()?;
        let (values, _) = joined(&values.iter().collect::<Vec<_>>())?;
        let places =
            (0..rows).flat_map(|row| (0..lines).map(move |line| (line * rows + row) as u32));
        Ok(take(&values, &UInt32Array::from_iter_values(places), None)?)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let made = StructArray::try_new_with_length(fields.clone(), columns, None, rows * lines)?;
    shape.list(&(Arc::new(made) as ArrayRef), call.returns())
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn members(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let fields: Fields = (0..types.len() - 1)
        .map(|index| Field::new(format!("c{index}"), DataType::Utf8, true))
        .collect();
    Ok(list_of(DataType::Struct(fields)))
}

fn json_tuple(call: &Call) -> Result<ArrayRef> {
    let Some(DataType::Struct(fields)) = element(call.returns()) else {
        return exec_err!("{JSON_TUPLE} gives structs");
    };
    let documents = call.text(0);
    let names: Vec<_> = (1..call.len()).map(|index| call.text(index)).collect();
    let mut columns: Vec<StringBuilder> = names.iter().map(|_| StringBuilder::new()).collect();
    let mut shape = Shape::new(call.rows());
    for row in 0..call.rows() {
        let names: Vec<_> = names.iter().map(|name| name.get(row)).collect();
        let members = match documents.get(row) {
            Some(document) => field_texts(document, &names),
            None => vec![None; names.len()],
        };
        for (column, member) in columns.iter_mut().zip(members) {
            column.append_option(member);
        }
        shape.end(row + 1, true)?;
    }
    let columns = columns
        .iter_mut()
        .map(|column| Arc::new(column.finish()) as ArrayRef);
    let made = StructArray::try_new(fields.clone(), columns.collect(), None)?;
    shape.list(&(Arc::new(made) as ArrayRef), call.returns())
}

fn range(call: &Call) -> Result<ArrayRef> {
    let (starts, ends, steps) = (call.longs(0), call.longs(1), call.longs(2));
    let mut numbers: Vec<i64> = Vec::new();
    let mut shape = Shape::new(call.rows());
    for row in 0..call.rows() {
        let (Some(start), Some(end), Some(step)) = (starts.get(row), ends.get(row), steps.get(row))
        else {
            return exec_err!("the bounds of range must not be NULL");
        };
        if step == 0 {
            return exec_err!("the step of range must not be 0");
        }
        let distance = (i128::from(end) - i128::from(start)) / i128::from(step);
        check_length(
            "range",
            usize::try_from(distance.max(0)).unwrap_or(usize::MAX),
        )?;
        let mut next = Some(start);
        while let Some(number) = next.filter(|n| if step > 0 { *n < end } else { *n > end }) {
            numbers.push(number);
            next = number.checked_add(step);
        }
        shape.end(numbers.len(), true)?;
    }
    let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from(numbers));
    shape.list(&numbers, call.returns())
}
