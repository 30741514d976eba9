//! Joins with the nearest row for the batch answer: all rows that could be it, ranked.
//!
//! Independent of the engine's way on purpose, as the oracle is: the left rows are numbered, joined with every
//! right row that meets the conditions, and of each number the first by time stays.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, Operator, SortExpr, lit,
};

use super::batch_ranks::comparable;
use super::functions::aggregates::order::is_read;
use super::functions::random;
use super::nearest::{NearestJoin, nearest_of};

const ROW: &str = "__row";
const ARRIVAL: &str = "__version_arrival";
const PLACE: &str = "__nearest_place";

/// The plan with ordinary joins and window functions in place of each [`NearestJoin`].
pub(super) fn with_ranked_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| match nearest_of(&node) {
        Some(join) => ranked(join).map(Transformed::yes),
        None => Ok(Transformed::no(node)),
    })?;
    Ok(transformed.data)
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn columns(plan: &LogicalPlan) -> impl Iterator<Item = Expr> {
    plan.schema().columns().into_iter().map(Expr::Column)
}

fn ranked(join: &NearestJoin) -> Result<LogicalPlan> {
    let (left, right) = (&join.left, &join.right);
    let given: Vec<Expr> = columns(left).chain(columns(right)).collect();
    let mut order = vec![by_distance(join)];
    let mut candidates = LogicalPlanBuilder::from(right.clone());
    if join.latest && is_read(right) {
        let arrival = random::position().alias(ARRIVAL);
        candidates = candidates.project(columns(right).chain([arrival]))?;
        order.push(column(ARRIVAL).sort(false, false));
    }
    let all = comparable(right).into_iter();
    order.extend(all.map(|expr| expr.sort(true, true)));
    let place = row_number()
        .partition_by(vec![column(ROW)])
        .order_by(order)
        .build()?;
    let kind = if join.outer {
        JoinType::Left
    } else {
        JoinType::Inner
    };
    let conditions = [&join.condition].into_iter().chain(&join.on).cloned();
    LogicalPlanBuilder::from(left.clone())
        .window(vec![row_number().alias(ROW)])?
        .join_on(candidates.build()?, kind, conditions)?
        .window(vec![place.alias(PLACE)])?
        .filter(column(PLACE).eq(lit(1_u64)))?
        .project(given)?
        .build()
}

/// The nearest first: of earlier rows the latest, of later ones the earliest.
fn by_distance(join: &NearestJoin) -> SortExpr {
    let of_right = |expr: &Expr| {
        let columns = expr.column_refs();
        (columns.iter()).all(|column| join.right.schema().maybe_index_of_column(column).is_some())
    };
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &join.condition else {
        return join.condition.clone().sort(true, true);
    };
    let (time, left_is_later) = if of_right(right) {
        (right, matches!(op, Operator::Gt | Operator::GtEq))
    } else {
        (left, matches!(op, Operator::Lt | Operator::LtEq))
    };
    (**time).clone().sort(!left_is_later, true)
}
