//! Which columns of the result identify a row.
//!
//! An aggregate has one row for each combination of its keys, so its keys identify a row as long
//! as all of them survive what stands above it. A window of fixed size is known by its start or
//! its end alone, and so is a session of fixed gap.

use datafusion::logical_expr::Expr;

use super::super::event_time::window_base;
use super::super::functions::session::has_constant_gap;
use super::super::{Node, Operator};
use super::error::Result;
use super::fuse::origin;

/// One part of a key: the columns that each say it in full.
type Part = Vec<usize>;

/// The columns of `root` that identify a row; none at all for a result of one row.
pub(super) fn of_result(root: &Node) -> Option<Vec<usize>> {
    let mut key: Vec<usize> = parts(root)?
        .iter()
        .map(|part| part.iter().min().copied())
        .collect::<Option<_>>()?;
    key.sort_unstable();
    key.dedup();
    Some(key)
}

fn parts(node: &Node) -> Option<Vec<Part>> {
    match &node.operator {
        Operator::Aggregate(aggregate) => parts_of_keys(&aggregate.keys, node.inputs.first()?),
        Operator::FilterProject { project: None, .. } => parts(node.inputs.first()?),
        Operator::FilterProject {
            project: Some(exprs),
            ..
        } => {
            let input = node.inputs.first()?;
            parts(input)?
                .iter()
                .map(|part| surviving(part, exprs, input))
                .collect()
        }
        Operator::Source { .. }
        | Operator::Unnest { .. }
        | Operator::Union
        | Operator::SessionWindow(_)
        | Operator::Values { .. } => None,
    }
}

/// The keys; those that are parts of one window of fixed size count as one.
fn parts_of_keys(keys: &[Expr], input: &Node) -> Option<Vec<Part>> {
    let origins: Vec<(Expr, &Node)> = keys
        .iter()
        .map(|key| origin(key.clone(), input))
        .collect::<Result<_>>()
        .ok()?;
    let mut parts: Vec<(Option<&Expr>, Part)> = Vec::new();
    for (index, (key, node)) in origins.iter().enumerate() {
        let window = Some(window_base(key)).filter(|window| is_fixed_window(window, node));
        match parts
            .iter_mut()
            .find(|(of, _)| window.is_some() && *of == window)
        {
            Some((_, part)) => part.push(index),
            None => parts.push((window, vec![index])),
        }
    }
    Some(parts.into_iter().map(|(_, part)| part).collect())
}

/// The columns of a projection that say a part of the key; `None` if there are none.
fn surviving(part: &[usize], exprs: &[Expr], input: &Node) -> Option<Part> {
    let says = |expr: &Expr| {
        let whole = match expr {
            Expr::Alias(alias) => &alias.expr,
            other => other,
        };
        let base = window_base(whole);
        let Expr::Column(column) = base else {
            return false;
        };
        let Some(index) = input.schema.maybe_index_of_column(column) else {
            return false;
        };
        let derived = !matches!(whole, Expr::Column(_));
        part.contains(&index) && (!derived || is_fixed_window(base, input))
    };
    let columns: Part = (0..exprs.len())
        .filter(|index| says(&exprs[*index]))
        .collect();
    (!columns.is_empty()).then_some(columns)
}

/// Whether `expr` over `node` is a window whose start alone says its end.
fn is_fixed_window(expr: &Expr, node: &Node) -> bool {
    match expr {
        Expr::Alias(alias) => is_fixed_window(&alias.expr, node),
        Expr::Column(column) => (node.schema.maybe_index_of_column(column))
            .is_some_and(|index| column_is_fixed_window(node, index)),
        Expr::ScalarFunction(call) => {
            matches!(
                call.func.name(),
                "window" | "__tumbling_window" | "__sliding_windows"
            )
        }
        _ => false,
    }
}

fn column_is_fixed_window(node: &Node, index: usize) -> bool {
    let Some(input) = node.inputs.first() else {
        return false;
    };
    match &node.operator {
        Operator::FilterProject {
            project: Some(exprs),
            ..
        } => exprs
            .get(index)
            .is_some_and(|expr| is_fixed_window(expr, input)),
        Operator::FilterProject { project: None, .. } | Operator::Unnest { .. } => {
            column_is_fixed_window(input, index)
        }
        Operator::Aggregate(aggregate) => aggregate
            .keys
            .get(index)
            .is_some_and(|key| is_fixed_window(key, input)),
        // The sessions of one partition lie apart, so each is known by its start or its end alone.
        // With gaps that differ, a row too late for a session may begin another at its start.
        Operator::SessionWindow(session) if index == input.columns.len() => {
            has_constant_gap(&session.window)
        }
        Operator::SessionWindow(_) => column_is_fixed_window(input, index),
        // The inputs may have windows of different sizes.
        Operator::Union | Operator::Source { .. } | Operator::Values { .. } => false,
    }
}
