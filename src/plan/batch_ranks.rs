//! Deduplication and ranks for the batch answer, by window functions whose ties are settled.
//!
//! A stream keeps the row that arrives first, or the first of an order; of rows that are alike it takes
//! them in the order of their columns. `DataFusion` would take any: here its window functions get
//! an order in which no two different rows are alike.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, FetchType, LogicalPlan, LogicalPlanBuilder, SkipType, Sort, SortExpr,
    Window, WindowFrameUnits, lit,
};

use super::deduplicate::{Deduplicate, deduplicate_of};
use super::functions::aggregates::order::{event_time, is_read};
use super::functions::collections::holds_map;
use super::functions::random;

const ARRIVAL: &str = "__arrival";
const PLACE: &str = "__place";

/// The plan with window functions in place of each [`Deduplicate`], and with an order for all rows
/// wherever places are counted or rows cut off.
pub(super) fn with_places(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| {
        if let Some(deduplicate) = deduplicate_of(&node) {
            return first_to_arrive(deduplicate).map(Transformed::yes);
        }
        match node {
            LogicalPlan::Window(window) => with_settled(window).map(Transformed::yes),
            LogicalPlan::Sort(mut sort) => {
                sort.expr.extend(ascending(&comparable(&sort.input)));
                Ok(Transformed::yes(LogicalPlan::Sort(sort)))
            }
            LogicalPlan::Limit(mut limit) => {
                let SkipType::Literal(mut skip) = limit.get_skip_type()? else {
                    return Ok(Transformed::no(LogicalPlan::Limit(limit)));
                };
                let mut input = Arc::unwrap_or_clone(limit.input);
                if skip > 0 {
                    let numbered = with_sort(input, |sort| without_first(sort, skip))?;
                    input = numbered.data;
                    if numbered.transformed {
                        (skip, limit.skip) = (0, None);
                    }
                }
                limit.input = Arc::new(input);
                if let FetchType::Literal(Some(fetch)) = limit.get_fetch_type()? {
                    let rows = skip.saturating_add(fetch);
                    let input = Arc::unwrap_or_clone(limit.input);
                    let ends = with_sort(input, |sort| Ok(with_end(sort, rows)))?;
                    limit.input = Arc::new(ends.data);
                }
                Ok(Transformed::yes(LogicalPlan::Limit(limit)))
            }
            other => Ok(Transformed::no(other)),
        }
    })?;
    Ok(transformed.data)
}

/// A plan with another sort, where it is sorted.
fn with_sort(
    plan: LogicalPlan,
    change: impl FnOnce(Sort) -> Result<Sort>,
) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(mut projection) => {
            let input = with_sort(LogicalPlan::clone(&projection.input), change)?;
            Ok(input.update_data(|input| {
                projection.input = Arc::new(input);
                LogicalPlan::Projection(projection)
            }))
        }
        LogicalPlan::Sort(sort) => Ok(Transformed::yes(LogicalPlan::Sort(change(sort)?))),
        other => Ok(Transformed::no(other)),
    }
}

/// A sort of which so many rows are asked for. One that does not know would be left out where nothing above asks for an
/// order.
fn with_end(mut sort: Sort, rows: usize) -> Sort {
    sort.fetch = Some(sort.fetch.map_or(rows, |fetch| fetch.min(rows)));
    sort
}

/// A sort without its first rows, told by their numbers: a limit that skips them would have a sort of another order
/// pushed below it, by a window function's.
fn without_first(mut sort: Sort, rows: usize) -> Result<Sort> {
    let given = all_columns(sort.input.schema());
    let place = row_number().order_by(sort.expr.clone()).build()?;
    let kept = LogicalPlanBuilder::from(Arc::unwrap_or_clone(sort.input))
        .window(vec![place.alias(PLACE)])?
        .filter(Expr::Column(Column::new_unqualified(PLACE)).gt(lit(rows as u64)))?
        .project(given)?
        .build()?;
    sort.input = Arc::new(kept);
    sort.fetch = None;
    Ok(sort)
}

fn all_columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

/// What rows can be ordered by: maps cannot.
pub(super) fn comparable(plan: &LogicalPlan) -> Vec<Expr> {
    let schema = plan.schema();
    let fields = schema
        .iter()
        .filter(|(_, field)| !holds_map(field.data_type()));
    fields
        .map(|field| Expr::Column(Column::from(field)))
        .collect()
}

fn ascending(exprs: &[Expr]) -> impl Iterator<Item = SortExpr> {
    exprs.iter().map(|expr| expr.clone().sort(true, true))
}

/// Window functions that see where a row stands do so by all of a row; they cannot stand beside the
/// others, whose order is another.
fn with_settled(window: Window) -> Result<LogicalPlan> {
    let all = comparable(&window.input);
    let given = all_columns(&window.schema);
    let (mut settled, mut others) = (Vec::new(), Vec::new());
    for call in window.window_expr {
        let name = call.schema_name().to_string();
        match call.unalias() {
            Expr::WindowFunction(mut call) if numbers_rows(&call) => {
                call.params.order_by.extend(ascending(&all));
                settled.push(Expr::WindowFunction(call).alias(name));
            }
            call => others.push(call.alias(name)),
        }
    }
    let mut builder = LogicalPlanBuilder::from(window.input);
    for calls in [others, settled] {
        if !calls.is_empty() {
            builder = builder.window(calls)?;
        }
    }
    builder.project(given)?.build()
}

/// Whether a row's result depends on where it stands among rows that are alike in the order.
fn numbers_rows(call: &WindowFunction) -> bool {
    match call.fun.name() {
        "row_number" | "ntile" | "lag" | "lead" => true,
        "rank" | "dense_rank" | "percent_rank" | "cume_dist" => false,
        _ => call.params.window_frame.units == WindowFrameUnits::Rows,
    }
}

fn first_to_arrive(deduplicate: &Deduplicate) -> Result<LogicalPlan> {
    let input = &deduplicate.input;
    let given = all_columns(input.schema());
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let mut builder = LogicalPlanBuilder::from(input.clone());
    let order = if is_read(input) {
        let arrival = random::position().alias(ARRIVAL);
        builder = builder.project(given.iter().cloned().chain([arrival]))?;
        ascending(&[column(ARRIVAL)]).collect()
    } else {
        let time = event_time(input).map(Expr::Column);
        let all: Vec<Expr> = time.into_iter().chain(comparable(input)).collect();
        ascending(&all).collect()
    };
    let place = row_number()
        .partition_by(deduplicate.keys.clone())
        .order_by(order)
        .build()?;
    builder
        .window(vec![place.alias(PLACE)])?
        .filter(column(PLACE).eq(lit(1_u64)))?
        .project(given)?
        .build()
}
