//! The order of a group's rows where the query says none: event time, where the rows have it, then
//! the order in which their source has them, where they come of one.
//!
//! `first`, `last`, `collect_list` and `listagg` depend on an order, and that of arrival would
//! differ with workers and epochs. Within a source the partitions follow one another by their
//! names. Rows above a `UNION`, an aggregation or sessions come of no single source: of one event
//! time, or without any, they are in the order of the values.

use std::any::Any;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, SortExpr};
use datafusion::optimizer::AnalyzerRule;

use super::super::random;
use super::{function_of, is_ordered};
use crate::plan::context::StreamTable;
use crate::plan::deduplicate::deduplicate_of;

/// Orders the rows of the aggregates that depend on it by event time and by position.
#[derive(Debug)]
pub struct OrderOfRows;

impl AnalyzerRule for OrderOfRows {
    fn name(&self) -> &'static str {
        "order_of_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let ordered = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Aggregate(aggregate) = node else {
                return Ok(Transformed::no(node));
            };
            let time = event_time(&aggregate.input).map(Expr::Column);
            let position = is_read(&aggregate.input).then(random::position);
            let order: Vec<SortExpr> = (time.into_iter().chain(position))
                .map(|expr| SortExpr::new(expr, true, true))
                .collect();
            if order.is_empty() {
                return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
            }
            ordered(aggregate, &order)
        })?;
        Ok(ordered.data)
    }
}

fn ordered(aggregate: Aggregate, order: &[SortExpr]) -> Result<Transformed<LogicalPlan>> {
    let mut changed = false;
    let calls = aggregate.aggr_expr.iter().cloned().map(|call| {
        let name = call.schema_name().to_string();
        let ordered = call.transform_down(|expr| {
            let Expr::AggregateFunction(mut call) = expr else {
                return Ok(Transformed::no(expr));
            };
            let depends = function_of(&call.func).is_some_and(is_ordered);
            let asks = depends && !call.params.distinct && call.params.order_by.is_empty();
            if asks {
                call.params.order_by = order.to_vec();
            }
            Ok(Transformed::new_transformed(
                Expr::AggregateFunction(call),
                asks,
            ))
        })?;
        changed |= ordered.transformed;
        Ok(
            if ordered.transformed && ordered.data.schema_name().to_string() != name {
                ordered.data.alias(name)
            } else {
                ordered.data
            },
        )
    });
    let calls = calls.collect::<Result<Vec<_>>>()?;
    let Aggregate {
        input,
        group_expr,
        schema,
        ..
    } = aggregate;
    let aggregate = Aggregate::try_new_with_schema(input, group_expr, calls, schema)?;
    Ok(Transformed::new_transformed(
        LogicalPlan::Aggregate(aggregate),
        changed,
    ))
}

/// Whether the rows of a plan are rows of one table, or elements of them.
pub fn is_read(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let source: &dyn Any = &*scan.source;
            source.is::<StreamTable>()
        }
        LogicalPlan::SubqueryAlias(alias) => is_read(&alias.input),
        LogicalPlan::Filter(filter) => is_read(&filter.input),
        LogicalPlan::Repartition(inner) => is_read(&inner.input),
        LogicalPlan::Projection(projection) => is_read(&projection.input),
        LogicalPlan::Unnest(unnest) => is_read(&unnest.input),
        _ => false,
    }
}

/// The column of a plan that is its event time, the one that a table's watermark names.
pub fn event_time(plan: &LogicalPlan) -> Option<Column> {
    let column = |index: usize| Some(Column::from(plan.schema().qualified_field(index)));
    let same_place = |input: &LogicalPlan| {
        let time = event_time(input)?;
        column(input.schema().index_of_column(&time).ok()?)
    };
    match plan {
        LogicalPlan::TableScan(scan) => {
            let source: &dyn Any = &*scan.source;
            let table = &source.downcast_ref::<StreamTable>()?.table;
            let watermark = table.watermark.as_ref().filter(|_| table.streaming)?;
            let schema = scan.source.schema();
            let name = schema.fields().get(watermark.column)?.name();
            let fields = scan.projected_schema.fields();
            column(fields.iter().position(|field| field.name() == name)?)
        }
        LogicalPlan::SubqueryAlias(alias) => same_place(&alias.input),
        LogicalPlan::Filter(filter) => same_place(&filter.input),
        LogicalPlan::Repartition(inner) => same_place(&inner.input),
        LogicalPlan::Sort(sort) => same_place(&sort.input),
        other if let Some(deduplicate) = deduplicate_of(other) => same_place(&deduplicate.input),
        LogicalPlan::Projection(projection) => {
            let time = event_time(&projection.input)?;
            column(position(&projection.expr, &time)?)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let time = event_time(&aggregate.input)?;
            column(position(&aggregate.group_expr, &time)?)
        }
        LogicalPlan::Unnest(unnest) => {
            let time = event_time(&unnest.input)?;
            let named = |column: &Column| column.name == time.name;
            plan.schema().columns().into_iter().find(named)
        }
        LogicalPlan::Union(union) => {
            let mut places = union.inputs.iter().map(|input| {
                let time = event_time(input)?;
                input.schema().index_of_column(&time).ok()
            });
            let first = places.next()??;
            places
                .all(|place| place == Some(first))
                .then(|| column(first))?
        }
        _ => None,
    }
}

fn position(exprs: &[Expr], time: &Column) -> Option<usize> {
    exprs.iter().position(|expr| match expr {
        Expr::Alias(alias) => matches!(&*alias.expr, Expr::Column(column) if column == time),
        Expr::Column(column) => column == time,
        _ => false,
    })
}
