//! Constants with the types that Spark reads them with, where sqlparser and `DataFusion` read
//! others: a whole number is an INT where it fits, an interval is of days and less or of years and
//! months.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::utils::COUNT_STAR_EXPANSION;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};

use crate::plan::coercion::rewritten;

const DAY: i64 = 86_400_000_000;

/// The plan of a query as the SQL planner leaves it, with Spark's constants.
///
/// Only for a plan that no optimizer has seen: there a BIGINT that was computed is a constant too.
pub(super) fn typed(plan: LogicalPlan) -> Result<LogicalPlan> {
    rewritten(plan, &|expr, _| match expr {
        Expr::Literal(..) => typed_literal(expr).map(Transformed::yes),
        // The lengths of windows are ours, and counted in microseconds.
        Expr::ScalarFunction(mut call)
            if [
                "__tumbling_window",
                "__sliding_windows",
                "__cumulate_windows",
            ]
            .contains(&call.func.name()) =>
        {
            for arg in &mut call.args {
                if let Expr::Literal(ScalarValue::Int32(Some(number)), _) = arg {
                    *arg = lit(i64::from(*number));
                }
            }
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        // `-INTERVAL '1 02:03:04' DAY TO SECOND` is a constant, too.
        Expr::ScalarFunction(call) if call.func.name() == "__negate" => {
            Ok(match opposite(&call.args) {
                Some(interval) => Transformed::yes(Expr::Literal(interval, None)),
                None => Transformed::no(Expr::ScalarFunction(call)),
            })
        }
        // `count(*)` counts this constant, and is known by its type.
        Expr::AggregateFunction(mut call)
            if call.func.name() == "count"
                && matches!(
                    &call.params.args[..],
                    [Expr::Literal(ScalarValue::Int32(Some(_)), _)]
                ) =>
        {
            call.params.args = vec![lit(COUNT_STAR_EXPANSION)];
            Ok(Transformed::yes(Expr::AggregateFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// The constant interval of the other sign, of a single argument that is one.
fn opposite(args: &[Expr]) -> Option<ScalarValue> {
    let [Expr::Literal(interval, _)] = args else {
        return None;
    };
    Some(match interval {
        ScalarValue::DurationMicrosecond(Some(micros)) => {
            ScalarValue::DurationMicrosecond(Some(micros.checked_neg()?))
        }
        ScalarValue::IntervalYearMonth(Some(months)) => {
            ScalarValue::IntervalYearMonth(Some(months.checked_neg()?))
        }
        _ => return None,
    })
}

/// A constant with its type; other expressions as they are.
pub(in crate::plan) fn typed_literal(expr: Expr) -> Result<Expr> {
    Ok(match expr {
        Expr::Literal(value, metadata) => {
            let typed = constant(&value)?.unwrap_or(value);
            Expr::Literal(typed, metadata)
        }
        other => other,
    })
}

/// The constant that Spark reads, where it is another.
fn constant(value: &ScalarValue) -> Result<Option<ScalarValue>> {
    Ok(match value {
        // Rows of constants give NULL the type that the planner takes the others for.
        value if value.is_null() => Some(ScalarValue::Null),
        ScalarValue::Int64(Some(number)) => i32::try_from(*number)
            .ok()
            .map(|number| ScalarValue::Int32(Some(number))),
        ScalarValue::UInt64(Some(number)) => {
            let digits = number.checked_ilog10().unwrap_or(0) + 1;
            let precision = u8::try_from(digits).expect("a number of 64 bits has 20 digits");
            Some(ScalarValue::Decimal128(
                Some(i128::from(*number)),
                precision,
                0,
            ))
        }
        ScalarValue::Decimal256(Some(number), ..) => {
            return plan_err!(
                "[DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION] the number {number} has more than 38 digits; write it with an exponent, as a DOUBLE"
            );
        }
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            let rest = interval.nanoseconds / 1_000;
            match (interval.months, interval.days, rest) {
                (0, days, rest) => {
                    let micros = i64::from(days)
                        .checked_mul(DAY)
                        .and_then(|days| days.checked_add(rest));
                    let Some(micros) = micros else {
                        return plan_err!("[ARITHMETIC_OVERFLOW] the interval is too long");
                    };
                    Some(ScalarValue::DurationMicrosecond(Some(micros)))
                }
                (months, 0, 0) => Some(ScalarValue::IntervalYearMonth(Some(months))),
                _ => {
                    return plan_err!(
                        "an interval of months has no days or hours; add two intervals to a time one after the other, or use make_interval"
                    );
                }
            }
        }
        _ => None,
    })
}
