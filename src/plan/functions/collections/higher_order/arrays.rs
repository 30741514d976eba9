//! Lambdas over the elements of arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBuilder, Int32Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::HigherOrderUDF;

use super::super::lists::{Gather, Lists, Shape};
use super::super::types::{as_list, element, list_of};
use super::define::{Call, Elements, Function, condition};

/// The functions of this module.
pub fn functions() -> Vec<Arc<HigherOrderUDF>> {
    let quantifier = |name, coercion, returns, compute| Function {
        name,
        aliases: &[],
        values: 1,
        optional: 0,
        coercion,
        parameters: |values| vec![vec![element_of(values[0])]],
        returns,
        compute,
    };
    vec![
        Function {
            name: "transform",
            aliases: &[],
            values: 1,
            optional: 0,
            coercion: |types| Ok(vec![as_list("transform", 0, &types[0])?]),
            parameters: |values| vec![vec![element_of(values[0]), DataType::Int32]],
            returns: |_, results| Ok(list_of(results[0].clone())),
            compute: transform,
        }
        .udf(),
        Function {
            name: "filter",
            aliases: &[],
            values: 1,
            optional: 0,
            coercion: |types| Ok(vec![as_list("filter", 0, &types[0])?]),
            parameters: |values| vec![vec![element_of(values[0]), DataType::Int32]],
            returns: |values, results| {
                condition("filter", results[0])?;
                Ok(values[0].clone())
            },
            compute: filter,
        }
        .udf(),
        quantifier(
            "exists",
            |types| Ok(vec![as_list("exists", 0, &types[0])?]),
            |_, results| condition("exists", results[0]).map(|()| DataType::Boolean),
            |call| decided(call, true),
        )
        .udf(),
        quantifier(
            "forall",
            |types| Ok(vec![as_list("forall", 0, &types[0])?]),
            |_, results| condition("forall", results[0]).map(|()| DataType::Boolean),
            |call| decided(call, false),
        )
        .udf(),
        Function {
            name: "zip_with",
            aliases: &[],
            values: 2,
            optional: 0,
            coercion: |types| {
                let list = |index: usize| as_list("zip_with", index, &types[index]);
                Ok(vec![list(0)?, list(1)?])
            },
            parameters: |values| vec![vec![element_of(values[0]), element_of(values[1])]],
            returns: |_, results| Ok(list_of(results[0].clone())),
            compute: zip_with,
        }
        .udf(),
    ]
}

/// The elements of an ARRAY.
pub(super) fn element_of(list: &DataType) -> DataType {
    element(list).cloned().unwrap_or(DataType::Null)
}

/// The elements of the first argument, and the place of each in its array, from 0.
fn indexed(call: &Call) -> Result<(Lists, Elements, Vec<ArrayRef>)> {
    let lists = Lists::new(call.value(0));
    let elements = Elements::new(call.rows(), |row| lists.get(row));
    let ranges = elements.ranges.iter().flatten();
    let places = ranges.flat_map(|range| 0..range.len() as i32);
    let places: ArrayRef = Arc::new(Int32Array::from_iter_values(places));
    let arguments = vec![elements.of(&lists.values)?, places];
    Ok((lists, elements, arguments))
}

/// The rows' shape with as many elements as before.
fn shape_of(elements: &Elements) -> Result<Shape> {
    let mut shape = Shape::new(elements.ranges.len());
    let mut count = 0;
    for range in &elements.ranges {
        count += range.as_ref().map_or(0, ExactSizeIterator::len);
        shape.end(count, range.is_some())?;
    }
    Ok(shape)
}

fn transform(call: &Call) -> Result<ArrayRef> {
    let (_, elements, arguments) = indexed(call)?;
    let result = call.mapped(0, &elements.rows, &arguments, &element_of(call.returns()))?;
    shape_of(&elements)?.list(&result, call.returns())
}

fn filter(call: &Call) -> Result<ArrayRef> {
    let (lists, elements, arguments) = indexed(call)?;
    let kept = call.test(0, &elements.rows, &arguments)?;
    let mut out = Gather::new(call.rows());
    for range in &elements.ranges {
        let Some(range) = range else {
            out.end_null()?;
            continue;
        };
        for element in range.clone().filter(|element| is_true(&kept, *element)) {
            out.push(Some(elements.places.value(element) as usize));
        }
        out.end()?;
    }
    out.list(&lists.values, call.returns())
}

fn is_true(condition: &BooleanArray, element: usize) -> bool {
    condition.is_valid(element) && condition.value(element)
}

/// `exists` is decided by one element that is `true`, `forall` by one that is `false`; else a null
/// among them leaves it open.
fn decided(call: &Call, by: bool) -> Result<ArrayRef> {
    let (_, elements, arguments) = indexed(call)?;
    let results = call.test(0, &elements.rows, &arguments[..1])?;
    let mut out = BooleanBuilder::with_capacity(call.rows());
    for range in &elements.ranges {
        out.append_option(range.clone().and_then(|mut range| {
            let open = range.clone().any(|element| results.is_null(element));
            let decided =
                range.any(|element| results.is_valid(element) && results.value(element) == by);
            match (decided, open) {
                (true, _) => Some(by),
                (false, true) => None,
                (false, false) => Some(!by),
            }
        }));
    }
    Ok(Arc::new(out.finish()))
}

fn zip_with(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (Lists::new(call.value(0)), Lists::new(call.value(1)));
    let (mut from_left, mut from_right, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut shape = Shape::new(call.rows());
    for row in 0..call.rows() {
        let (Some(first), Some(second)) = (left.get(row), right.get(row)) else {
            shape.end(rows.len(), false)?;
            continue;
        };
        let length = first.len().max(second.len());
        // The shorter one is filled up with nulls.
        let filled = |range: std::ops::Range<usize>| {
            let short = length - range.len();
            let places = range.map(|place| Some(place as u32));
            places.chain(std::iter::repeat_n(None, short))
        };
        from_left.extend(filled(first));
        from_right.extend(filled(second));
        rows.extend(std::iter::repeat_n(row as u32, length));
        shape.end(rows.len(), true)?;
    }
    let arguments = [
        take(&left.values, &UInt32Array::from(from_left), None)?,
        take(&right.values, &UInt32Array::from(from_right), None)?,
    ];
    let result = call.mapped(0, &rows.into(), &arguments, &element_of(call.returns()))?;
    shape.list(&result, call.returns())
}
