//! Lambdas over the entries of maps.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::HigherOrderUDF;

use super::super::lists::{Gather, Maps, Shape, encoded, joined};
use super::super::types::{Widening, as_map, different, entry, map_of, widened};
use super::define::{Call, Elements, Function, condition};

/// The functions of this module.
pub fn functions() -> Vec<Arc<HigherOrderUDF>> {
    let of_entries = |name, coercion, returns, compute| Function {
        name,
        aliases: &[],
        values: 1,
        optional: 0,
        coercion,
        parameters: |values| {
            let (key, value) = parts(values[0]);
            vec![vec![key, value]]
        },
        returns,
        compute,
    };
    vec![
        of_entries(
            "map_filter",
            |types| Ok(vec![as_map("map_filter", 0, &types[0])?]),
            |values, results| {
                condition("map_filter", results[0])?;
                Ok(values[0].clone())
            },
            map_filter,
        )
        .udf(),
        of_entries(
            "transform_keys",
            |types| Ok(vec![as_map("transform_keys", 0, &types[0])?]),
            |values, results| Ok(map_of(results[0].clone(), parts(values[0]).1)),
            |call| transformed(call, true),
        )
        .udf(),
        of_entries(
            "transform_values",
            |types| Ok(vec![as_map("transform_values", 0, &types[0])?]),
            |values, results| Ok(map_of(parts(values[0]).0, results[0].clone())),
            |call| transformed(call, false),
        )
        .udf(),
        Function {
            name: "map_zip_with",
            aliases: &[],
            values: 2,
            optional: 0,
            coercion: two_maps,
            parameters: |values| {
                let ((key, one), (_, other)) = (parts(values[0]), parts(values[1]));
                vec![vec![key, one, other]]
            },
            returns: |values, results| Ok(map_of(parts(values[0]).0, results[0].clone())),
            compute: map_zip_with,
        }
        .udf(),
    ]
}

/// Key and value of a MAP.
fn parts(map: &DataType) -> (DataType, DataType) {
    match entry(map) {
        Some((key, value)) => (key.clone(), value.clone()),
        None => (DataType::Null, DataType::Null),
    }
}

/// Two maps with keys of one type.
fn two_maps(types: &[DataType]) -> Result<Vec<DataType>> {
    let maps = (types.iter().enumerate())
        .map(|(index, given)| as_map("map_zip_with", index, given))
        .collect::<Result<Vec<_>>>()?;
    let ((one, value), (other, other_value)) = (parts(&maps[0]), parts(&maps[1]));
    match widened(&one, &other, Widening::Tight) {
        Some(key) => Ok(vec![map_of(key.clone(), value), map_of(key, other_value)]),
        None => different(
            "MAP_ZIP_WITH_DIFF_TYPES",
            "map_zip_with",
            &types[0],
            &types[1],
        ),
    }
}

fn map_filter(call: &Call) -> Result<ArrayRef> {
    let maps = Maps::new(call.value(0));
    let entries = Elements::new(call.rows(), |row| maps.get(row));
    let arguments = [entries.of(&maps.keys)?, entries.of(&maps.values)?];
    let kept = call.test(0, &entries.rows, &arguments)?;
    let mut out = Gather::new(call.rows());
    for range in &entries.ranges {
        let Some(range) = range else {
            out.end_null()?;
            continue;
        };
        let kept = range
            .clone()
            .filter(|entry| kept.is_valid(*entry) && kept.value(*entry));
        kept.for_each(|entry| out.push(Some(entry)));
        out.end()?;
    }
    out.map(&arguments[0], &arguments[1], call.returns())
}

fn transformed(call: &Call, keys: bool) -> Result<ArrayRef> {
    let maps = Maps::new(call.value(0));
    let entries = Elements::new(call.rows(), |row| maps.get(row));
    let mut columns = [entries.of(&maps.keys)?, entries.of(&maps.values)?];
    let (key, value) = parts(call.returns());
    let changed = if keys { key } else { value };
    columns[usize::from(!keys)] = call.mapped(0, &entries.rows, &columns, &changed)?;
    let mut shape = Shape::new(call.rows());
    let mut count = 0;
    for range in &entries.ranges {
        count += range.as_ref().map_or(0, ExactSizeIterator::len);
        shape.end(count, range.is_some())?;
    }
    shape.map(&columns[0], &columns[1], call.returns())
}

fn map_zip_with(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (Maps::new(call.value(0)), Maps::new(call.value(1)));
    let (keys, starts) = joined(&[&left.keys, &right.keys])?;
    let bytes = encoded(&keys)?;
    let (mut from_keys, mut from_left, mut from_right) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows: Vec<u32> = Vec::new();
    let mut shape = Shape::new(call.rows());
    let mut others: HashMap<&[u8], usize> = HashMap::new();
    for row in 0..call.rows() {
        let (Some(first), Some(second)) = (left.get(row), right.get(row)) else {
            shape.end(rows.len(), false)?;
            continue;
        };
        others.clear();
        others.extend(
            second
                .clone()
                .map(|entry| (bytes.get(starts[1] + entry), entry)),
        );
        for entry in first {
            let other = others.remove(bytes.get(entry));
            from_keys.push(entry as u32);
            from_left.push(Some(entry as u32));
            from_right.push(other.map(|other| other as u32));
        }
        // What only the second map has, in its order.
        for entry in second.filter(|e| others.contains_key(bytes.get(starts[1] + e))) {
            from_keys.push((starts[1] + entry) as u32);
            from_left.push(None);
            from_right.push(Some(entry as u32));
        }
        rows.resize(from_keys.len(), row as u32);
        shape.end(rows.len(), true)?;
    }
    let keys = take(&keys, &UInt32Array::from(from_keys), None)?;
    let arguments = [
        Arc::clone(&keys),
        take(&left.values, &UInt32Array::from(from_left), None)?,
        take(&right.values, &UInt32Array::from(from_right), None)?,
    ];
    let values = call.mapped(0, &rows.into(), &arguments, &parts(call.returns()).1)?;
    shape.map(&keys, &values, call.returns())
}
