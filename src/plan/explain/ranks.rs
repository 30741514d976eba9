//! What is said of deduplications and ranks.

use super::super::text::duration;
use super::super::{
    Bound, Deduplicate, Emit, Known, Node, OutputMode, Over, Plan, Rank, RankFunction, Trailing,
};
use super::{Note, end_of, forgets_nothing, late_rows, length};

/// Only the rows are kept that can be given: none of them is ever taken back.
pub(super) fn keeps_first(node: &Node, rank: &Rank) -> bool {
    rank.function == RankFunction::RowNumber && node.inputs.iter().all(|input| input.append_only)
}

pub(super) fn first_notes(plan: &Plan, deduplicate: &Deduplicate) -> Vec<Note> {
    let bound = (deduplicate.time.as_ref()).map(|(_, column)| Bound {
        key: 0,
        column: *column,
    });
    let forgets = match (deduplicate.known, bound) {
        (Known::UntilPassed, Some(bound)) => {
            format!("a key when the watermark passes {}", end_of(bound))
        }
        (Known::Within(delay), Some(bound)) => {
            let lag = bound.column.lag;
            let lag = if lag == 0 {
                String::new()
            } else {
                format!(" + {}", length(lag))
            };
            let delay = duration(delay);
            format!(
                "a key when the watermark passes the event time of its first row + {delay}{lag}"
            )
        }
        _ if bound.is_none() => forgets_nothing(plan),
        _ => "nothing: the event time is no part of the key".into(),
    };
    vec![
        ("state", "each key that has come".into()),
        ("forgets", forgets),
        ("late rows", late_rows(bound)),
        ("gives", "a row at once, when its key first appears".into()),
        (
            "input",
            "append-only: a row whose key is known is passed over".into(),
        ),
    ]
}

pub(super) fn rank_notes(plan: &Plan, node: &Node, rank: &Rank) -> Vec<Note> {
    let append_only = node.inputs.iter().all(|input| input.append_only);
    let last = rank.ranks.1;
    let of = if rank.partition.is_empty() {
        ""
    } else {
        " of each partition"
    };
    let state = match rank.function {
        _ if !append_only => format!("each row{of}"),
        RankFunction::RowNumber if last == 1 => format!("the first row{of}"),
        RankFunction::RowNumber => format!("the first {last} rows{of}"),
        _ => format!("the rows of the first {last} ranks{of}"),
    };
    let gives = match rank.emit {
        Emit::OnClose => "the rows of a partition once, when it is complete",
        Emit::Changes => "each epoch: the rows that came among these ranks or left them",
    };
    let input = if append_only {
        "append-only: a row behind the last rank is forgotten at once"
    } else {
        "retracting: any row may move up"
    };
    vec![
        ("state", state),
        ("forgets", forgets_partitions(plan, rank.bound)),
        ("late rows", late_rows(rank.bound)),
        ("gives", gives.into()),
        ("input", input.into()),
    ]
}

pub(super) fn over_notes(plan: &Plan, over: &Over) -> Vec<Note> {
    let time = over
        .trailing
        .map(|Trailing { column, .. }| Bound { key: 0, column });
    let forgets = match (over.trailing, time) {
        (Some(trailing), Some(time)) => forgets_behind(trailing, time, over.emit),
        _ => forgets_partitions(plan, over.bound),
    };
    let gives = match over.emit {
        Emit::OnClose if over.trailing.is_some() => {
            "a row once, when the watermark passes its event time"
        }
        Emit::OnClose => "the rows of a partition once, when it is complete",
        Emit::Changes => {
            "each epoch: of the partitions that changed, the rows whose results differ"
        }
    };
    vec![
        ("state", "each row".into()),
        ("forgets", forgets),
        ("late rows", late_rows(over.bound.or(time))),
        ("gives", gives.into()),
        (
            "cost",
            "a change computes the rows of its partition anew".into(),
        ),
    ]
}

/// What rows to come do not look back on.
fn forgets_behind(trailing: Trailing, time: Bound, emit: Emit) -> String {
    let range = match trailing.range {
        0 => String::new(),
        range => format!(" + {}", length(range)),
    };
    let passed = format!("a row when the watermark passes {}{range}", end_of(time));
    match (trailing.rows, emit) {
        (Some(0), _) => passed,
        (Some(rows), Emit::OnClose) => {
            format!("{passed}, but for the last {rows} of each partition")
        }
        (Some(_), Emit::Changes) => "nothing: rows to come look back on the last ones".into(),
        (None, _) => "nothing: rows to come look back on all of them".into(),
    }
}

fn forgets_partitions(plan: &Plan, bound: Option<Bound>) -> String {
    match bound {
        None if plan.mode == OutputMode::Complete => forgets_nothing(plan),
        None => "nothing: no partition is ever complete".into(),
        Some(bound) => format!("a partition when the watermark passes {}", end_of(bound)),
    }
}
