//! Calls as the planner meets them: Spark says some things in arguments that are clauses elsewhere.

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
    // Once or several times: the same value.
    if matches!(
        function,
        Function::First | Function::Last | Function::MinBy | Function::MaxBy | Function::CollectSet
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

/// Percentages that can be seen must be between 0 and 1.
fn check_shares(name: &str, share: Option<&Expr>) -> Result<()> {
    match share {
        Some(Expr::Literal(ScalarValue::Null, _)) => plan_err!(
            "[DATATYPE_MISMATCH.UNEXPECTED_NULL] the percentage of {name} must not be NULL"
        ),
        Some(Expr::Literal(value, _)) => {
            let value = value.cast_to(&arrow::datatypes::DataType::Float64);
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
