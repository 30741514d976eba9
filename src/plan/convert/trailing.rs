//! Window functions that look back only, in the order of event time: how far.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::{Expr, SortExpr, WindowFrameBound, WindowFrameUnits};

use super::super::event_time::{self, interval_micros};
use super::super::{EventTimeKind, Node, Trailing};
use super::nodes::Scope;

/// How far back the results of a row look; `None` where one looks ahead, or rows are in another order.
pub(super) fn trailing(
    calls: &[Expr],
    order: &[SortExpr],
    input: &Node,
    scope: Scope<'_>,
) -> Option<Trailing> {
    let first = order.first().filter(|by| by.asc)?;
    let column =
        event_time::of_expression(&first.expr, &input.schema, &input.columns, scope.clock)?;
    if !matches!(
        column.kind,
        EventTimeKind::Instant | EventTimeKind::WindowEnd
    ) {
        return None;
    }
    let mut trailing = Trailing {
        column,
        rows: Some(0),
        range: 0,
    };
    for call in calls {
        let Expr::WindowFunction(call) = call else {
            return None;
        };
        let (rows, range) = looks_back(call)?;
        trailing.rows = trailing.rows.zip(rows).map(|(one, other)| one.max(other));
        trailing.range = trailing.range.max(range);
    }
    Some(trailing)
}

/// So many rows (`None`: all), and so many microseconds; `None` where it looks ahead.
fn looks_back(call: &WindowFunction) -> Option<(Option<u64>, i64)> {
    const ALL: (Option<u64>, i64) = (None, 0);
    let params = &call.params;
    match call.fun.name() {
        "row_number" | "rank" | "dense_rank" => return Some(ALL),
        "lead" | "ntile" | "percent_rank" | "cume_dist" => return None,
        "lag" if params.null_treatment == Some(NullTreatment::IgnoreNulls) => return Some(ALL),
        "lag" => {
            let by = match params.args.get(1) {
                None => 1,
                Some(Expr::Literal(by, _)) => match by.cast_to(&DataType::Int64).ok()? {
                    ScalarValue::Int64(by) => by?,
                    _ => return None,
                },
                Some(_) => return None,
            };
            return Some((Some(u64::try_from(by).ok()?), 0));
        }
        _ => {}
    }
    let frame = &params.window_frame;
    if matches!(frame.end_bound, WindowFrameBound::Following(_)) {
        return None;
    }
    Some(match (&frame.start_bound, frame.units) {
        (WindowFrameBound::Following(_), _) => return None,
        (WindowFrameBound::CurrentRow, _) => (Some(0), 0),
        (WindowFrameBound::Preceding(by), _) if by.is_null() => ALL,
        (WindowFrameBound::Preceding(ScalarValue::UInt64(by)), WindowFrameUnits::Rows) => (*by, 0),
        (WindowFrameBound::Preceding(by), WindowFrameUnits::Range) => {
            match interval_micros(&Expr::Literal(by.clone(), None)) {
                Some(range) => (Some(0), range.max(0)),
                None => ALL,
            }
        }
        (WindowFrameBound::Preceding(_), _) => ALL,
    })
}
