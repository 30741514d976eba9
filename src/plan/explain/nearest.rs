//! What there is to say of a join with the nearest row.

use super::{Note, length};
use crate::plan::join::{LEFT, Nearest, RIGHT};
use crate::plan::lineage::{Below, Naming};
use crate::plan::{Emit, Node, OutputMode, Plan};

/// What it keeps of each input, what is late, and when it gives rows.
pub(super) fn nearest_notes(plan: &Plan, node: &Node, nearest: &Nearest) -> Vec<Note> {
    let below = Below::new(node, Naming::Shown);
    let times = nearest.times.each_ref().map(|time| below.expression(time));
    let behind = |side: usize, lag: i64| match lag {
        0 => times[side].clone(),
        lag => format!("{} + {}", times[side], length(lag)),
    };
    let late: Vec<String> = [LEFT, RIGHT]
        .into_iter()
        .filter_map(|side| Some(behind(side, nearest.moments[side]?.lag)))
        .collect();
    let late = match &late[..] {
        [] => "no row is late".to_owned(),
        late => format!(
            "dropped, once the watermark of the epoch before has passed {}",
            late.join(" or ")
        ),
    };
    let (left, right) = match (nearest.waits, nearest.lag) {
        (false, _) => (
            "none: the other input is all there from the start".into(),
            "each row: a static table".into(),
        ),
        (true, Some(lag)) if nearest.later => (
            "each row until the watermark passes a later one's time".into(),
            format!("each row until the watermark passes {}", behind(RIGHT, lag)),
        ),
        (true, Some(lag)) => (
            format!("each row until the watermark passes {}", behind(LEFT, lag)),
            format!(
                "each row until the watermark passes {}; the last before that stays",
                behind(RIGHT, lag)
            ),
        ),
        (true, None) => {
            let why = if plan.mode == OutputMode::Complete {
                "complete mode gives the whole result each epoch"
            } else {
                "no watermark says how late a row may be on both sides"
            };
            let each = format!("each row, for ever: {why}");
            (each.clone(), each)
        }
    };
    let gives = match nearest.emit {
        _ if !nearest.waits => "each row at once",
        Emit::OnClose => "each row once, when no nearer one can come any more",
        Emit::Changes => "each row at once; it is taken back when a nearer one comes",
    };
    let which = if nearest.latest.is_empty() {
        "of rows of one time the first in the order of their columns"
    } else {
        "of versions of one time the last to arrive"
    };
    vec![
        ("left state", left),
        ("right state", right),
        ("late rows", late),
        ("takes", which.into()),
        ("gives", gives.into()),
    ]
}
