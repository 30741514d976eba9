//! What there is to say of a join.

use super::{Note, length};
use crate::plan::broadcast::{Layout, layout};
use crate::plan::join::{Join, JoinKind, Kept, is_static};
use crate::plan::lineage::{Below, Naming};
use crate::plan::{Emit, Node, OutputMode, Plan};

/// What it keeps of each input, what is late, and when it gives rows.
pub(super) fn join_notes(plan: &Plan, node: &Node, join: &Join) -> Vec<Note> {
    let below = Below::new(node, Naming::Shown);
    let mut notes = Vec::new();
    let mut late = Vec::new();
    let streaming = |source: usize| plan.sources[source].streaming;
    let sides = node.inputs.iter().zip(&join.sides);
    for (label, (input, side)) in ["left state", "right state"].into_iter().zip(sides) {
        let state = match &side.kept {
            Kept::Not => "none: the other input is all there from the start".to_owned(),
            Kept::Until(moment, more) => {
                let after = match more {
                    0 | 1 => String::new(),
                    more => format!(" + {}", length(*more)),
                };
                let time = below.expression(&moment.time);
                format!("each row until the watermark passes {time}{after}")
            }
            Kept::Forever if is_static(input, &streaming) => "each row: a static table".into(),
            Kept::Forever if plan.mode == OutputMode::Complete => {
                "each row, for ever: complete mode gives the whole result each epoch".into()
            }
            Kept::Forever => "each row, for ever: it grows with the input, as the condition does not say how far apart in event time two rows can be".into(),
        };
        notes.push((label, state));
        if let Some(moment) = &side.late {
            let time = below.expression(&moment.time);
            late.push(match moment.column.lag {
                0 => time,
                lag => format!("{time} + {}", length(lag)),
            });
        }
    }
    let late = match &late[..] {
        [] => "no row is late".to_owned(),
        late => format!(
            "dropped, once the watermark of the epoch before has passed {}",
            late.join(" or ")
        ),
    };
    notes.push(("late rows", late));
    if let Some(layout) = layout(plan, node, join) {
        let most = plan.settings.broadcast_threshold;
        notes.push(("table rows", held(layout, most)));
    }
    let waits = join.sides.iter().enumerate();
    let waits = waits
        .filter(|(side, of)| join.kind.tracks(*side) && of.kept != Kept::Not)
        .count()
        > 0;
    let gives = match (join.kind, join.emit) {
        (JoinKind::Inner, _) => "a pair at once",
        (JoinKind::Semi(_), _) => "a row at once when it has a match",
        _ if !waits => "each row at once",
        (JoinKind::Outer(_), Emit::OnClose) => {
            "a pair at once, a row without a match when it can find none any more"
        }
        (JoinKind::Outer(_), Emit::Changes) => {
            "a pair at once, a row without a match at once, too; it is taken back when it finds one"
        }
        (JoinKind::Anti(_), Emit::OnClose) => "a row when it can find no match any more",
        (JoinKind::Anti(_), Emit::Changes) => {
            "a row without a match at once; it is taken back when it finds one"
        }
        (JoinKind::Mark(_), Emit::OnClose) => {
            "a row when it has a match, or when it can find none any more"
        }
        (JoinKind::Mark(_), Emit::Changes) => "a row at once, and again when that changes",
    };
    notes.push(("gives", gives.into()));
    notes
}

/// Which worker has which rows of a table that rows are looked up in.
fn held(layout: Layout, most: Option<u64>) -> String {
    let limit = most.map_or("-1".into(), size);
    let limit = format!("'autoBroadcastJoinThreshold' is {limit}");
    match layout {
        Layout::WithoutKeys => "each worker has all (broadcast): no key says where they are".into(),
        Layout::Broadcast(bytes) => {
            format!(
                "each worker has all (broadcast): about {}, {limit}",
                size(bytes)
            )
        }
        Layout::Spread(Some(bytes)) => {
            format!(
                "each worker has those of its keys (partitioned): about {}, {limit}",
                size(bytes)
            )
        }
        Layout::Spread(None) => format!(
            "each worker has those of its keys (partitioned): how many there are is not known, {limit}"
        ),
    }
}

/// So many bytes, for people.
fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut units = ["bytes", "KB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while amount >= 1024.0
        && let Some(next) = units.next()
    {
        (amount, unit) = (amount / 1024.0, next);
    }
    let digits = usize::from(amount < 10.0 && amount.fract() > 0.0);
    format!("{amount:.digits$} {unit}")
}
