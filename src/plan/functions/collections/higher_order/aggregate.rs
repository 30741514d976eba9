//! `aggregate(array, start, (acc, x) -> ..[, acc -> ..])`, also called `reduce`.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::HigherOrderUDF;

use super::super::lists::{Lists, fitted};
use super::super::types::as_list;
use super::arrays::element_of;
use super::define::{Call, Function};
use crate::plan::sql::type_name;

/// The function.
pub fn aggregate() -> Arc<HigherOrderUDF> {
    Function {
        name: "aggregate",
        aliases: &["reduce"],
        values: 2,
        optional: 1,
        coercion: |types| Ok(vec![as_list("aggregate", 0, &types[0])?, types[1].clone()]),
        parameters: |values| {
            let start = values[1].clone();
            vec![vec![start.clone(), element_of(values[0])], vec![start]]
        },
        returns,
        compute,
    }
    .udf()
}

/// While a query is planned whole numbers may be wider than they will be; the call looks again.
fn returns(values: &[&DataType], results: &[&DataType]) -> Result<DataType> {
    if !alike(results[0], values[1]) {
        return plan_err!("{}", mismatch(results[0], values[1]));
    }
    Ok(results
        .get(1)
        .map_or(values[1], |finished| finished)
        .clone())
}

/// Whether the types are the same but for the widths of whole numbers.
fn alike(one: &DataType, other: &DataType) -> bool {
    match (one, other) {
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len()
                && (a.iter().zip(b)).all(|(a, b)| alike(a.data_type(), b.data_type()))
        }
        (DataType::Map(a, _), DataType::Map(b, _)) | (DataType::List(a), DataType::List(b)) => {
            alike(a.data_type(), b.data_type())
        }
        _ => one.is_integer() && other.is_integer() || one.equals_datatype(other),
    }
}

fn mismatch(result: &DataType, start: &DataType) -> String {
    format!(
        "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] the lambda of aggregate gives {} where the start is {}; CAST the start to the type of the result",
        type_name(result),
        type_name(start)
    )
}

/// Takes the first elements of all rows, then the second ones, and so on. Rows are ordered by the
/// length of their arrays, so that those which still have elements are always in front.
fn compute(call: &Call) -> Result<ArrayRef> {
    let lists = Lists::new(call.value(0));
    let length = |row: u32| lists.get(row as usize).map_or(0, |range| range.len());
    let mut order: Vec<u32> = (0..call.rows() as u32).collect();
    order.sort_by_key(|row| Reverse(length(*row)));
    let start_type = call.value(1).data_type();
    let mut state = take(call.value(1), &UInt32Array::from(order.clone()), None)?;
    // The states of rows that are through, those with the longest arrays last.
    let mut done: Vec<ArrayRef> = Vec::new();
    let longest = order.first().map_or(0, |row| length(*row));
    for place in 0..longest {
        let open = order.partition_point(|row| length(*row) > place);
        if open < state.len() {
            done.push(state.slice(open, state.len() - open));
            state = state.slice(0, open);
        }
        let rows = &order[..open];
        let elements = rows.iter().filter_map(|row| lists.get(*row as usize));
        let elements: UInt32Array = elements.map(|range| (range.start + place) as u32).collect();
        let arguments = [state, take(&lists.values, &elements, None)?];
        let rows = UInt32Array::from(rows.to_vec());
        let next = call.mapped(0, &rows, &arguments, start_type)?;
        if !next.data_type().equals_datatype(start_type) {
            return exec_err!("{}", mismatch(next.data_type(), start_type));
        }
        state = fitted(&next, start_type)?;
    }
    done.push(state);
    let parts: Vec<&dyn Array> = done.iter().rev().map(|part| &**part).collect();
    let states = concat(&parts)?;
    // Back into the order of the rows; a null array gives null.
    let mut places: Vec<Option<u32>> = vec![None; call.rows()];
    for (place, row) in order.iter().enumerate() {
        places[*row as usize] = lists.get(*row as usize).map(|_| place as u32);
    }
    let places = UInt32Array::from(places);
    if call.lambdas() == 1 {
        return fitted(&take(&states, &places, None)?, call.returns());
    }
    let rows: UInt32Array = (0..call.rows() as u32)
        .filter(|row| places.is_valid(*row as usize))
        .collect();
    let present: UInt32Array = places.iter().flatten().collect();
    let finished = call.mapped(1, &rows, &[take(&states, &present, None)?], call.returns())?;
    let mut next = 0..;
    let places: UInt32Array = places
        .iter()
        .map(|place| place.and_then(|_| next.next()))
        .collect();
    fitted(&take(&finished, &places, None)?, call.returns())
}
