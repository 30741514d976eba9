//! `GROUP BY` and `DISTINCT`.

use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction as Call, NullTreatment};
use datafusion::logical_expr::{Expr, SortExpr};

use super::super::functions::aggregates;
use super::super::{
    Aggregate, AggregateCall, AggregateFunction, Emit, Node, Operator, event_time, text,
};
use super::error::{Result, unsupported};
use super::expr::resolve;
use super::fuse::origin;
use super::nodes::Scope;

/// Groups the rows of `input`. Results are given as changes until the output mode says otherwise.
pub(super) fn aggregate(
    input: Node,
    keys: Vec<Expr>,
    calls: &[Expr],
    schema: DFSchemaRef,
    scope: Scope<'_>,
) -> Result<Node> {
    let keys = (keys.into_iter())
        .map(|key| resolve(key, &input, scope))
        .collect::<Result<Vec<_>>>()?;
    let calls = (calls.iter())
        .map(|call| aggregate_call(call, &input, scope))
        .collect::<Result<Vec<_>>>()?;
    let key_columns: Vec<_> = (keys.iter())
        .map(|key| event_time::of_expression(key, &input.schema, &input.columns, scope.clock))
        .collect();
    let bound = event_time::bound_of(&key_columns);
    let origins = (keys.iter())
        .map(|key| origin(key.clone(), &input).map(|(key, _)| key))
        .collect::<Result<Vec<_>>>()?;
    let mut columns = event_time::after_aggregate(&origins, &key_columns, bound);
    columns.resize(schema.fields().len(), None);
    let append_only = calls.is_empty() && !keys.is_empty() && input.append_only;
    Ok(Node {
        id: 0,
        operator: Operator::Aggregate(Aggregate {
            keys,
            calls,
            bound,
            emit: Emit::Changes,
        }),
        inputs: vec![input],
        schema,
        columns,
        append_only,
    })
}

fn aggregate_call(expr: &Expr, input: &Node, scope: Scope<'_>) -> Result<AggregateCall> {
    match expr {
        Expr::Alias(alias) => aggregate_call(&alias.expr, input, scope),
        Expr::AggregateFunction(call) => {
            let (function, args) = function_of(call)?;
            let args = (args.into_iter())
                .map(|arg| resolve(arg, input, scope))
                .collect::<Result<Vec<_>>>()?;
            let order = (call.params.order_by.iter())
                .map(|by| {
                    let expr = resolve(by.expr.clone(), input, scope)?;
                    Ok(SortExpr::new(expr, by.asc, by.nulls_first))
                })
                .collect::<Result<Vec<_>>>()?;
            let filter = (call.params.filter.as_deref())
                .map(|filter| resolve(filter.clone(), input, scope))
                .transpose()?;
            let once_or_often = matches!(
                function,
                AggregateFunction::Min
                    | AggregateFunction::Max
                    | AggregateFunction::CountDistinct
                    | AggregateFunction::ApproxCountDistinct { .. }
            );
            let ignore = Some(NullTreatment::IgnoreNulls);
            Ok(AggregateCall {
                function,
                args,
                order,
                distinct: call.params.distinct && !once_or_often,
                ignore_nulls: call.params.null_treatment == ignore,
                filter,
            })
        }
        other => Err(unsupported(
            format!("{} as an aggregate", text::expression(other)),
            "it is no call of an aggregate function",
            KNOWN,
        )),
    }
}

const KNOWN: &str = "use one of Spark's aggregates, such as count, sum, avg, min, max, first, collect_list, stddev or percentile";

fn function_of(call: &Call) -> Result<(AggregateFunction, Vec<Expr>)> {
    if let Some(function) = aggregates::function_of(&call.func) {
        return Ok((function, call.params.args.clone()));
    }
    let name = call.func.name().to_ascii_lowercase();
    let shown = || text::expression(&Expr::AggregateFunction(call.clone()));
    if !call.params.order_by.is_empty() {
        return Err(unsupported(
            format!("ORDER BY inside {name}(...)"),
            "a group keeps its aggregates, not its rows",
            "leave it out; for the first or last row of a group use min or max of its time",
        ));
    }
    if call.params.null_treatment.is_some() {
        return Err(unsupported(
            format!("IGNORE NULLS or RESPECT NULLS in {name}(...)"),
            "the aggregates that are there always pass over nulls",
            "leave it out, or write FILTER (WHERE ... IS NOT NULL)",
        ));
    }
    let args = call.params.args.clone();
    let one = |args: Vec<Expr>| -> Result<Vec<Expr>> {
        if args.len() == 1 {
            Ok(args)
        } else {
            Err(unsupported(
                shown(),
                format!("{name} takes one argument"),
                KNOWN,
            ))
        }
    };
    match (name.as_str(), call.params.distinct) {
        ("count", true) => Ok((AggregateFunction::CountDistinct, args)),
        // count(*) and count(1) count rows.
        ("count", false) if args.iter().all(is_not_null_literal) => {
            Ok((AggregateFunction::Count, Vec::new()))
        }
        ("count", false) => Ok((AggregateFunction::Count, args)),
        ("sum", _) => Ok((AggregateFunction::Sum, one(args)?)),
        ("avg" | "mean", _) => Ok((AggregateFunction::Avg, one(args)?)),
        ("min", _) => Ok((AggregateFunction::Min, one(args)?)),
        ("max", _) => Ok((AggregateFunction::Max, one(args)?)),
        ("approx_count_distinct", _) => {
            let mut args = args.into_iter();
            let precision = match (args.len(), args.clone().nth(1)) {
                (1, _) => precision_for(DEFAULT_RELATIVE_SD),
                (2, Some(second)) => precision_of(&second),
                _ => None,
            };
            match precision {
                Some(precision) => Ok((
                    AggregateFunction::ApproxCountDistinct { precision },
                    args.by_ref().take(1).collect(),
                )),
                None => Err(unsupported(
                    shown(),
                    "its second argument must be a constant relative error from 0.005 to 0.39",
                    "write approx_count_distinct(x) or approx_count_distinct(x, 0.01)",
                )),
            }
        }
        _ => Err(unsupported(
            shown(),
            format!("there is no state for the aggregate {name}"),
            KNOWN,
        )),
    }
}

fn is_not_null_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_not_null_literal(&alias.expr),
        Expr::Literal(value, _) => !value.is_null(),
        _ => false,
    }
}

/// Spark's default of `approx_count_distinct`.
const DEFAULT_RELATIVE_SD: f64 = 0.05;

/// The second argument: a precision (a whole number), or a relative standard deviation.
fn precision_of(expr: &Expr) -> Option<u8> {
    match expr {
        Expr::Alias(alias) => precision_of(&alias.expr),
        Expr::Cast(cast) => precision_of(&cast.expr),
        Expr::Literal(ScalarValue::Int32(Some(precision)), _) => valid(i64::from(*precision)),
        Expr::Literal(ScalarValue::Int64(Some(precision)), _) => valid(*precision),
        Expr::Literal(ScalarValue::Float64(Some(error)), _) => precision_for(*error),
        Expr::Literal(ScalarValue::Float32(Some(error)), _) => precision_for(f64::from(*error)),
        Expr::Literal(ScalarValue::Decimal128(Some(digits), _, scale), _) => {
            precision_for(*digits as f64 / 10_f64.powi(i32::from(*scale)))
        }
        _ => None,
    }
}

fn valid(precision: i64) -> Option<u8> {
    u8::try_from(precision)
        .ok()
        .filter(|precision| (4..=16).contains(precision))
}

/// Spark's formula (`HyperLogLogPlusPlusHelper`): the registers for a relative standard deviation.
fn precision_for(relative_sd: f64) -> Option<u8> {
    if !(relative_sd > 0.0 && relative_sd.is_finite()) {
        return None;
    }
    valid((2.0 * (1.106 / relative_sd).log2()).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_precision_is_sparks() {
        assert_eq!(precision_for(0.05), Some(9));
        assert_eq!(precision_for(0.01), Some(14));
        assert_eq!(precision_for(0.0), None);
        assert_eq!(precision_for(f64::NAN), None);
        assert_eq!(precision_for(0.000_1), None);
    }
}
