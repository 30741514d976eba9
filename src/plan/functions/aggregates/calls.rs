//! Calls as the planner meets them: Spark says some things in arguments that are clauses elsewhere.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment};
use datafusion::logical_expr::planner::RawAggregateExpr;
use datafusion::logical_expr::{Expr, lit, when};

use super::{function_of, is_ordered};
use crate::plan::AggregateFunction as Function;

/// Functions that may be written `f(..) WITHIN GROUP (ORDER BY x)`.
pub(super) fn is_within_group(name: &str) -> bool {
    matches!(
        name,
        "listagg" | "string_agg" | "percentile_cont" | "percentile_disc" | "mode"
    )
}

/// The call in the form that plans hold; as it is where it is no call of ours.
pub fn planned(call: RawAggregateExpr) -> Result<Result<Expr, RawAggregateExpr>> {
    let Some(function) = function_of(&call.func) else {
        return Ok(Err(call));
    };
    let RawAggregateExpr {
        mut func,
        mut args,
        mut distinct,
        filter,
        mut order_by,
        mut null_treatment,
    } = call;
    let name = func.name().to_owned();
    match name.as_str() {
        "count_if" => {
            let [condition] = args.as_slice() else {
                return wrong_number(&name, 1, args.len());
            };
            args = vec![when(condition.clone(), lit(true)).end()?];
            func = count_udaf();
        }
        "regr_count" => {
            if args.len() != 2 {
                return wrong_number(&name, 2, args.len());
            }
            func = count_udaf();
        }
        // The value to order by was put in front of what is listed.
        "listagg" | "string_agg" if !order_by.is_empty() => {
            args.remove(0);
            if distinct && args.first() != order_by.first().map(|by| &by.expr) {
                return plan_err!(
                    "[INVALID_WITHIN_GROUP_EXPRESSION.MISMATCH_WITH_DISTINCT_INPUT] {name}(DISTINCT ...) can only be ordered by what it lists"
                );
            }
        }
        "percentile_cont" | "percentile_disc" if order_by.is_empty() => {
            return plan_err!(
                "[INVALID_WITHIN_GROUP_EXPRESSION.WITHIN_GROUP_MISSING] {name} needs WITHIN GROUP (ORDER BY ...)"
            );
        }
        "first" | "first_value" | "last" | "last_value" | "any_value" if args.len() == 2 => {
            match args.pop() {
                Some(Expr::Literal(ScalarValue::Boolean(Some(ignore)), _)) => {
                    null_treatment = ignore.then_some(NullTreatment::IgnoreNulls);
                }
                _ => {
                    return plan_err!(
                        "[DATATYPE_MISMATCH.NON_FOLDABLE_INPUT] the second argument of {name} says whether to ignore nulls: TRUE or FALSE"
                    );
                }
            }
        }
        // `deterministic`: of several the least; it always is.
        "mode" if args.len() == 2 => {
            args.pop();
        }
        _ => {}
    }
    if matches!(
        function,
        Function::Percentile | Function::PercentileDisc | Function::ApproxPercentile
    ) {
        check_shares(&name, args.get(1))?;
    }
    match function {
        Function::TopK => check_top_k(&name, &args)?,
        Function::CountMinSketch => check_sketch(&name, &args)?,
        _ => {}
    }
    // Once or several times: the same value.
    if matches!(
        function,
        Function::First
            | Function::Last
            | Function::MinBy
            | Function::MaxBy
            | Function::CollectSet
            | Function::CollectUnion
            | Function::BitmapOf
            | Function::BitmapAnd
            | Function::BitmapOr
    ) {
        distinct = false;
    }
    if !is_ordered(function) && !is_within_group(&name) {
        order_by.clear();
    }
    let params = AggregateFunctionParams {
        args,
        distinct,
        filter,
        order_by,
        null_treatment,
    };
    Ok(Ok(Expr::AggregateFunction(AggregateFunction {
        func,
        params,
    })))
}

fn wrong_number<T>(name: &str, wanted: usize, given: usize) -> Result<T> {
    plan_err!("[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {name} takes {wanted} arguments, not {given}")
}

/// The greatest number of items that Spark tracks.
const MOST_ITEMS: i64 = 1_000_000;

/// How many values, and how many of them Spark would track at a time: here all are counted.
fn check_top_k(name: &str, args: &[Expr]) -> Result<()> {
    let mut numbers = vec![];
    for arg in args.iter().skip(1) {
        match constant(arg) {
            Some(value) if value.is_null() => {
                return plan_err!("[APPROX_TOP_K_NULL_ARG] the numbers of {name} must not be NULL");
            }
            Some(value) => match value.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(Some(number)) if number > 0 => numbers.push(number),
                _ => {
                    return plan_err!(
                        "[APPROX_TOP_K_NON_POSITIVE_ARG] the numbers of {name} must be 1 or more, not {value}"
                    );
                }
            },
            None => {
                return plan_err!(
                    "[DATATYPE_MISMATCH.TYPE_CHECK_FAILURE_WITH_HINT] the numbers of {name} must be constants"
                );
            }
        }
    }
    match numbers[..] {
        [_, most] if most > MOST_ITEMS => plan_err!(
            "[APPROX_TOP_K_MAX_ITEMS_TRACKED_EXCEEDS_LIMIT] {name} tracks at most {MOST_ITEMS} items, not {most}"
        ),
        [k, most] if most < k => plan_err!(
            "[APPROX_TOP_K_MAX_ITEMS_TRACKED_LESS_THAN_K] {name} cannot give {k} items of {most} that it tracks"
        ),
        _ => Ok(()),
    }
}

/// The error, the confidence and the seed of a sketch.
fn check_sketch(name: &str, args: &[Expr]) -> Result<()> {
    for (index, arg) in args.iter().enumerate().skip(1) {
        let class = match constant(arg) {
            None => "NON_FOLDABLE_INPUT",
            Some(value) if value.is_null() => "UNEXPECTED_NULL",
            Some(ScalarValue::Float64(Some(share))) if index < 3 => {
                // An error may be 1 and more, a confidence may not.
                if share > 0.0 && (index == 1 || share < 1.0) {
                    continue;
                }
                "VALUE_OUT_OF_RANGE"
            }
            Some(ScalarValue::Int32(_) | ScalarValue::Int64(_)) if index == 3 => continue,
            Some(_) => "UNEXPECTED_INPUT_TYPE",
        };
        return plan_err!(
            "[DATATYPE_MISMATCH.{class}] {name} takes a value, a relative error above 0 and a confidence between 0 and 1, both DOUBLE, and a whole number as seed, all but the value constants"
        );
    }
    Ok(())
}

/// The value of an argument that can be seen.
fn constant(arg: &Expr) -> Option<ScalarValue> {
    match arg {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => constant(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        Expr::Negative(inner) => constant(inner)?.arithmetic_negate().ok(),
        _ => None,
    }
}

/// Percentages that can be seen must be between 0 and 1.
fn check_shares(name: &str, share: Option<&Expr>) -> Result<()> {
    match share {
        Some(Expr::Literal(ScalarValue::Null, _)) => plan_err!(
            "[DATATYPE_MISMATCH.UNEXPECTED_NULL] the percentage of {name} must not be NULL"
        ),
        Some(Expr::Literal(value, _)) => {
            let value = value.cast_to(&DataType::Float64);
            match value {
                Ok(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(&share) => Ok(()),
                _ => plan_err!(
                    "[DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE] the percentage of {name} must be between 0.0 and 1.0"
                ),
            }
        }
        Some(Expr::ScalarFunction(array)) if array.func.name() == "make_array" => array
            .args
            .iter()
            .try_for_each(|share| check_shares(name, Some(share))),
        Some(Expr::Column(_)) => plan_err!(
            "[DATATYPE_MISMATCH.NON_FOLDABLE_INPUT] the percentage of {name} must be a constant"
        ),
        _ => Ok(()),
    }
}
