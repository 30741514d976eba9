//! Sessions for the batch answer, by window functions: gaps and islands.
//!
//! Independent of the engine's way on purpose, as the oracle is: in the order of their starts, a row
//! begins a session where all windows before it have ended; the number of such rows up to a row names
//! its session.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::functions::core::expr_fn::{get_field, named_struct};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, WindowFrame,
    WindowFrameBound, WindowFrameUnits, lit, when,
};
use datafusion::scalar::ScalarValue;

use super::sessions::{SESSION_COLUMN, SessionWindow, session_window_of};

const OWN: &str = "__own";
const ENDED: &str = "__ended";
const BEGINS: &str = "__begins";
const ISLAND: &str = "__island";
const START: &str = "__start";
const END: &str = "__end";

/// The plan with window functions in place of each [`SessionWindow`].
pub(super) fn with_islands(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| {
        Ok(Transformed::yes(match session_window_of(&node) {
            Some(sessions) => islands(sessions)?,
            None => node.recompute_schema()?,
        }))
    })?;
    Ok(transformed.data)
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// An aggregate as a window function.
fn over(aggregate: Arc<AggregateUDF>, argument: Expr) -> Expr {
    Expr::from(WindowFunction::new(aggregate, vec![argument]))
}

/// The rows from the first to the one `last` before the present one.
fn up_to(last: u64) -> WindowFrame {
    let unbounded = WindowFrameBound::Preceding(ScalarValue::UInt64(None));
    let end = match last {
        0 => WindowFrameBound::CurrentRow,
        last => WindowFrameBound::Preceding(ScalarValue::UInt64(Some(last))),
    };
    WindowFrame::new_bounds(WindowFrameUnits::Rows, unbounded, end)
}

fn islands(sessions: &SessionWindow) -> Result<LogicalPlan> {
    let given: Vec<Expr> = (sessions.input.schema().columns().into_iter())
        .map(Expr::Column)
        .collect();
    let partition: Vec<Expr> = (0..sessions.partition.len())
        .map(|index| column(&format!("__partition_{index}")))
        .collect();
    let computed = sessions.partition.iter().enumerate();
    let computed = computed.map(|(index, key)| key.clone().alias(format!("__partition_{index}")));
    let own = std::iter::once(sessions.window.clone().alias(OWN));
    let (start, end) = (
        get_field(column(OWN), "start"),
        get_field(column(OWN), "end"),
    );
    let order = vec![start.clone().sort(true, true), end.clone().sort(true, true)];
    let ended = over(max_udaf(), end.clone())
        .partition_by(partition.clone())
        .order_by(order.clone())
        .window_frame(up_to(1))
        .build()?;
    let begins = when(column(ENDED).gt_eq(start.clone()), lit(0_i64)).otherwise(lit(1_i64))?;
    let island = over(sum_udaf(), column(BEGINS))
        .partition_by(partition.clone())
        .order_by(order)
        .window_frame(up_to(0))
        .build()?;
    let of_island: Vec<Expr> = partition.iter().cloned().chain([column(ISLAND)]).collect();
    let bound = |call: Expr| call.partition_by(of_island.clone()).build();
    let session = named_struct(vec![lit("start"), column(START), lit("end"), column(END)]);
    let kept = (given.iter().cloned())
        .chain([column(OWN)])
        .chain(partition.iter().cloned());
    LogicalPlanBuilder::from(sessions.input.clone())
        .project(given.iter().cloned().chain(own).chain(computed))?
        .filter(column(OWN).is_not_null())?
        .window(vec![ended.alias(ENDED)])?
        .project(kept.chain([begins.alias(BEGINS)]))?
        .window(vec![island.alias(ISLAND)])?
        .window(vec![
            bound(over(min_udaf(), start))?.alias(START),
            bound(over(max_udaf(), end))?.alias(END),
        ])?
        .project(given.iter().cloned().chain([session.alias(SESSION_COLUMN)]))?
        .build()
}
