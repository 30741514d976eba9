//! An aggregate of sessions folds its rows as they come, where it can: then a session keeps its
//! accumulators, not its rows.
//!
//! That is possible where no row is ever taken back, which could split a session; where the groups
//! are the sessions, all of them and nothing finer; and where accumulators of two sessions make
//! those of the one that they become.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;

use super::super::functions::session::has_constant_gap;
use super::super::sessions::SESSION_COLUMN;
use super::super::{Aggregate, AggregateCall, AggregateFunction, Node, Operator, SessionWindow};
use super::error::{ConvertError, Result};
use super::fuse::{origin, project};
use super::key::is_end;
use crate::plan::event_time::WallClock;

/// The plan with aggregates of sessions folded into the sessions.
pub(super) fn fold_sessions(mut node: Node, clock: WallClock) -> Result<Node> {
    node.inputs = (node.inputs.into_iter())
        .map(|input| fold_sessions(input, clock))
        .collect::<Result<_>>()?;
    if let Some(folded) = folded(&node)? {
        return Ok(folded);
    }
    // What stands on a projection that was made here becomes one with it.
    match (node.operator, node.inputs.pop()) {
        (
            Operator::FilterProject {
                filter: None,
                project: Some(exprs),
            },
            Some(input),
        ) if is_projection(&input) => project(input, exprs, node.schema, clock),
        (operator, input) => {
            node.operator = operator;
            node.inputs.extend(input);
            Ok(node)
        }
    }
}

fn is_projection(node: &Node) -> bool {
    matches!(
        node.operator,
        Operator::FilterProject {
            project: Some(_),
            ..
        }
    )
}

fn folded(node: &Node) -> Result<Option<Node>> {
    let Operator::Aggregate(aggregate) = &node.operator else {
        return Ok(None);
    };
    let Some((sessions, spec)) = node.inputs.first().and_then(sessions_below) else {
        return Ok(None);
    };
    let (Some(input), Some(below)) = (sessions.inputs.first(), node.inputs.first()) else {
        return Ok(None);
    };
    let over_sessions = |expr: &Expr| origin(expr.clone(), below).map(|(expr, _)| expr);
    let Some(calls) = calls(aggregate, &over_sessions)? else {
        return Ok(None);
    };
    let mut keys = Vec::new();
    for key in &aggregate.keys {
        keys.push(over_sessions(key)?.unalias());
    }
    if !input.append_only || !are_sessions(&keys, spec) {
        return Ok(None);
    }
    let session = input.columns.len();
    let mut fields = Vec::new();
    for (index, key) in spec.partition.iter().enumerate() {
        let at = keys.iter().position(|found| found == key);
        let field = at.map_or(sessions.schema.field(session), |at| node.schema.field(at));
        fields.push(Field::new(
            partition_name(index),
            field.data_type().clone(),
            true,
        ));
    }
    fields.push(sessions.schema.field(session).as_ref().clone());
    for index in aggregate.keys.len()..node.schema.fields().len() {
        let field = node.schema.field(index);
        fields.push(Field::new(
            call_name(index),
            field.data_type().clone(),
            true,
        ));
    }
    let fields = fields.into_iter().map(|field| (None, Arc::new(field)));
    let schema =
        DFSchema::new_with_metadata(fields.collect(), HashMap::new()).map_err(|source| {
            ConvertError::Expression {
                what: "the aggregates of sessions".into(),
                source,
            }
        })?;
    let column = |name: String| Expr::Column(Column::new_unqualified(name));
    let mut exprs: Vec<Expr> = keys
        .into_iter()
        .map(
            |key| match spec.partition.iter().position(|part| *part == key) {
                Some(index) => column(partition_name(index)),
                None => key,
            },
        )
        .collect();
    exprs.extend((aggregate.keys.len()..node.schema.fields().len()).map(|i| column(call_name(i))));
    let mut columns = vec![None; schema.fields().len()];
    columns[spec.partition.len()] = spec.bound;
    let sessions = Node {
        id: 0,
        operator: Operator::SessionWindow(SessionWindow {
            calls: Some(calls),
            ..spec.clone()
        }),
        inputs: sessions.inputs.clone(),
        schema: Arc::new(schema),
        columns,
        append_only: node.append_only,
    };
    Ok(Some(Node {
        id: 0,
        operator: Operator::FilterProject {
            filter: None,
            project: Some(exprs),
        },
        inputs: vec![sessions],
        schema: Arc::clone(&node.schema),
        columns: node.columns.clone(),
        append_only: node.append_only,
    }))
}

fn partition_name(index: usize) -> String {
    format!("__partition_{index}")
}

fn call_name(index: usize) -> String {
    format!("__call_{index}")
}

/// The sessions that a node only projects.
fn sessions_below(node: &Node) -> Option<(&Node, &SessionWindow)> {
    match &node.operator {
        Operator::SessionWindow(sessions) if sessions.calls.is_none() => Some((node, sessions)),
        Operator::FilterProject { filter: None, .. } => sessions_below(node.inputs.first()?),
        _ => None,
    }
}

/// The calls over the rows of sessions; `None` where one of them cannot be folded.
fn calls(
    aggregate: &Aggregate,
    over_sessions: &dyn Fn(&Expr) -> Result<Expr>,
) -> Result<Option<Vec<AggregateCall>>> {
    let mut calls = Vec::new();
    for call in &aggregate.calls {
        let call = AggregateCall {
            args: (call.args.iter())
                .map(over_sessions)
                .collect::<Result<_>>()?,
            order: (call.order.iter())
                .map(|by| Ok(by.with_expr(over_sessions(&by.expr)?)))
                .collect::<Result<_>>()?,
            filter: call.filter.as_ref().map(over_sessions).transpose()?,
            ..call.clone()
        };
        let ordered_by = call.order.iter().map(|by| &by.expr);
        let mut reads = call.args.iter().chain(&call.filter).chain(ordered_by);
        if !folds(&call) || reads.any(uses_session) {
            return Ok(None);
        }
        calls.push(call);
    }
    Ok(Some(calls))
}

/// Whether the accumulators of two groups make those of both; other calls keep values.
fn folds(call: &AggregateCall) -> bool {
    use AggregateFunction as Function;
    match call.function {
        Function::Count
        | Function::Min
        | Function::Max
        | Function::First
        | Function::Last
        | Function::MinBy
        | Function::MaxBy
        | Function::ApproxCountDistinct { .. } => true,
        Function::Sum
        | Function::Avg
        | Function::TrySum
        | Function::TryAvg
        | Function::Statistic(_)
        | Function::Bits(_) => !call.distinct,
        Function::CountDistinct => false,
        values => !values.keeps_values(),
    }
}

fn uses_session(expr: &Expr) -> bool {
    expr.column_refs()
        .iter()
        .any(|column| column.name == SESSION_COLUMN)
}

/// Whether groups of these keys, over the rows of sessions, are the sessions.
fn are_sessions(keys: &[Expr], sessions: &SessionWindow) -> bool {
    let only_session =
        |key: &Expr| (key.column_refs().iter()).all(|column| column.name == SESSION_COLUMN);
    let (of_session, others): (Vec<&Expr>, Vec<&Expr>) =
        keys.iter().partition(|key| uses_session(key));
    let says_which = |key: &&Expr| {
        matches!(key, Expr::Column(_)) || has_constant_gap(&sessions.window) || is_end(key)
    };
    of_session.iter().all(|key| only_session(key))
        && of_session.iter().any(says_which)
        && others.iter().all(|key| sessions.partition.contains(key))
        && sessions.partition.iter().all(|part| others.contains(&part))
}
