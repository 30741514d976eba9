//! Which columns of the result identify a row.
//!
//! An aggregate has one row for each combination of its keys, so its keys identify a row as long
//! as all of them survive what stands above it. A window of fixed size is known by its start or
//! its end alone, and so is a session of fixed gap; with gaps that differ a session is known by its end.

use datafusion::logical_expr::{Expr, ExprSchemable};

use super::super::event_time::window_base;
use super::super::functions::cast::as_cast;
use super::super::functions::session::has_constant_gap;
use super::super::join::{Join, JoinKind, LEFT, RIGHT};
use super::super::{Node, Operator, Rank, RankFunction};
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
        Operator::Deduplicate(deduplicate) => of_columns(&deduplicate.keys, node.inputs.first()?),
        Operator::Rank(rank) if is_of_partition(rank) => {
            let mut parts = of_columns(&rank.partition, node.inputs.first()?)?;
            if !rank.is_first() {
                parts.push(vec![node.columns.len() - 1]);
            }
            Some(parts)
        }
        // A row of the first input meets one of the second at most.
        Operator::Nearest(_) | Operator::Rank(_) | Operator::Over(_) => parts(node.inputs.first()?),
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
        Operator::Join(join) => parts_of_join(node, join),
        Operator::Source { .. }
        | Operator::Unnest { .. }
        | Operator::Union
        | Operator::SessionWindow(_)
        | Operator::Values { .. } => None,
    }
}

/// Whether a row of these ranks is known by its partition, with its rank where there are several.
pub(super) fn is_of_partition(rank: &Rank) -> bool {
    rank.is_first() || (rank.numbered && rank.function == RankFunction::RowNumber)
}

/// Keys as the columns of `input` that are computed alike, behind an operator that keeps the columns.
fn of_columns(keys: &[Expr], input: &Node) -> Option<Vec<Part>> {
    let computed = |expr: Expr| origin(expr, input).map(|(expr, _)| expr.unalias()).ok();
    let columns: Vec<Option<Expr>> = (input.schema.columns().into_iter())
        .map(|column| computed(Expr::Column(column)))
        .collect();
    let part = |key: &Expr| {
        let key = computed(key.clone())?;
        let same = |index: &usize| columns[*index].as_ref() == Some(&key);
        let part: Part = (0..columns.len()).filter(same).collect();
        (!part.is_empty()).then_some(part)
    };
    keys.iter().map(part).collect()
}

/// A row of one input that can match one row of the other at most identifies their pair; else both rows do.
fn parts_of_join(node: &Node, join: &Join) -> Option<Vec<Part>> {
    let [left, right] = &node.inputs[..] else {
        return None;
    };
    if let JoinKind::Semi(side) | JoinKind::Anti(side) | JoinKind::Mark(side) = join.kind {
        return parts(&node.inputs[side]);
    }
    let index = |expr: &Expr, input: &Node| match expr {
        Expr::Column(column) => input.schema.maybe_index_of_column(column),
        _ => None,
    };
    let equal: Vec<[usize; 2]> = (join.on.iter())
        .filter_map(|(one, other)| Some([index(one, left)?, index(other, right)?]))
        .collect();
    let of = [parts(left)?, parts(right)?];
    // Whether a row of the other input meets one row of this side at most.
    let is_met_once = |side: usize| {
        let is_equal = |column: &usize| equal.iter().any(|pair| pair[side] == *column);
        of[side].iter().all(|part| part.iter().any(is_equal))
    };
    let preserved = match join.kind {
        JoinKind::Outer(preserved) => preserved,
        _ => [false, false],
    };
    let width = left.columns.len();
    let shifted = |parts: &[Part]| -> Vec<Part> {
        (parts.iter())
            .map(|part| part.iter().map(|column| column + width).collect())
            .collect()
    };
    Some(if !preserved[RIGHT] && is_met_once(RIGHT) {
        of[LEFT].clone()
    } else if !preserved[LEFT] && is_met_once(LEFT) {
        shifted(&of[RIGHT])
    } else {
        [of[LEFT].clone(), shifted(&of[RIGHT])].concat()
    })
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
        let base = window_base(key);
        let window = Some(base).filter(|_| says_window(key, base, node));
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
        // A whole number that does not fit fails, so no two become one.
        let whole = match as_cast(whole) {
            Some((number, to, true)) if to.is_integer() && is_integer(number, input) => number,
            _ => whole,
        };
        let base = window_base(whole);
        let Expr::Column(column) = base else {
            return false;
        };
        let Some(index) = input.schema.maybe_index_of_column(column) else {
            return false;
        };
        let derived = !matches!(whole, Expr::Column(_));
        part.contains(&index) && (!derived || says_window(whole, base, input))
    };
    let columns: Part = (0..exprs.len())
        .filter(|index| says(&exprs[*index]))
        .collect();
    (!columns.is_empty()).then_some(columns)
}

fn is_integer(expr: &Expr, input: &Node) -> bool {
    expr.get_type(&input.schema)
        .is_ok_and(|found| found.is_integer())
}

/// What alone tells a window from the others of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownBy {
    StartOrEnd,
    End,
}

/// Whether `part`, the window `base` over `node` or a field of it, says which window it is.
fn says_window(part: &Expr, base: &Expr, node: &Node) -> bool {
    match window_known_by(base, node) {
        Some(KnownBy::StartOrEnd) => true,
        Some(KnownBy::End) => part == base || is_end(part),
        None => false,
    }
}

/// `window.end`, or a moment that lies a fixed length before it.
pub(super) fn is_end(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_end(&alias.expr),
        Expr::ScalarFunction(call) => match call.func.name() {
            "get_field" => matches!(&call.args[..], [_, Expr::Literal(name, _)]
                if name.try_as_str() == Some(Some("end"))),
            name => matches!(name, "window_time" | "__window_time_ms"),
        },
        _ => false,
    }
}

/// What tells the window `expr` over `node` from others; `None` where both ends are needed.
fn window_known_by(expr: &Expr, node: &Node) -> Option<KnownBy> {
    match expr {
        Expr::Alias(alias) => window_known_by(&alias.expr, node),
        Expr::Column(column) => column_known_by(node, node.schema.maybe_index_of_column(column)?),
        Expr::ScalarFunction(call) => matches!(
            call.func.name(),
            "window" | "__tumbling_window" | "__sliding_windows"
        )
        .then_some(KnownBy::StartOrEnd),
        _ => None,
    }
}

fn column_known_by(node: &Node, index: usize) -> Option<KnownBy> {
    let input = node.inputs.first()?;
    match &node.operator {
        Operator::FilterProject {
            project: Some(exprs),
            ..
        } => window_known_by(exprs.get(index)?, input),
        Operator::FilterProject { project: None, .. } | Operator::Unnest { .. } => {
            column_known_by(input, index)
        }
        Operator::Aggregate(aggregate) => window_known_by(aggregate.keys.get(index)?, input),
        // The open sessions of one partition lie apart, and end after all that are complete. With
        // gaps that differ, a row too late for its session may begin another at the same moment.
        Operator::SessionWindow(session) if index == input.columns.len() => {
            if has_constant_gap(&session.window) {
                Some(KnownBy::StartOrEnd)
            } else {
                Some(KnownBy::End)
            }
        }
        Operator::SessionWindow(_)
        | Operator::Nearest(_)
        | Operator::Deduplicate(_)
        | Operator::Rank(_)
        | Operator::Over(_) => {
            if index < input.columns.len() {
                column_known_by(input, index)
            } else {
                None
            }
        }
        Operator::Join(join) => match join.kind {
            JoinKind::Semi(side) | JoinKind::Anti(side) | JoinKind::Mark(side) => {
                column_known_by(node.inputs.get(side)?, index)
            }
            JoinKind::Inner | JoinKind::Outer(_) => match index.checked_sub(input.columns.len()) {
                Some(index) => column_known_by(node.inputs.get(RIGHT)?, index),
                None => column_known_by(input, index),
            },
        },
        // The inputs may have windows of different sizes.
        Operator::Union | Operator::Source { .. } | Operator::Values { .. } => None,
    }
}
