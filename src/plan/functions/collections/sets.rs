//! Arrays as sets: each element once, in the order of first appearance.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;

use super::arrays::{each_list, first_type};
use super::lists::{Gather, Lists, encoded, is_null, joined};
use super::types::{Widening, as_list, comparable, different, element, list_of, widened};
use crate::plan::functions::define::{Call, Param, ResultType, function};

/// The functions of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let first = first_type as ResultType;
    vec![
        function("array_distinct", &[Param::Any], first, array_distinct)
            .coerced(|_, types| {
                comparable("array_distinct", &types[0])?;
                Ok(vec![as_list("array_distinct", 0, &types[0])?])
            })
            .udf(),
        function("array_union", &[Param::Any; 2], first, |call| {
            combined(call, &UNION)
        })
        .coerced(|_, types| two_lists("array_union", types))
        .udf(),
        function("array_intersect", &[Param::Any; 2], first, |call| {
            combined(call, &INTERSECT)
        })
        .coerced(|_, types| two_lists("array_intersect", types))
        .udf(),
        function("array_except", &[Param::Any; 2], first, |call| {
            combined(call, &EXCEPT)
        })
        .coerced(|_, types| two_lists("array_except", types))
        .udf(),
        function(
            "arrays_overlap",
            &[Param::Any; 2],
            DataType::Boolean,
            arrays_overlap,
        )
        .coerced(|_, types| two_lists("arrays_overlap", types))
        .udf(),
    ]
}

/// Two arrays of the same elements.
fn two_lists(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let void = types.contains(&DataType::Null);
    let elements = element(&types[0]).zip(element(&types[1])).filter(|_| !void);
    let Some(element) = elements.and_then(|(a, b)| widened(a, b, Widening::Tight)) else {
        return different("BINARY_ARRAY_DIFF_TYPES", name, &types[0], &types[1]);
    };
    comparable(name, &element)?;
    Ok(vec![list_of(element); 2])
}

fn array_distinct(call: &Call) -> Result<ArrayRef> {
    let lists = Lists::new(&call.array(0)?);
    let keys = encoded(&lists.values)?;
    let mut seen = HashSet::new();
    each_list(call, &lists, |range, out| {
        seen.clear();
        let fresh = range.filter(|element| seen.insert(keys.get(*element)));
        fresh.for_each(|element| out.push(Some(element)));
        Ok(())
    })
}

/// What a set operation takes.
struct Operation {
    /// Of the first array, the elements that are in the second (`true`) or not (`false`).
    first: Option<bool>,
    /// Whether it takes the elements of the second.
    second: bool,
}

const UNION: Operation = Operation {
    first: None,
    second: true,
};
const INTERSECT: Operation = Operation {
    first: Some(true),
    second: false,
};
const EXCEPT: Operation = Operation {
    first: Some(false),
    second: false,
};

fn combined(call: &Call, operation: &Operation) -> Result<ArrayRef> {
    let (left, right) = (Lists::new(&call.array(0)?), Lists::new(&call.array(1)?));
    let (values, starts) = joined(&[&left.values, &right.values])?;
    let keys = encoded(&values)?;
    let mut out = Gather::new(call.rows());
    let (mut seen, mut others) = (HashSet::new(), HashSet::new());
    for row in 0..call.rows() {
        let (Some(first), Some(second)) = (left.get(row), right.get(row)) else {
            out.end_null()?;
            continue;
        };
        let second = second.start + starts[1]..second.end + starts[1];
        seen.clear();
        others.clear();
        if operation.first.is_some() {
            others.extend(second.clone().map(|element| keys.get(element)));
        }
        for element in first {
            let key = keys.get(element);
            let taken = operation
                .first
                .is_none_or(|wanted| others.contains(key) == wanted);
            if taken && seen.insert(key) {
                out.push(Some(element));
            }
        }
        if operation.second {
            let fresh = second.filter(|element| seen.insert(keys.get(*element)));
            fresh.for_each(|element| out.push(Some(element)));
        }
        out.end()?;
    }
    out.list(&values, call.returns())
}

fn arrays_overlap(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (Lists::new(&call.array(0)?), Lists::new(&call.array(1)?));
    let (values, starts) = joined(&[&left.values, &right.values])?;
    let (keys, null) = (encoded(&values)?, is_null(&values));
    let mut others = HashSet::new();
    call.truths(|row| {
        let (Some(first), Some(second)) = (left.get(row), right.get(row)) else {
            return Ok(None);
        };
        let second = second.start + starts[1]..second.end + starts[1];
        let unknown = !first.is_empty()
            && !second.is_empty()
            && (first.clone().any(&null) || second.clone().any(&null));
        others.clear();
        others.extend(
            second
                .filter(|element| !null(*element))
                .map(|element| keys.get(element)),
        );
        let met = first
            .filter(|element| !null(*element))
            .any(|element| others.contains(keys.get(element)));
        Ok((met || !unknown).then_some(met))
    })
}
