//! Deduplication, the first rows of each partition, and the first rows of an order.
//!
//! `ROW_NUMBER()`, `RANK()` and `DENSE_RANK()` arrive as a window function with a filter on it: the
//! ranks that the filter lets through are all that has to be known. `ORDER BY ... LIMIT` is the same
//! with one partition.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Operator as Binary, SortExpr, Window};

use super::super::deduplicate;
use super::super::functions::aggregates::order::is_read;
use super::super::{
    Bound, Deduplicate, Emit, EventTimeColumn, EventTimeKind, Known, Node, Operator, Over, Rank,
    RankFunction, ResultOrder, Supplied, event_time, text,
};
use super::error::{ConvertError, Result, unsupported};
use super::expr::resolve;
use super::fuse::{filter, origin, project};
use super::nodes::{Scope, node};
use super::order::settled;
use super::sorted::unsorted;
use super::trailing::trailing;

/// The first row of each key to arrive.
pub(super) fn deduplicate(asked: &deduplicate::Deduplicate, scope: Scope<'_>) -> Result<Node> {
    let input = settled(node(&asked.input, scope)?)?;
    let keys = (asked.keys.iter())
        .map(|key| resolve(key.clone(), &input, scope))
        .collect::<Result<Vec<_>>>()?;
    let columns = input.schema.columns();
    let own = own_time(&input.columns);
    let time_of =
        |(index, column): (usize, EventTimeColumn)| (Expr::Column(columns[index].clone()), column);
    let key_columns: Vec<_> = (keys.iter())
        .map(|key| event_time::of_expression(key, &input.schema, &input.columns, scope.clock))
        .collect();
    let (time, known) = if asked.within_watermark {
        let (Some(time), Some(delay)) = (own, delay(&input, scope)) else {
            return Err(unsupported(
                "DEDUPLICATE_WITHIN_WATERMARK",
                "its rows have no event time with a watermark, which says how long a key is known",
                "declare WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE on the table, or use SELECT DISTINCT ON",
            ));
        };
        (Some(time_of(time)), Known::Within(delay))
    } else if let Some(bound) = event_time::bound_of(&key_columns) {
        (
            Some((keys[bound.key].clone(), bound.column)),
            Known::UntilPassed,
        )
    } else {
        (own.map(time_of), Known::Always)
    };
    let order = if is_read(&asked.input) && input.positioned() {
        vec![Supplied::Position.column()]
    } else {
        let first = own.map(|(index, _)| columns[index].clone());
        first.into_iter().chain(columns).map(Expr::Column).collect()
    };
    // Over rows that can be taken back another row may take the place of the first: one that is
    // later by the time that comes first in the order, and by nothing else.
    let columns = if input.append_only {
        input.columns.clone()
    } else {
        let of_order = |index| own.is_some_and(|(time, _)| time == index);
        (input.columns.iter().enumerate())
            .map(|(index, column)| column.filter(|_| of_order(index)))
            .collect()
    };
    Ok(Node {
        id: 0,
        operator: Operator::Deduplicate(Deduplicate {
            keys,
            order,
            time,
            known,
        }),
        schema: Arc::clone(&input.schema),
        columns,
        append_only: input.append_only,
        inputs: vec![input],
    })
}

/// The column that says when a row happened.
fn own_time(columns: &[Option<EventTimeColumn>]) -> Option<(usize, EventTimeColumn)> {
    let all = || {
        let known = columns.iter().enumerate();
        known.filter_map(|(index, column)| column.map(|column| (index, column)))
    };
    let instant = all().find(|(_, column)| column.kind == EventTimeKind::Instant);
    instant.or_else(|| {
        let bound = event_time::bound_of(columns)?;
        Some((bound.key, bound.column))
    })
}

/// The greatest delay of the watermarks below, in microseconds.
fn delay(node: &Node, scope: Scope<'_>) -> Option<i64> {
    let own = match &node.operator {
        Operator::Source { source, .. } => {
            let table = &scope.sources[*source].table;
            let watermark = table.watermark.as_ref().filter(|_| table.streaming);
            watermark
                .map(|watermark| i64::try_from(watermark.delay.as_micros()).unwrap_or(i64::MAX))
        }
        _ => None,
    };
    let below = node.inputs.iter().map(|input| delay(input, scope));
    below.chain([own]).flatten().max()
}

/// A filter on ranks; `None` where it is on anything else, or lets through ranks without end.
pub(super) fn top_n(asked: &Filter, scope: Scope<'_>) -> Result<Option<Node>> {
    filtered(asked.predicate.clone(), &asked.input, scope)
}

/// The rows of `plan` that pass, where that is a window function of ranks below projections.
fn filtered(predicate: Expr, plan: &LogicalPlan, scope: Scope<'_>) -> Result<Option<Node>> {
    match plan {
        LogicalPlan::Window(window) => ranked(predicate, window, scope),
        LogicalPlan::Projection(projection) => {
            let failed = unresolved(&predicate);
            let inlined = predicate.transform_down(|part| match &part {
                Expr::Column(column) => {
                    let index = projection.schema.index_of_column(column)?;
                    let below = projection.expr[index].clone().unalias_nested().data;
                    Ok(Transformed::new(below, true, TreeNodeRecursion::Jump))
                }
                _ => Ok(Transformed::no(part)),
            });
            let inlined = inlined.map_err(failed)?.data;
            let Some(input) = filtered(inlined, &projection.input, scope)? else {
                return Ok(None);
            };
            let exprs = (projection.expr.iter())
                .map(|expr| resolve(expr.clone(), &input, scope))
                .collect::<Result<Vec<_>>>()?;
            project(input, exprs, Arc::clone(&projection.schema), scope.clock).map(Some)
        }
        _ => Ok(None),
    }
}

fn unresolved(expr: &Expr) -> impl FnOnce(DataFusionError) -> ConvertError + use<> {
    let what = text::expression(expr);
    move |source| ConvertError::Expression { what, source }
}

fn ranked(predicate: Expr, window: &Window, scope: Scope<'_>) -> Result<Option<Node>> {
    let [call] = window.window_expr.as_slice() else {
        return Ok(None);
    };
    let Expr::WindowFunction(call) = call.clone().unalias() else {
        return Ok(None);
    };
    let Some(function) = RankFunction::named(call.fun.name()) else {
        return Ok(None);
    };
    let place = window.schema.fields().len() - 1;
    let rank = Column::from(window.schema.qualified_field(place));
    let (mut first, mut last, mut rest) = (1, None::<u64>, Vec::new());
    for condition in split_conjunction_owned(predicate) {
        match limits(&condition, &rank) {
            Some((from, to)) => {
                first = first.max(from);
                last = last.into_iter().chain(to).min();
            }
            None => rest.push(condition),
        }
    }
    let Some(last) = last else { return Ok(None) };
    let input = settled(node(&window.input, scope)?)?;
    let partition = (call.params.partition_by.into_iter())
        .map(|key| resolve(key, &input, scope))
        .collect::<Result<Vec<_>>>()?;
    let order = (call.params.order_by.into_iter())
        .map(|by| {
            Ok(SortExpr::new(
                resolve(by.expr, &input, scope)?,
                by.asc,
                by.nulls_first,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let rank = Rank {
        partition,
        order,
        function,
        ranks: (first, last),
        numbered: true,
        bound: None,
        emit: Emit::Changes,
    };
    let (qualifier, field) = window.schema.qualified_field(place);
    let field = (qualifier.cloned(), Arc::clone(field));
    let node = rank_node(input, rank, Some(field), scope)?;
    let Some(rest) = conjunction(rest) else {
        return Ok(Some(node));
    };
    let rest = resolve(rest, &node, scope)?;
    filter(node, rest).map(Some)
}

type QualifiedField = (Option<datafusion::common::TableReference>, Arc<Field>);

/// Ranks the rows of `input`; `numbered` is the column of the ranks.
fn rank_node(
    input: Node,
    mut rank: Rank,
    numbered: Option<QualifiedField>,
    scope: Scope<'_>,
) -> Result<Node> {
    let mut columns;
    (rank.bound, columns) = timed(&rank.partition, &input, scope)?;
    let mut fields: Vec<QualifiedField> = (input.schema.iter())
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    columns.extend(numbered.as_ref().map(|_| None));
    fields.extend(numbered);
    let schema = DFSchema::new_with_metadata(fields, HashMap::new());
    let schema = schema.map_err(|source| ConvertError::Expression {
        what: rank.function.to_string(),
        source,
    })?;
    Ok(Node {
        id: 0,
        operator: Operator::Rank(rank),
        schema: Arc::new(schema),
        columns,
        append_only: false,
        inputs: vec![input],
    })
}

/// What says when a partition is complete, and what is known of the event time of the columns of
/// `input` once its rows are given by partition.
fn timed(
    partition: &[Expr],
    input: &Node,
    scope: Scope<'_>,
) -> Result<(Option<Bound>, Vec<Option<EventTimeColumn>>)> {
    let time_of =
        |expr: &Expr| event_time::of_expression(expr, &input.schema, &input.columns, scope.clock);
    let key_columns: Vec<_> = partition.iter().map(time_of).collect();
    let bound = event_time::bound_of(&key_columns);
    // Without a bound a row can be given, or taken back, at any time after its own.
    if bound.is_none() {
        return Ok((None, vec![None; input.columns.len()]));
    }
    let own = input.schema.columns().into_iter().map(Expr::Column);
    let origins = (partition.iter().cloned().chain(own))
        .map(|expr| origin(expr, input).map(|(expr, _)| expr))
        .collect::<Result<Vec<_>>>()?;
    let all: Vec<_> = key_columns.iter().chain(&input.columns).copied().collect();
    let mut columns = event_time::after_aggregate(&origins, &all, bound);
    Ok((bound, columns.split_off(partition.len())))
}

/// Window functions, which see the rows of their partition.
pub(super) fn over(window: &Window, scope: Scope<'_>) -> Result<Node> {
    let input = settled(node(&window.input, scope)?)?;
    let mut calls = Vec::new();
    let mut sees = None;
    for call in &window.window_expr {
        let Expr::WindowFunction(mut call) = call.clone().unalias() else {
            return Err(no_window_function(call));
        };
        let params = &mut call.params;
        let by = params.order_by.iter_mut().map(|by| &mut by.expr);
        let args = params.args.iter_mut().chain(&mut params.partition_by);
        for expr in args.chain(by).chain(params.filter.as_deref_mut()) {
            *expr = resolve(expr.clone(), &input, scope)?;
            if Supplied::ALL.iter().any(|supplied| supplied.is_in(expr)) {
                return Err(unsupported(
                    format!("{} in a window function", text::expression(expr)),
                    "a row that is computed again would get another value",
                    "compute it in a sub-query in FROM",
                ));
            }
        }
        let own = (params.partition_by.clone(), params.order_by.clone());
        if *sees.get_or_insert_with(|| own.clone()) != own {
            return Err(no_window_function(&window.window_expr[calls.len()]));
        }
        calls.push(Expr::WindowFunction(call));
    }
    let (partition, order) = sees.unwrap_or_default();
    let (bound, mut columns) = timed(&partition, &input, scope)?;
    let mut fields: Vec<QualifiedField> = (input.schema.iter())
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    let results = window
        .schema
        .iter()
        .skip(window.input.schema().fields().len());
    fields.extend(results.map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))));
    let trailing = trailing(&calls, &order, &input, scope).filter(|_| bound.is_none());
    if let Some(trailing) = trailing {
        // A row that comes in time changes what lies behind it only.
        let time = order[0].expr.try_as_col();
        let time = time.and_then(|time| input.schema.maybe_index_of_column(time));
        if let Some(time) = time {
            columns[time] = Some(trailing.column);
        }
    }
    columns.resize(fields.len(), None);
    let schema = DFSchema::new_with_metadata(fields, HashMap::new());
    let schema = schema.map_err(|source| ConvertError::Expression {
        what: text::list(&calls),
        source,
    })?;
    Ok(Node {
        id: 0,
        operator: Operator::Over(Over {
            partition,
            order,
            calls,
            bound,
            trailing,
            emit: Emit::Changes,
        }),
        schema: Arc::new(schema),
        columns,
        append_only: false,
        inputs: vec![input],
    })
}

fn no_window_function(call: &Expr) -> ConvertError {
    unsupported(
        text::expression(call),
        "its partition or order differs from that of the functions beside it",
        "compute it in a sub-query in FROM",
    )
}

/// The ranks that a condition lets through: from, and up to where there is an end.
fn limits(condition: &Expr, rank: &Column) -> Option<(u64, Option<u64>)> {
    let up_to = |number: i128| Some(u64::try_from(number.max(0)).unwrap_or(u64::MAX));
    let from = |number: i128| u64::try_from(number.max(1)).unwrap_or(u64::MAX);
    match condition {
        Expr::BinaryExpr(binary) => {
            let (op, number) = match (is_rank(&binary.left, rank), is_rank(&binary.right, rank)) {
                (true, false) => (binary.op, whole(&binary.right)?),
                (false, true) => (binary.op.swap()?, whole(&binary.left)?),
                _ => return None,
            };
            match op {
                Binary::Eq if number < 1 => Some((1, Some(0))),
                Binary::Eq => Some((from(number), up_to(number))),
                Binary::Lt => Some((1, up_to(number - 1))),
                Binary::LtEq => Some((1, up_to(number))),
                Binary::Gt => Some((from(number + 1), None)),
                Binary::GtEq => Some((from(number), None)),
                _ => None,
            }
        }
        Expr::Between(between) if !between.negated && is_rank(&between.expr, rank) => {
            let (low, high) = (whole(&between.low)?, whole(&between.high)?);
            Some((from(low), up_to(high)))
        }
        _ => None,
    }
}

/// The rank, perhaps as a number of another type.
fn is_rank(expr: &Expr, rank: &Column) -> bool {
    match expr {
        Expr::Alias(alias) => is_rank(&alias.expr, rank),
        Expr::Cast(cast) => cast.field.data_type().is_integer() && is_rank(&cast.expr, rank),
        Expr::Column(column) => column == rank,
        _ => false,
    }
}

/// A whole number.
fn whole(expr: &Expr) -> Option<i128> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    match value {
        ScalarValue::UInt64(number) => number.map(i128::from),
        ScalarValue::Decimal128(number, _, 0) => *number,
        value if value.data_type().is_integer() => match value.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(number) => number.map(i128::from),
            _ => None,
        },
        _ => None,
    }
}

/// `ORDER BY ... LIMIT` of a sub-query or of a result that is not given whole; `None` for a plan without
/// an order or without an end.
pub(super) fn limited(plan: &LogicalPlan, scope: Scope<'_>) -> Result<Option<Node>> {
    let Some((below, order)) = unsorted(plan)? else {
        return Ok(None);
    };
    if order.fetch.is_none() {
        return Ok(None);
    }
    let node = first_rows(node(&below, scope)?, &order, scope)?;
    let shown = Arc::clone(plan.schema());
    let exprs = node.schema.columns().into_iter().map(Expr::Column);
    let exprs = exprs.take(order.columns).collect();
    project(node, exprs, shown, scope.clock).map(Some)
}

/// The rows of `input` that an order lets through.
pub(super) fn first_rows(input: Node, order: &ResultOrder, scope: Scope<'_>) -> Result<Node> {
    let columns = input.schema.columns();
    let by = order.by.iter().map(|by| {
        let column = Expr::Column(columns[by.column].clone());
        SortExpr::new(column, !by.options.descending, by.options.nulls_first)
    });
    let skip = order.skip as u64;
    let fetch = order.fetch.map_or(u64::MAX, |fetch| fetch as u64);
    let rank = Rank {
        partition: Vec::new(),
        order: by.collect(),
        function: RankFunction::RowNumber,
        ranks: (skip.saturating_add(1), skip.saturating_add(fetch)),
        numbered: false,
        bound: None,
        emit: Emit::Changes,
    };
    rank_node(input, rank, None, scope)
}

/// The plan without ranks that nothing above them asks for.
pub(super) fn unnumbered(mut node: Node) -> Node {
    node.inputs = node.inputs.into_iter().map(unnumbered).collect();
    let Operator::FilterProject {
        filter,
        project: Some(exprs),
    } = &node.operator
    else {
        return node;
    };
    let [input] = node.inputs.as_mut_slice() else {
        return node;
    };
    let Operator::Rank(rank) = &mut input.operator else {
        return node;
    };
    let place = input.schema.fields().len() - 1;
    let number = Column::from(input.schema.qualified_field(place));
    let asks = |expr: &Expr| expr.column_refs().contains(&number);
    if !rank.numbered || filter.iter().chain(exprs).any(asks) {
        return node;
    }
    let fields = input.schema.iter().take(place);
    let fields = fields.map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
    if let Ok(schema) = DFSchema::new_with_metadata(fields.collect(), HashMap::new()) {
        rank.numbered = false;
        input.schema = Arc::new(schema);
        input.columns.truncate(place);
    }
    node
}
