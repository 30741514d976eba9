//! What a plan says about when rows come out, as data that a checkpoint can keep: for whoever asks why
//! nothing does.

use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};
use tidemark_connectors::OutputMode;

use super::explain::headline;
use super::fingerprint::place;
use super::join::{Join, LEFT, RIGHT};
use super::{
    Bound, Emit, EventTimeKind, Node, Operator, Plan, SourceTable, Trigger, WatermarkPolicy,
};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// What the sink is told.
    pub mode: OutputMode,
    /// Where rows go: the table and its place.
    pub sink: String,
    /// The query ends once all is read that was there at its start.
    pub ends: bool,
    /// The fastest source decides about the watermark, not the slowest.
    pub fastest_decides: bool,
    /// What is read, in the order of the plan.
    pub sources: Vec<SourceOutline>,
    /// The operators that leave rows out, keep them or hold them back, those next to the sources first.
    pub operators: Vec<OperatorOutline>,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceOutline {
    /// As SQL calls it.
    pub name: String,
    /// Its connector and where it is.
    pub place: String,
    /// `false`: a static table.
    pub streaming: bool,
    /// The first start reads only what arrives after it.
    pub from_latest: bool,
    /// Its event time, if it has one.
    pub watermark: Option<WatermarkOutline>,
}

/// The event time of a source; lengths in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkOutline {
    /// The column.
    pub column: String,
    /// How far behind the greatest event time the watermark stays.
    pub delay: i64,
    /// After how long without rows a partition stops holding the watermark back.
    pub idle_timeout: Option<i64>,
}

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorOutline {
    /// Its number in the plan.
    pub id: u32,
    /// As `EXPLAIN` shows it.
    pub text: String,
    /// What becomes of rows.
    pub role: Role,
}

/// What an operator does to rows, as far as it can keep them from coming out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Leaves rows out.
    Filter,
    /// Keeps rows, and gives what changes at once.
    AtOnce,
    /// Gives each of these once, when the watermark has passed its end.
    OnClose {
        /// What it is for people: `window`, `session`.
        unit: String,
    },
    /// Pairs rows of two inputs.
    Join {
        /// The sources below each input.
        sources: [Vec<usize>; 2],
        /// Rows without a match are given, too, once they can find none any more.
        unmatched: bool,
    },
}

impl Plan {
    /// See [`Outline`].
    pub fn outline(&self) -> Outline {
        let mut operators = Vec::new();
        collect(self, &self.root, &mut operators);
        Outline {
            mode: self.mode,
            sink: named(
                &self.sink.name,
                &place(&self.sink.connector, &self.sink.options),
            ),
            ends: matches!(self.trigger, Trigger::AvailableNow | Trigger::Once),
            fastest_decides: self.settings.watermark_policy == WatermarkPolicy::Max,
            sources: self.sources.iter().map(source).collect(),
            operators,
        }
    }
}

/// `counts (file, path = out)`.
fn named(name: &str, place: &str) -> String {
    format!("{name} ({place})")
}

fn source(table: &SourceTable) -> SourceOutline {
    let kafka = table.connector.eq_ignore_ascii_case("kafka");
    let from = [
        "startingOffsets",
        "startingOffsetsByTimestamp",
        "startingTimestamp",
    ];
    let watermark = table.watermark.as_ref().filter(|_| table.streaming);
    let micros =
        |length: std::time::Duration| i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
    SourceOutline {
        name: table.name.clone(),
        place: place(&table.connector, &table.options),
        streaming: table.streaming,
        from_latest: kafka
            && from.iter().all(|key| {
                let value = table.options.get(key);
                value.is_none_or(|value| value.eq_ignore_ascii_case("latest"))
            }),
        watermark: watermark.map(|watermark| WatermarkOutline {
            column: (table.schema.fields().get(watermark.column))
                .map_or_else(String::new, |field| field.name().clone()),
            delay: micros(watermark.delay),
            idle_timeout: watermark.idle_timeout.map(micros),
        }),
    }
}

fn collect(plan: &Plan, node: &Node, found: &mut Vec<OperatorOutline>) {
    for input in &node.inputs {
        collect(plan, input, found);
    }
    let closes = |emit: Emit, kind: Option<EventTimeKind>| match (emit, kind) {
        (Emit::OnClose, Some(kind)) => Role::OnClose {
            unit: unit(kind).into(),
        },
        _ => Role::AtOnce,
    };
    let bound = |bound: &Option<Bound>| bound.map(|bound| bound.column.kind);
    let role = match &node.operator {
        Operator::FilterProject {
            filter: Some(filter),
            ..
        } if !matches!(filter, Expr::IsNotNull(_)) => Role::Filter,
        Operator::Aggregate(aggregate) => closes(aggregate.emit, bound(&aggregate.bound)),
        Operator::SessionWindow(sessions) => {
            closes(sessions.emit, sessions.bound.map(|bound| bound.kind))
        }
        Operator::Rank(rank) => closes(rank.emit, bound(&rank.bound)),
        Operator::Over(over) => closes(over.emit, bound(&over.bound)),
        Operator::Deduplicate(_) => Role::AtOnce,
        Operator::Join(join) => Role::Join {
            sources: [LEFT, RIGHT].map(|side| sources_below(&node.inputs[side])),
            unmatched: holds_unmatched(join),
        },
        Operator::Nearest(nearest) => Role::Join {
            sources: [LEFT, RIGHT].map(|side| sources_below(&node.inputs[side])),
            // Its rows wait for a nearer one, as those without a match do for one.
            unmatched: nearest.waits && nearest.emit == Emit::OnClose,
        },
        Operator::Source { .. }
        | Operator::FilterProject { .. }
        | Operator::Unnest { .. }
        | Operator::Union
        | Operator::Values { .. } => return,
    };
    found.push(OperatorOutline {
        id: node.id as u32,
        text: headline(plan, node),
        role,
    });
}

fn holds_unmatched(join: &Join) -> bool {
    join.emit == Emit::OnClose
        && [LEFT, RIGHT]
            .iter()
            .any(|side| join.kind.gives_unmatched(*side))
}

fn unit(kind: EventTimeKind) -> &'static str {
    match kind {
        EventTimeKind::Instant => "group",
        EventTimeKind::Session => "session",
        EventTimeKind::WindowEnd
        | EventTimeKind::WindowStart(_)
        | EventTimeKind::Window(_)
        | EventTimeKind::Windows(_) => "window",
    }
}

fn sources_below(node: &Node) -> Vec<usize> {
    let mut found: Vec<usize> = node.inputs.iter().flat_map(sources_below).collect();
    if let Operator::Source { source, .. } = &node.operator {
        found.push(*source);
    }
    found.sort_unstable();
    found.dedup();
    found
}
