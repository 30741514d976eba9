//! Making maps and reading them. A key is never null and comes once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, StringBuilder, StructArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;
use regex::Regex;

use super::elements::found_keys;
use super::lists::{Gather, Lists, Maps, Shape, entries_type, fitted, is_null, joined};
use super::types::{
    Widening, as_list, as_map, comparable, different, element, entry, list_of, map_of, unexpected,
    widened,
};
use crate::plan::functions::define::{Call, Param, ResultType, function};

/// The functions of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        function("map", &[Param::Any], made_type as ResultType, map)
            .also(&["__map"])
            .optional(1)
            .repeated()
            .coerced(|_, types| made_types(types))
            .udf(),
        function(
            "map_from_arrays",
            &[Param::Any; 2],
            zipped_type as ResultType,
            map_from_arrays,
        )
        .coerced(|_, types| {
            let keys = as_list("map_from_arrays", 0, &types[0])?;
            key_type("map_from_arrays", element(&keys).unwrap_or(&DataType::Null))?;
            Ok(vec![keys, as_list("map_from_arrays", 1, &types[1])?])
        })
        .udf(),
        function(
            "map_from_entries",
            &[Param::Any],
            entries_map as ResultType,
            map_from_entries,
        )
        .coerced(|_, types| pairs_types(types))
        .udf(),
        function(
            "map_concat",
            &[Param::Any],
            map_parts as ResultType,
            map_concat,
        )
        .optional(1)
        .repeated()
        .coerced(|_, types| concat_types(types))
        .udf(),
        function(
            "map_contains_key",
            &[Param::Any; 2],
            DataType::Boolean,
            map_contains_key,
        )
        .coerced(|_, types| contains_types(types))
        .udf(),
        function(
            "map_entries",
            &[Param::Any],
            listed_entries as ResultType,
            map_entries,
        )
        .coerced(|_, types| Ok(vec![as_map("map_entries", 0, &types[0])?]))
        .udf(),
        function("map_keys", &[Param::Any], key_list as ResultType, |call| {
            parts(call, true)
        })
        .coerced(|_, types| Ok(vec![as_map("map_keys", 0, &types[0])?]))
        .udf(),
        function(
            "map_values",
            &[Param::Any],
            value_list as ResultType,
            |call| parts(call, false),
        )
        .coerced(|_, types| Ok(vec![as_map("map_values", 0, &types[0])?]))
        .udf(),
        function(
            "str_to_map",
            &[Param::Text; 3],
            map_of(DataType::Utf8, DataType::Utf8),
            str_to_map,
        )
        .optional(2)
        .udf(),
    ]
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn made_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let part = |index: usize| types.get(index).cloned().unwrap_or(DataType::Null);
    Ok(map_of(part(0), part(1)))
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn zipped_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let part = |index: usize| element(&types[index]).cloned().unwrap_or(DataType::Null);
    Ok(map_of(part(0), part(1)))
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn entries_map(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match element(&types[0]) {
        Some(DataType::Struct(fields)) if fields.len() == 2 => {
            map_of(fields[0].data_type().clone(), fields[1].data_type().clone())
        }
        _ => DataType::Null,
    })
}

/// `map_concat()` of nothing is a map of strings.
#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn map_parts(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let empty = || map_of(DataType::Utf8, DataType::Utf8);
    Ok(types.first().cloned().unwrap_or_else(empty))
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn listed_entries(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(entries_type(&types[0]))
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn key_list(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let key = entry(&types[0]).map_or(DataType::Null, |(key, _)| key.clone());
    Ok(list_of(key))
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn value_list(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let value = entry(&types[0]).map_or(DataType::Null, |(_, value)| value.clone());
    Ok(list_of(value))
}

/// Refuses keys that hold a MAP.
fn key_type(name: &str, key: &DataType) -> Result<()> {
    if super::types::holds_map(key) {
        return plan_err!(
            "[DATATYPE_MISMATCH.INVALID_MAP_KEY_TYPE] a key of {name} must not be or hold a MAP"
        );
    }
    Ok(())
}

/// Keys and values in turn, each of one type.
fn made_types(types: &[DataType]) -> Result<Vec<DataType>> {
    if !types.len().is_multiple_of(2) {
        return plan_err!(
            "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] map takes keys and values in turn, an even number of arguments, not {}",
            types.len()
        );
    }
    let mut both = [DataType::Null, DataType::Null];
    for (index, given) in types.iter().enumerate() {
        let part = &mut both[index % 2];
        let class = ["CREATE_MAP_KEY_DIFF_TYPES", "CREATE_MAP_VALUE_DIFF_TYPES"][index % 2];
        *part = match widened(part, given, Widening::Texts) {
            Some(wider) => wider,
            None => return different(class, "map", part, given),
        };
    }
    key_type("map", &both[0])?;
    Ok(types
        .iter()
        .enumerate()
        .map(|(index, _)| both[index % 2].clone())
        .collect())
}

fn pairs_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match element(&types[0]) {
        Some(DataType::Struct(fields)) if fields.len() == 2 => {
            key_type("map_from_entries", fields[0].data_type())?;
            Ok(vec![as_list("map_from_entries", 0, &types[0])?])
        }
        _ => unexpected(
            "map_from_entries",
            0,
            "an ARRAY of STRUCTs with two fields",
            &types[0],
        ),
    }
}

fn concat_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let mut all = DataType::Null;
    for (index, given) in types.iter().enumerate() {
        let map = as_map("map_concat", index, given)?;
        all = match widened(&all, &map, Widening::Texts) {
            Some(wider) => wider,
            None => return different("MAP_CONCAT_DIFF_TYPES", "map_concat", &all, given),
        };
    }
    Ok(vec![all; types.len()])
}

fn contains_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let Some((key, value)) = entry(&types[0]) else {
        return unexpected("map_contains_key", 0, "a MAP", &types[0]);
    };
    if types.contains(&DataType::Null) {
        return plan_err!(
            "[DATATYPE_MISMATCH.NULL_TYPE] map_contains_key takes no bare NULL; CAST it to the type that is meant"
        );
    }
    comparable("map_contains_key", key)?;
    match widened(key, &types[1], Widening::Numbers) {
        Some(key) => Ok(vec![map_of(key.clone(), value.clone()), key]),
        None => different(
            "MAP_FUNCTION_DIFF_TYPES",
            "map_contains_key",
            &types[0],
            &types[1],
        ),
    }
}

fn map(call: &Call) -> Result<ArrayRef> {
    let columns = (0..call.len())
        .map(|i| call.array(i))
        .collect::<Result<Vec<_>>>()?;
    let pairs = columns.len() / 2;
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        for pair in 0..pairs {
            out.push(Some(pair * call.rows() + row));
        }
        out.end()?;
    }
    if pairs == 0 {
        let nothing = arrow::array::new_empty_array(&DataType::Null);
        return out.map(&nothing, &nothing, call.returns());
    }
    let (keys, _) = joined(&columns.iter().step_by(2).collect::<Vec<_>>())?;
    let (values, _) = joined(&columns.iter().skip(1).step_by(2).collect::<Vec<_>>())?;
    out.map(&keys, &values, call.returns())
}

fn map_from_arrays(call: &Call) -> Result<ArrayRef> {
    let (keys, values) = (Lists::new(&call.array(0)?), Lists::new(&call.array(1)?));
    let (mut from_keys, mut from_values) = (Vec::new(), Vec::new());
    let mut shape = Shape::new(call.rows());
    for row in 0..call.rows() {
        let (Some(own_keys), Some(own_values)) = (keys.get(row), values.get(row)) else {
            shape.end(from_keys.len(), false)?;
            continue;
        };
        if own_keys.len() != own_values.len() {
            return exec_err!(
                "map_from_arrays has {} keys and {} values; both arrays must have the same length",
                own_keys.len(),
                own_values.len()
            );
        }
        from_keys.extend(own_keys.map(|key| key as u32));
        from_values.extend(own_values.map(|value| value as u32));
        shape.end(from_keys.len(), true)?;
    }
    let taken = |values: &ArrayRef, places: Vec<u32>| {
        arrow::compute::take(values, &arrow::array::UInt32Array::from(places), None)
    };
    let keys = taken(&keys.values, from_keys)?;
    shape.map(&keys, &taken(&values.values, from_values)?, call.returns())
}

fn map_from_entries(call: &Call) -> Result<ArrayRef> {
    let lists = Lists::new(&call.array(0)?);
    let pairs: &StructArray = lists.values.as_struct();
    let null = is_null(&lists.values);
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        // An entry that is null makes the whole map null.
        match lists.get(row).filter(|range| !range.clone().any(&null)) {
            Some(range) => {
                out.extend(range);
                out.end()?;
            }
            None => out.end_null()?,
        }
    }
    out.map(pairs.column(0), pairs.column(1), call.returns())
}

fn map_concat(call: &Call) -> Result<ArrayRef> {
    let maps = (0..call.len())
        .map(|i| Ok(Maps::new(&call.array(i)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut out = Gather::new(call.rows());
    if maps.is_empty() {
        (0..call.rows()).try_for_each(|_| out.end())?;
        let nothing = arrow::array::new_empty_array(&DataType::Utf8);
        return out.map(&nothing, &nothing, call.returns());
    }
    let (keys, starts) = joined(&maps.iter().map(|m| &m.keys).collect::<Vec<_>>())?;
    let (values, _) = joined(&maps.iter().map(|m| &m.values).collect::<Vec<_>>())?;
    for row in 0..call.rows() {
        if maps.iter().any(|map| map.get(row).is_none()) {
            out.end_null()?;
            continue;
        }
        for (map, start) in maps.iter().zip(&starts) {
            let range = map.get(row).unwrap_or_default();
            out.extend(range.start + start..range.end + start);
        }
        out.end()?;
    }
    out.map(&keys, &values, call.returns())
}

fn map_contains_key(call: &Call) -> Result<ArrayRef> {
    let (maps, wanted) = (Maps::new(&call.array(0)?), call.array(1)?);
    let found = found_keys(call, &maps)?;
    call.truths(|row| {
        let known = maps.get(row).is_some() && wanted.is_valid(row);
        Ok(known.then(|| found[row].is_some()))
    })
}

fn map_entries(call: &Call) -> Result<ArrayRef> {
    let map = call.array(0)?;
    let map: &MapArray = map.as_map();
    let entries: ArrayRef = Arc::new(map.entries().clone());
    as_rows(map, &entries, call.returns())
}

fn parts(call: &Call, keys: bool) -> Result<ArrayRef> {
    let map = call.array(0)?;
    let map: &MapArray = map.as_map();
    let part = if keys { map.keys() } else { map.values() };
    as_rows(map, part, call.returns())
}

/// A list for each map, of what `elements` has at its entries.
fn as_rows(map: &MapArray, elements: &ArrayRef, returns: &DataType) -> Result<ArrayRef> {
    let DataType::List(field) = returns else {
        return exec_err!("an ARRAY was computed where {returns} is wanted");
    };
    let elements = fitted(elements, field.data_type())?;
    let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
    let list = arrow::array::ListArray::try_new(Arc::clone(field), offsets, elements, nulls)?;
    Ok(Arc::new(list))
}

/// A pattern that is compiled again only where it changes from one row to the next.
#[derive(Default)]
struct Pattern {
    text: String,
    compiled: Option<Regex>,
}

impl Pattern {
    fn compile(&mut self, text: &str) -> Result<&Regex> {
        if self.text != text || self.compiled.is_none() {
            let compiled = Regex::new(text).map_err(|error| {
                exec_datafusion_err!(
                    "[INVALID_PARAMETER_VALUE.PATTERN] '{text}' is no pattern for str_to_map: {error}"
                )
            })?;
            self.compiled = Some(compiled);
            text.clone_into(&mut self.text);
        }
        if let Some(compiled) = &self.compiled {
            Ok(compiled)
        } else {
            exec_err!("no pattern")
        }
    }
}

fn str_to_map(call: &Call) -> Result<ArrayRef> {
    let texts = call.text(0);
    let delimiter = |index: usize| (call.len() > index).then(|| call.text(index));
    let (pairs, values) = (delimiter(1), delimiter(2));
    let (mut keys_out, mut values_out) = (StringBuilder::new(), StringBuilder::new());
    let (mut pair_pattern, mut value_pattern) = (Pattern::default(), Pattern::default());
    let mut shape = Shape::new(call.rows());
    let mut count = 0;
    for row in 0..call.rows() {
        let pair = pairs.as_ref().map_or(Some(","), |column| column.get(row));
        let value = values.as_ref().map_or(Some(":"), |column| column.get(row));
        let (Some(text), Some(pair), Some(value)) = (texts.get(row), pair, value) else {
            shape.end(count, false)?;
            continue;
        };
        let value = value_pattern.compile(value)?;
        for entry in pair_pattern.compile(pair)?.split(text) {
            let mut parts = value.splitn(entry, 2);
            keys_out.append_value(parts.next().unwrap_or_default());
            values_out.append_option(parts.next());
            count += 1;
        }
        shape.end(count, true)?;
    }
    let keys: ArrayRef = Arc::new(keys_out.finish());
    let values: ArrayRef = Arc::new(values_out.finish());
    shape.map(&keys, &values, call.returns())
}
