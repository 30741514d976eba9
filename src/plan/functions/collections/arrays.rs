//! Making arrays, and making others of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::lists::{Gather, Lists, Shape, fitted, is_null, joined};
use super::types::{Widening, as_list, different, element, is_text, list_of, unexpected, widened};
use crate::plan::functions::define::{Call, Param, ResultType, function};

/// The functions of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let first = first_type as ResultType;
    vec![
        function("array", &[Param::Any], array_type as ResultType, array)
            .also(&["make_array"])
            .optional(1)
            .repeated()
            .coerced(|_, types| all_alike(types))
            .udf(),
        function(
            "array_repeat",
            &[Param::Any; 2],
            array_type as ResultType,
            array_repeat,
        )
        .coerced(|_, types| Ok(vec![types[0].clone(), DataType::Int32]))
        .udf(),
        function("array_append", &[Param::Any; 2], first, |call| {
            with_element(call, false)
        })
        .coerced(|_, types| list_and_element("array_append", types))
        .udf(),
        function("array_prepend", &[Param::Any; 2], first, |call| {
            with_element(call, true)
        })
        .coerced(|_, types| list_and_element("array_prepend", types))
        .udf(),
        function("array_insert", &[Param::Any; 3], first, array_insert)
            .coerced(|_, types| insert_types(types))
            .udf(),
        function("array_compact", &[Param::Any], first, array_compact)
            .coerced(|_, types| Ok(vec![as_list("array_compact", 0, &types[0])?]))
            .udf(),
        function("slice", &[Param::Any; 3], first, slice)
            .coerced(|_, types| {
                let list = as_list("slice", 0, &types[0])?;
                Ok(vec![list, DataType::Int32, DataType::Int32])
            })
            .udf(),
        function("flatten", &[Param::Any], flat_type as ResultType, flatten)
            .coerced(|_, types| {
                match element(&types[0])
                    .filter(|e| **e != DataType::Null)
                    .and_then(element)
                {
                    Some(inner) => Ok(vec![list_of(list_of(inner.clone()))]),
                    None => unexpected("flatten", 0, "an ARRAY of ARRAYs", &types[0]),
                }
            })
            .udf(),
        function("concat", &[Param::Any], joined_type as ResultType, concat)
            .optional(1)
            .repeated()
            .coerced(|_, types| concat_types(types))
            .udf(),
        function("reverse", &[Param::Any], first, reverse)
            .coerced(|_, types| {
                Ok(vec![match element(&types[0]) {
                    Some(element) if types[0] != DataType::Null => list_of(element.clone()),
                    _ => DataType::Utf8,
                }])
            })
            .udf(),
        function(
            "arrays_zip",
            &[Param::Any],
            zipped_type as ResultType,
            arrays_zip,
        )
        .optional(1)
        .repeated()
        .coerced(|_, types| {
            let lists = types.iter().enumerate();
            lists
                .map(|(index, given)| as_list("arrays_zip", index, given))
                .collect()
        })
        .udf(),
        function("array_join", &[Param::Any; 3], DataType::Utf8, array_join)
            .optional(1)
            .coerced(|_, types| join_types(types))
            .udf(),
    ]
}

/// The result has the type of the first argument.
#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
pub(super) fn first_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(types[0].clone())
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn array_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(list_of(types.first().cloned().unwrap_or(DataType::Null)))
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn flat_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(element(&types[0]).cloned().unwrap_or(DataType::Null))
}

/// All arguments as one type.
pub(super) fn all_alike(types: &[DataType]) -> Result<Vec<DataType>> {
    let Some(first) = types.first() else {
        return Ok(vec![]);
    };
    let mut all = first.clone();
    for other in &types[1..] {
        all = match widened(&all, other, Widening::Texts) {
            Some(wider) => wider,
            None => return different("DATA_DIFF_TYPES", "the call", &all, other),
        };
    }
    Ok(vec![all; types.len()])
}

/// An ARRAY and one of its elements.
fn list_and_element(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let Some(own) = element(&types[0]).filter(|_| types[0] != DataType::Null) else {
        return unexpected(name, 0, "an ARRAY", &types[0]);
    };
    match widened(own, &types[1], Widening::Tight) {
        Some(element) => Ok(vec![list_of(element.clone()), element]),
        None => different("ARRAY_FUNCTION_DIFF_TYPES", name, &types[0], &types[1]),
    }
}

fn insert_types(types: &[DataType]) -> Result<Vec<DataType>> {
    if !types[1].is_integer() {
        return unexpected("array_insert", 1, "an INT", &types[1]);
    }
    let mut both = list_and_element("array_insert", &[types[0].clone(), types[2].clone()])?;
    both.insert(1, DataType::Int32);
    Ok(both)
}

fn join_types(types: &[DataType]) -> Result<Vec<DataType>> {
    if element(&types[0]).is_none() {
        return unexpected("array_join", 0, "an ARRAY<STRING>", &types[0]);
    }
    let mut wanted = vec![list_of(DataType::Utf8)];
    wanted.resize(types.len(), DataType::Utf8);
    Ok(wanted)
}

fn array(call: &Call) -> Result<ArrayRef> {
    let columns = (0..call.len())
        .map(|i| call.array(i))
        .collect::<Result<Vec<_>>>()?;
    let mut lists = Gather::new(call.rows());
    for row in 0..call.rows() {
        for column in 0..columns.len() {
            lists.push(Some(column * call.rows() + row));
        }
        lists.end()?;
    }
    let values = match columns.len() {
        0 => arrow::array::new_empty_array(&DataType::Null),
        _ => joined(&columns.iter().collect::<Vec<_>>())?.0,
    };
    lists.list(&values, call.returns())
}

/// How many elements an array may have, as in Spark.
const MOST_ELEMENTS: usize = 2_147_483_632;

/// The error of an array that would be too long.
pub(super) fn check_length(name: &str, length: usize) -> Result<()> {
    if length > MOST_ELEMENTS {
        return exec_err!(
            "[COLLECTION_SIZE_LIMIT_EXCEEDED.FUNCTION] {name} would make an array of {length} elements; the limit is {MOST_ELEMENTS}"
        );
    }
    Ok(())
}

fn array_repeat(call: &Call) -> Result<ArrayRef> {
    let (values, times) = (call.array(0)?, call.ints(1));
    let mut lists = Gather::new(call.rows());
    for row in 0..call.rows() {
        let Some(times) = times.get(row) else {
            lists.end_null()?;
            continue;
        };
        check_length("array_repeat", usize::try_from(times).unwrap_or(0))?;
        for _ in 0..times {
            lists.push(Some(row));
        }
        lists.end()?;
    }
    lists.list(&values, call.returns())
}

fn with_element(call: &Call, first: bool) -> Result<ArrayRef> {
    let (lists, added) = (Lists::new(&call.array(0)?), call.array(1)?);
    let (values, starts) = joined(&[&lists.values, &added])?;
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        let Some(range) = lists.get(row) else {
            out.end_null()?;
            continue;
        };
        let added = Some(starts[1] + row);
        if first {
            out.push(added);
        }
        out.extend(range);
        if !first {
            out.push(added);
        }
        out.end()?;
    }
    out.list(&values, call.returns())
}

fn array_insert(call: &Call) -> Result<ArrayRef> {
    let (lists, places, added) = (Lists::new(&call.array(0)?), call.ints(1), call.array(2)?);
    let (values, starts) = joined(&[&lists.values, &added])?;
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        let (Some(range), Some(place)) = (lists.get(row), places.get(row)) else {
            out.end_null()?;
            continue;
        };
        let (length, distance) = (range.len(), place.unsigned_abs() as usize);
        check_length("array_insert", distance.max(length + 1))?;
        let added = Some(starts[1] + row);
        match place {
            0 => return zero_index(),
            // Counted from the front; what lies between is null.
            1.. => {
                let before = length.min(distance - 1);
                out.extend(range.start..range.start + before);
                (before..distance - 1).for_each(|_| out.push(None));
                out.push(added);
                out.extend(range.start + before..range.end);
            }
            // -1 is behind the last.
            _ => {
                let behind = length.min(distance - 1);
                out.extend(range.start..range.end - behind);
                if distance > length + 1 {
                    out.push(added);
                    (length + 1..distance).for_each(|_| out.push(None));
                } else {
                    out.push(added);
                }
                out.extend(range.end - behind..range.end);
            }
        }
        out.end()?;
    }
    out.list(&values, call.returns())
}

/// The error of the index 0 where arrays are counted from 1.
pub(super) fn zero_index<T>() -> Result<T> {
    exec_err!(
        "[INVALID_INDEX_OF_ZERO] the index is 0; the first element has the index 1, the last -1"
    )
}

fn array_compact(call: &Call) -> Result<ArrayRef> {
    let lists = Lists::new(&call.array(0)?);
    let null = is_null(&lists.values);
    each_list(call, &lists, |range, out| {
        range
            .filter(|element| !null(*element))
            .for_each(|element| out.push(Some(element)));
        Ok(())
    })
}

/// Lists of the elements that `take` chooses of each list; null stays null.
pub(super) fn each_list(
    call: &Call,
    lists: &Lists,
    mut take: impl FnMut(std::ops::Range<usize>, &mut Gather) -> Result<()>,
) -> Result<ArrayRef> {
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        match lists.get(row) {
            Some(range) => {
                take(range, &mut out)?;
                out.end()?;
            }
            None => out.end_null()?,
        }
    }
    out.list(&lists.values, call.returns())
}

fn slice(call: &Call) -> Result<ArrayRef> {
    let (lists, starts, lengths) = (Lists::new(&call.array(0)?), call.ints(1), call.ints(2));
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        let (Some(range), Some(start), Some(length)) =
            (lists.get(row), starts.get(row), lengths.get(row))
        else {
            out.end_null()?;
            continue;
        };
        let Ok(length) = usize::try_from(length) else {
            return exec_err!(
                "[INVALID_PARAMETER_VALUE.LENGTH] the length of slice is {length}; it must not be negative"
            );
        };
        let distance = start.unsigned_abs() as usize;
        let first = match start {
            0 => {
                return exec_err!(
                    "[INVALID_PARAMETER_VALUE.START] slice starts at 0; the first element has the index 1, the last -1"
                );
            }
            1.. => Some(distance - 1).filter(|first| *first < range.len()),
            _ => range.len().checked_sub(distance),
        };
        if let Some(first) = first {
            let from = range.start + first;
            out.extend(from..range.end.min(from.saturating_add(length)));
        }
        out.end()?;
    }
    out.list(&lists.values, call.returns())
}

fn flatten(call: &Call) -> Result<ArrayRef> {
    let outer = Lists::new(&call.array(0)?);
    let inner = Lists::new(&outer.values);
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        let ranges: Option<Vec<_>> = outer
            .get(row)
            .and_then(|range| range.map(|list| inner.get(list)).collect());
        match ranges {
            Some(ranges) => {
                ranges.into_iter().for_each(|range| out.extend(range));
                out.end()?;
            }
            None => out.end_null()?,
        }
    }
    out.list(&inner.values, call.returns())
}

/// Arrays of one type, or else texts, or binaries where there is nothing but those.
fn concat_types(types: &[DataType]) -> Result<Vec<DataType>> {
    if types
        .iter()
        .any(|given| *given != DataType::Null && element(given).is_some())
    {
        return all_alike(types);
    }
    let all = match types {
        [DataType::Binary, rest @ ..] if rest.iter().all(|t| *t == DataType::Binary) => {
            DataType::Binary
        }
        _ => DataType::Utf8,
    };
    Ok(vec![all; types.len()])
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn joined_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(types.first().cloned().unwrap_or(DataType::Utf8))
}

/// Null as soon as one part is null.
fn concat(call: &Call) -> Result<ArrayRef> {
    match call.returns() {
        DataType::Utf8 => {
            let parts: Vec<_> = (0..call.len()).map(|index| call.text(index)).collect();
            call.texts(|row, out| {
                Ok(parts
                    .iter()
                    .try_for_each(|part| part.get(row).map(|text| out.push_str(text))))
            })
        }
        DataType::Binary => {
            let parts: Vec<_> = (0..call.len()).map(|index| call.bytes(index)).collect();
            call.binaries(|row, out| {
                let mut add = |bytes: &[u8]| out.extend_from_slice(bytes);
                Ok(parts
                    .iter()
                    .try_for_each(|part| part.get(row).map(&mut add)))
            })
        }
        _ => concat_arrays(call),
    }
}

fn concat_arrays(call: &Call) -> Result<ArrayRef> {
    let lists = (0..call.len())
        .map(|i| Ok(Lists::new(&call.array(i)?)))
        .collect::<Result<Vec<_>>>()?;
    let (values, starts) = joined(&lists.iter().map(|l| &l.values).collect::<Vec<_>>())?;
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        if lists.iter().any(|list| list.get(row).is_none()) {
            out.end_null()?;
            continue;
        }
        for (list, start) in lists.iter().zip(&starts) {
            let range = list.get(row).unwrap_or_default();
            out.extend(range.start + start..range.end + start);
        }
        out.end()?;
    }
    out.list(&values, call.returns())
}

fn reverse(call: &Call) -> Result<ArrayRef> {
    if is_text(call.data_type(0)) {
        let text = call.text(0);
        return call.texts(|row, out| Ok(text.get(row).map(|text| out.extend(text.chars().rev()))));
    }
    let lists = Lists::new(&call.array(0)?);
    each_list(call, &lists, |range, out| {
        range.rev().for_each(|element| out.push(Some(element)));
        Ok(())
    })
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn zipped_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let fields: Fields = types
        .iter()
        .enumerate()
        .map(|(index, list)| {
            let element = element(list).cloned().unwrap_or(DataType::Null);
            Field::new(index.to_string(), element, true)
        })
        .collect();
    Ok(list_of(DataType::Struct(fields)))
}

fn arrays_zip(call: &Call) -> Result<ArrayRef> {
    let lists = (0..call.len())
        .map(|i| Ok(Lists::new(&call.array(i)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut shape = Shape::new(call.rows());
    let mut indices: Vec<Vec<Option<u32>>> = vec![Vec::new(); lists.len()];
    let mut count = 0;
    for row in 0..call.rows() {
        let ranges: Option<Vec<_>> = lists.iter().map(|list| list.get(row)).collect();
        let Some(ranges) = ranges else {
            shape.end(count, false)?;
            continue;
        };
        let length = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        for (range, indices) in ranges.into_iter().zip(&mut indices) {
            let short = length - range.len();
            indices.extend(range.map(|element| Some(element as u32)));
            indices.extend(std::iter::repeat_n(None, short));
        }
        count += length;
        shape.end(count, true)?;
    }
    let Some(DataType::Struct(fields)) = element(call.returns()) else {
        return plan_err!("arrays_zip gives an ARRAY of STRUCTs");
    };
    let columns = (lists.iter().zip(indices).zip(fields))
        .map(|((list, indices), field)| {
            let column = take(&list.values, &UInt32Array::from(indices), None)?;
            fitted(&column, field.data_type())
        })
        .collect::<Result<Vec<_>>>()?;
    let zipped = StructArray::try_new_with_length(fields.clone(), columns, None, count)?;
    shape.list(&(Arc::new(zipped) as ArrayRef), call.returns())
}

fn array_join(call: &Call) -> Result<ArrayRef> {
    let lists = Lists::new(&call.array(0)?);
    let delimiter = call.text(1);
    let replacement = (call.len() > 2).then(|| call.text(2));
    let (null, format) = (is_null(&lists.values), FormatOptions::new());
    let shown = ArrayFormatter::try_new(&lists.values, &format)?;
    call.texts(|row, out| {
        let (Some(range), Some(delimiter)) = (lists.get(row), delimiter.get(row)) else {
            return Ok(None);
        };
        let replacement = match &replacement {
            Some(replacement) => match replacement.get(row) {
                Some(text) => Some(text),
                None => return Ok(None),
            },
            None => None,
        };
        let mut first = true;
        for element in range {
            if null(element) && replacement.is_none() {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push_str(delimiter);
            }
            match replacement.filter(|_| null(element)) {
                Some(replacement) => out.push_str(replacement),
                None => shown.value(element).write(out)?,
            }
        }
        Ok(Some(()))
    })
}
