//! Finding and taking elements of arrays, and values of maps.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::arrays::{first_type, zero_index};
use super::lists::{Lists, Maps, encoded, is_null, joined};
use super::types::{
    Widening, as_list, as_map, comparable, different, element, entry, list_of, map_of, unexpected,
    widened,
};
use crate::plan::functions::define::{Call, Param, ResultType, function};

/// The functions of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let of_element = element_type as ResultType;
    vec![
        function("element_at", &[Param::Any; 2], of_element, |call| {
            element_at(call, true)
        })
        .coerced(|_, types| place_types("element_at", types))
        .udf(),
        function("try_element_at", &[Param::Any; 2], of_element, |call| {
            element_at(call, false)
        })
        .coerced(|_, types| place_types("try_element_at", types))
        .udf(),
        function("get", &[Param::Any; 2], of_element, get)
            .coerced(|_, types| Ok(vec![as_list("get", 0, &types[0])?, DataType::Int32]))
            .udf(),
        function("size", &[Param::Any], DataType::Int32, size)
            .also(&["cardinality"])
            .coerced(|_, types| {
                let collection =
                    as_list("size", 0, &types[0]).or_else(|_| as_map("size", 0, &types[0]));
                match collection {
                    Ok(collection) => Ok(vec![collection]),
                    Err(_) => unexpected("size", 0, "an ARRAY or a MAP", &types[0]),
                }
            })
            .udf(),
        function("array_size", &[Param::Any], DataType::Int32, size)
            .coerced(|_, types| Ok(vec![as_list("array_size", 0, &types[0])?]))
            .udf(),
        function("array_max", &[Param::Any], of_element, |call| {
            extreme(call, true)
        })
        .coerced(|_, types| ordered_list("array_max", types))
        .udf(),
        function("array_min", &[Param::Any], of_element, |call| {
            extreme(call, false)
        })
        .coerced(|_, types| ordered_list("array_min", types))
        .udf(),
        function(
            "sort_array",
            &[Param::Any; 2],
            first_type as ResultType,
            sort_array,
        )
        .optional(1)
        .coerced(|_, types| {
            let mut wanted = ordered_list("sort_array", &types[..1])?;
            wanted.resize(types.len(), DataType::Boolean);
            Ok(wanted)
        })
        .udf(),
        function(
            "array_contains",
            &[Param::Any; 2],
            DataType::Boolean,
            array_contains,
        )
        .coerced(|_, types| sought("array_contains", types))
        .udf(),
        function(
            "array_position",
            &[Param::Any; 2],
            DataType::Int64,
            array_position,
        )
        .coerced(|_, types| sought("array_position", types))
        .udf(),
        function(
            "array_remove",
            &[Param::Any; 2],
            first_type as ResultType,
            array_remove,
        )
        .coerced(|_, types| sought("array_remove", types))
        .udf(),
    ]
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn element_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let value = || entry(&types[0]).map(|(_, value)| value);
    Ok(element(&types[0])
        .or_else(value)
        .cloned()
        .unwrap_or(DataType::Null))
}

/// An ARRAY whose elements can be compared.
fn ordered_list(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    comparable(name, &types[0])?;
    Ok(vec![as_list(name, 0, &types[0])?])
}

/// An ARRAY and what is looked for in it.
fn sought(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let Some(own) = element(&types[0]) else {
        return unexpected(name, 0, "an ARRAY", &types[0]);
    };
    comparable(name, own)?;
    if types.contains(&DataType::Null) {
        return plan_err!(
            "[DATATYPE_MISMATCH.NULL_TYPE] {name} takes no bare NULL; CAST it to the type that is meant"
        );
    }
    match widened(own, &types[1], Widening::Numbers) {
        Some(element) => Ok(vec![list_of(element.clone()), element]),
        None => different("ARRAY_FUNCTION_DIFF_TYPES", name, &types[0], &types[1]),
    }
}

/// An ARRAY and an index, or a MAP and a key.
fn place_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if let (DataType::Map(..), Some((key, value))) = (&types[0], entry(&types[0])) {
        return match widened(key, &types[1], Widening::Numbers) {
            Some(key) => Ok(vec![map_of(key.clone(), value.clone()), key]),
            None => different("MAP_FUNCTION_DIFF_TYPES", name, &types[0], &types[1]),
        };
    }
    let whole = matches!(
        types[1],
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64
    );
    match element(&types[0]) {
        Some(_) if whole => Ok(vec![as_list(name, 0, &types[0])?, DataType::Int32]),
        Some(_) => unexpected(name, 1, "an INT", &types[1]),
        None => unexpected(name, 0, "an ARRAY or a MAP", &types[0]),
    }
}

/// The values at these places, null where there is none.
fn taken(values: &ArrayRef, places: Vec<Option<u32>>) -> Result<ArrayRef> {
    Ok(take(values, &UInt32Array::from(places), None)?)
}

fn element_at(call: &Call, strict: bool) -> Result<ArrayRef> {
    let collection = call.array(0)?;
    if matches!(collection.data_type(), DataType::Map(..)) {
        let maps = Maps::new(&collection);
        return taken(&maps.values, found_keys(call, &maps)?);
    }
    let (lists, indices) = (Lists::new(&collection), call.ints(1));
    let mut places = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let (Some(range), Some(index)) = (lists.get(row), indices.get(row)) else {
            places.push(None);
            continue;
        };
        let distance = index.unsigned_abs() as usize;
        let place = match index {
            0 => return zero_index(),
            _ if distance > range.len() => None,
            1.. => Some(range.start + distance - 1),
            _ => Some(range.end - distance),
        };
        if place.is_none() && strict {
            return exec_err!(
                "[INVALID_ARRAY_INDEX_IN_ELEMENT_AT] the index {index} is outside the array, which has {} elements; use try_element_at where NULL will do",
                range.len()
            );
        }
        places.push(place.map(|place| place as u32));
    }
    taken(&lists.values, places)
}

/// For each row the place of the entry whose key is the second argument.
pub(super) fn found_keys(call: &Call, maps: &Maps) -> Result<Vec<Option<u32>>> {
    let wanted = call.array(1)?;
    let (keys, starts) = joined(&[&maps.keys, &wanted])?;
    let keys = encoded(&keys)?;
    let found = (0..call.rows()).map(|row| {
        let wanted = keys.get(starts[1] + row);
        let place = maps.get(row)?.find(|key| keys.get(*key) == wanted)?;
        Some(place as u32)
    });
    Ok(found.collect())
}

fn get(call: &Call) -> Result<ArrayRef> {
    let (lists, indices) = (Lists::new(&call.array(0)?), call.ints(1));
    let places = (0..call.rows()).map(|row| {
        let range = lists.get(row)?;
        let index = usize::try_from(indices.get(row)?).ok()?;
        (index < range.len()).then(|| (range.start + index) as u32)
    });
    taken(&lists.values, places.collect())
}

fn size(call: &Call) -> Result<ArrayRef> {
    let collection = call.array(0)?;
    let length = |range: Option<std::ops::Range<usize>>| Ok(range.map(|range| range.len() as i32));
    if matches!(collection.data_type(), DataType::Map(..)) {
        let maps = Maps::new(&collection);
        return call.values::<Int32Type>(|row| length(maps.get(row)));
    }
    let lists = Lists::new(&collection);
    call.values::<Int32Type>(|row| length(lists.get(row)))
}

fn extreme(call: &Call, greatest: bool) -> Result<ArrayRef> {
    let lists = Lists::new(&call.array(0)?);
    let (keys, null) = (encoded(&lists.values)?, is_null(&lists.values));
    let places = (0..call.rows()).map(|row| {
        let present = lists.get(row)?.filter(|element| !null(*element));
        let key = |element: &usize| keys.get(*element);
        let place = if greatest {
            present.rev().max_by_key(key)
        } else {
            present.min_by_key(key)
        };
        place.map(|place| place as u32)
    });
    taken(&lists.values, places.collect())
}

fn sort_array(call: &Call) -> Result<ArrayRef> {
    let lists = Lists::new(&call.array(0)?);
    let keys = encoded(&lists.values)?;
    let ascending = (call.len() > 1).then(|| call.boolean(1));
    let mut out = super::lists::Gather::new(call.rows());
    let mut order: Vec<usize> = Vec::new();
    for row in 0..call.rows() {
        let ascending = ascending
            .as_ref()
            .map_or(Some(true), |column| column.get(row));
        let (Some(range), Some(ascending)) = (lists.get(row), ascending) else {
            out.end_null()?;
            continue;
        };
        order.clear();
        order.extend(range);
        if ascending {
            order.sort_by_key(|element| keys.get(*element));
        } else {
            order.sort_by_key(|element| Reverse(keys.get(*element)));
        }
        order.iter().for_each(|element| out.push(Some(*element)));
        out.end()?;
    }
    out.list(&lists.values, call.returns())
}

/// An array and what is looked for in it, ready to be compared.
struct Search {
    lists: Lists,
    wanted: ArrayRef,
    keys: crate::row::Bytes,
    start: usize,
}

impl Search {
    fn new(call: &Call) -> Result<Self> {
        let (lists, wanted) = (Lists::new(&call.array(0)?), call.array(1)?);
        let (all, starts) = joined(&[&lists.values, &wanted])?;
        Ok(Self {
            lists,
            wanted,
            keys: encoded(&all)?,
            start: starts[1],
        })
    }

    /// Whether an element is the one that the row looks for.
    fn meets(&self, row: usize, element: usize) -> bool {
        self.keys.get(element) == self.keys.get(self.start + row)
    }

    /// The row's elements; `None` where the array or what is looked for is null.
    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        self.lists.get(row).filter(|_| self.wanted.is_valid(row))
    }
}

fn array_contains(call: &Call) -> Result<ArrayRef> {
    let search = Search::new(call)?;
    let null = is_null(&search.lists.values);
    call.truths(|row| {
        let Some(mut range) = search.range(row) else {
            return Ok(None);
        };
        let unknown = range.clone().any(&null);
        let found = range.any(|element| search.meets(row, element));
        Ok((found || !unknown).then_some(found))
    })
}

fn array_position(call: &Call) -> Result<ArrayRef> {
    let search = Search::new(call)?;
    call.values::<Int64Type>(|row| {
        let Some(mut range) = search.range(row) else {
            return Ok(None);
        };
        let place = range.position(|element| search.meets(row, element));
        Ok(Some(place.map_or(0, |place| place as i64 + 1)))
    })
}

fn array_remove(call: &Call) -> Result<ArrayRef> {
    let search = Search::new(call)?;
    let mut out = super::lists::Gather::new(call.rows());
    for row in 0..call.rows() {
        match search.range(row) {
            Some(range) => {
                let kept = range.filter(|element| !search.meets(row, *element));
                kept.for_each(|element| out.push(Some(element)));
                out.end()?;
            }
            None => out.end_null()?,
        }
    }
    out.list(&search.lists.values, call.returns())
}
