//! What must stay the same for a checkpoint to be used again.
//!
//! | part | holds |
//! |---|---|
//! | `source N` | connector, place (`path`, `subscribe`, ...), event-time column, columns in use with their types |
//! | `operator N` | keys and aggregates as SQL over the sources' columns, when a group ends, when it is given |
//! | `output mode` | the mode |
//! | `time zone` | the session's, where it is not UTC |
//! | `order` | what the result is ordered by and does not show |
//! | `sink` | connector and place |
//!
//! Not part of it: triggers, limits, other options, filters and projections, delays, and what
//! tables, views and aliases are called.

use std::fmt::Write;

use datafusion::logical_expr::{Expr, ExprSchemable};
use tidemark_connectors::Options;

use super::join::{Join, Kept, Nearest};
use super::lineage::{Below, Naming, column_texts, columns_read};
use super::redact::redact;
use super::sql::{DEFAULT_TIME_ZONE, type_name};
use super::text;
use super::{
    Aggregate, AggregateCall, AggregateFunction, Bound, Deduplicate, Emit, EventTimeKind, Known,
    Node, Operator, Plan, SourceTable, Trailing,
};

/// The options that say where a table is.
const PLACE: [&str; 19] = [
    "path",
    "subscribe",
    "subscribePattern",
    "assign",
    "topic",
    "topics",
    "url",
    "table",
    "dbtable",
    "query",
    "database",
    "host",
    "port",
    "stream",
    "queue",
    "keyspace",
    "collection",
    "bucket",
    "queryName",
];

impl Plan {
    /// The parts of this plan that a checkpoint depends on, by name, in a fixed order.
    ///
    /// Two plans with the same parts can use the same checkpoint; where they differ, the names say
    /// what changed.
    pub fn fingerprint(&self) -> Vec<(String, String)> {
        let mut parts = Vec::new();
        for index in 0..self.sources.len() {
            parts.push((format!("source {index}"), self.source(index)));
        }
        operators(&self.sources, &self.root, &mut parts);
        parts.push(("output mode".into(), self.mode.to_string()));
        // Left out where it is the default, as checkpoints of earlier versions do.
        if self.settings.time_zone != DEFAULT_TIME_ZONE {
            parts.push(("time zone".into(), self.settings.time_zone.clone()));
        }
        if let Some(order) = &self.order {
            let columns = column_texts(&self.root, Naming::Expanded(&self.sources));
            let hidden: Vec<String> = columns.into_iter().skip(order.columns).collect();
            if !hidden.is_empty() {
                parts.push(("order".into(), hidden.join(", ")));
            }
        }
        parts.push((
            "sink".into(),
            place(&self.sink.connector, &self.sink.options),
        ));
        parts
    }

    fn source(&self, index: usize) -> String {
        let table = &self.sources[index];
        let read = columns_read(&self.root, index);
        let columns: Vec<String> = (read.iter())
            .map(|column| match table.schema.fields().get(*column) {
                Some(field) => format!("{} {}", field.name(), type_name(field.data_type())),
                None => "_metadata".into(),
            })
            .collect();
        let watermark = (table.watermark.as_ref().filter(|_| table.streaming))
            .and_then(|watermark| table.schema.fields().get(watermark.column))
            .map_or(String::new(), |field| {
                format!("; event time {}", field.name())
            });
        let kind = match (table.streaming, table.refresh) {
            (true, _) => "",
            (false, None) => "; static",
            (false, Some(_)) => "; static, read again",
        };
        format!(
            "{}{watermark}{kind}; reads {}",
            place(&table.connector, &table.options),
            columns.join(", ")
        )
    }
}

pub(super) fn place(connector: &str, options: &Options) -> String {
    let mut text = connector.to_owned();
    for key in PLACE {
        if let Some(value) = options.get(key) {
            let _ = write!(text, ", {key} = {}", redact(key, value));
        }
    }
    text
}

/// The operators that keep state, in the order of their ids.
fn operators(sources: &[SourceTable], node: &Node, parts: &mut Vec<(String, String)>) {
    for input in &node.inputs {
        operators(sources, input, parts);
    }
    match &node.operator {
        Operator::Aggregate(aggregate) => {
            parts.push((
                format!("operator {}", node.id),
                describe(sources, node, aggregate),
            ));
        }
        Operator::SessionWindow(session) => {
            let below = Below::new(node, Naming::Expanded(sources));
            let partition: Vec<String> = (session.partition.iter())
                .map(|key| below.expression(key))
                .collect();
            let bound = session.bound.map(|column| Bound { key: 0, column });
            let typed = |text: &str, index: usize| {
                let field = node.schema.fields().get(index);
                format!(
                    "{text} {}",
                    field.map_or(String::new(), |f| type_name(f.data_type()))
                )
            };
            let held: Vec<String> = match &session.calls {
                None => (below.texts.iter().enumerate())
                    .map(|(index, text)| typed(text, index))
                    .collect(),
                Some(calls) => (calls.iter().zip(session.partition.len() + 1..))
                    .map(|(call, index)| typed(&below.aggregate(call), index) + &precision(call))
                    .collect(),
            };
            parts.push((
                format!("operator {}", node.id),
                format!(
                    "sessions {} by [{}] of [{}], {}, {}",
                    below.expression(&session.window),
                    partition.join(", "),
                    held.join(", "),
                    bound.map_or("never complete".to_owned(), end),
                    gives(session.emit),
                ),
            ));
        }
        Operator::Deduplicate(deduplicate) => {
            let below = Below::new(node, Naming::Expanded(sources));
            let typed = |key: &Expr| match key.get_type(&node.schema) {
                Ok(found) => format!("{} {}", below.expression(key), type_name(&found)),
                Err(_) => below.expression(key),
            };
            let keys: Vec<String> = deduplicate.keys.iter().map(typed).collect();
            let known = match deduplicate.known {
                Known::Always => "never forgotten".to_owned(),
                Known::UntilPassed => {
                    format!("forgotten with {}", event_time_of(deduplicate, &below))
                }
                Known::Within(_) => {
                    format!(
                        "forgotten within the watermark of {}",
                        event_time_of(deduplicate, &below)
                    )
                }
            };
            parts.push((
                format!("operator {}", node.id),
                format!("first of [{}], {known}", keys.join(", ")),
            ));
        }
        Operator::Rank(rank) => {
            let below = Below::new(node, Naming::Expanded(sources));
            let fields = node.inputs.iter().flat_map(|input| input.schema.fields());
            let held: Vec<String> = (below.texts.iter().zip(fields))
                .map(|(text, field)| format!("{text} {}", type_name(field.data_type())))
                .collect();
            let retractions = if node.inputs.iter().all(|input| input.append_only) {
                "append-only input"
            } else {
                "retracting input"
            };
            parts.push((
                format!("operator {}", node.id),
                format!(
                    "{} {} of [{}], {}, {}, {retractions}",
                    rank.over(&|expr| below.expression(expr)),
                    rank.range(),
                    held.join(", "),
                    rank.bound.map_or("never complete".to_owned(), end),
                    gives(rank.emit),
                ),
            ));
        }
        Operator::Over(over) => {
            let below = Below::new(node, Naming::Expanded(sources));
            let calls = over.texts(&|expr| below.expression(expr));
            let typed: Vec<String> = (below.texts.iter().chain(&calls))
                .zip(node.schema.fields())
                .map(|(text, field)| format!("{text} {}", type_name(field.data_type())))
                .collect();
            parts.push((
                format!("operator {}", node.id),
                format!(
                    "over [{}], {}, {}",
                    typed.join(", "),
                    match (over.bound, over.trailing) {
                        (Some(bound), _) => end(bound),
                        (None, Some(trailing)) => {
                            let Trailing {
                                column,
                                rows,
                                range,
                            } = trailing;
                            format!("lag {}, looks back {rows:?} rows, {range}", column.lag)
                        }
                        (None, None) => "never complete".to_owned(),
                    },
                    gives(over.emit),
                ),
            ));
        }
        Operator::Nearest(nearest) => {
            parts.push((
                format!("operator {}", node.id),
                of_nearest(sources, node, nearest),
            ));
        }
        Operator::Join(join) => {
            parts.push((
                format!("operator {}", node.id),
                of_join(sources, node, join),
            ));
        }
        // The one-time rows of a query come out only in its first epoch.
        Operator::Values { rows } if !rows.is_empty() => {
            let rows: Vec<String> = rows
                .iter()
                .map(|row| format!("({})", text::list(row)))
                .collect();
            parts.push((
                format!("operator {}", node.id),
                format!("values {}", rows.join(", ")),
            ));
        }
        Operator::Source { .. }
        | Operator::FilterProject { .. }
        | Operator::Unnest { .. }
        | Operator::Union
        | Operator::Values { .. } => {}
    }
}

/// What says when a key is forgotten.
fn event_time_of(deduplicate: &Deduplicate, below: &Below<'_>) -> String {
    let time = deduplicate.time.as_ref();
    time.map_or(String::new(), |(expr, column)| {
        let kind = of_kind(column.kind);
        format!("{} ({kind}, lag {})", below.expression(expr), column.lag)
    })
}

fn of_nearest(sources: &[SourceTable], node: &Node, nearest: &Nearest) -> String {
    let below = Below::new(node, Naming::Expanded(sources));
    let pair = |left: &Expr, op: &str, right: &Expr| {
        format!(
            "{} {op} {}",
            below.expression(left),
            below.expression(right)
        )
    };
    let [left, right] = &nearest.times;
    let on: Vec<String> = (nearest.on.iter())
        .map(|(left, right)| pair(left, "=", right))
        .collect();
    let fields = node.inputs.iter().flat_map(|input| input.schema.fields());
    let held: Vec<String> = (below.texts.iter().zip(fields))
        .map(|(text, field)| format!("{text} {}", type_name(field.data_type())))
        .collect();
    let kept = match nearest.lag {
        _ if !nearest.waits => "not waiting".to_owned(),
        None => "kept".to_owned(),
        Some(lag) => format!("lag {lag}"),
    };
    format!(
        "{} {} on [{}] of [{}], {}, {kept}, {}",
        nearest.name(),
        pair(left, nearest.comparison(), right),
        on.join(", "),
        held.join(", "),
        if nearest.latest.is_empty() {
            "the first"
        } else {
            "the last to arrive"
        },
        gives(nearest.emit),
    )
}

fn of_join(sources: &[SourceTable], node: &Node, join: &Join) -> String {
    let below = Below::new(node, Naming::Expanded(sources));
    let equal = if join.nulls_match { "<=>" } else { "=" };
    let on: Vec<String> = (join.on.iter())
        .map(|(left, right)| {
            format!(
                "{} {equal} {}",
                below.expression(left),
                below.expression(right)
            )
        })
        .collect();
    let condition = |expr: &Option<Expr>| {
        (expr.as_ref()).map_or("true".to_owned(), |expr| below.expression(expr))
    };
    // Rows are kept in the order of these.
    let by_time = join.within.as_ref().map_or(String::new(), |within| {
        let [left, right] = within
            .moments
            .each_ref()
            .map(|of| below.expression(&of.time));
        format!(", in the order of {left} and {right}")
    });
    let sides = node.inputs.iter().zip(&join.sides).map(|(input, side)| {
        let columns: Vec<String> = (column_texts(input, Naming::Expanded(sources)).iter())
            .zip(input.schema.fields())
            .map(|(text, field)| format!("{text} {}", type_name(field.data_type())))
            .collect();
        let kept = match &side.kept {
            Kept::Not => "not kept".to_owned(),
            Kept::Forever => "kept".to_owned(),
            Kept::Until(moment, more) => format!(
                "kept until {} ({}) and {more} more",
                below.expression(&moment.time),
                of_kind(moment.column.kind)
            ),
        };
        format!(
            "[{}] where {}, {kept}",
            columns.join(", "),
            condition(&side.condition)
        )
    });
    let sides: Vec<String> = sides.collect();
    let retracting: Vec<&str> = (node.inputs.iter())
        .map(|input| {
            if input.append_only {
                "append-only"
            } else {
                "retracting"
            }
        })
        .collect();
    format!(
        "{} on [{}] and {}{by_time}: {}, {}, {} input",
        join.kind.name(),
        on.join(", "),
        condition(&join.filter),
        sides.join(" with "),
        gives(join.emit),
        retracting.join(" and ")
    )
}

fn describe(sources: &[SourceTable], node: &Node, aggregate: &Aggregate) -> String {
    let below = Below::new(node, Naming::Expanded(sources));
    let typed = |text: String, index: usize| match node.schema.fields().get(index) {
        Some(field) => format!("{text} {}", type_name(field.data_type())),
        None => text,
    };
    let keys: Vec<String> = (aggregate.keys.iter().enumerate())
        .map(|(index, key)| typed(below.expression(key), index))
        .collect();
    let calls: Vec<String> = (aggregate.calls.iter().enumerate())
        .map(|(index, call)| typed(below.aggregate(call), keys.len() + index) + &precision(call))
        .collect();
    let retractions = if node.inputs.iter().all(|input| input.append_only) {
        "append-only input"
    } else {
        "retracting input"
    };
    format!(
        "aggregate [{}] by [{}], {}, {}, {retractions}",
        calls.join(", "),
        keys.join(", "),
        aggregate.bound.map_or("never complete".to_owned(), end),
        gives(aggregate.emit)
    )
}

/// What the state of a call depends on beside its text.
fn precision(call: &AggregateCall) -> String {
    match call.function {
        AggregateFunction::ApproxCountDistinct { precision } => format!(" precision {precision}"),
        _ => String::new(),
    }
}

fn gives(emit: Emit) -> &'static str {
    match emit {
        Emit::Changes => "gives changes",
        Emit::OnClose => "gives complete groups",
    }
}

fn end(bound: Bound) -> String {
    format!(
        "complete by key {} ({}, lag {})",
        bound.key,
        of_kind(bound.column.kind),
        bound.column.lag
    )
}

fn of_kind(kind: EventTimeKind) -> String {
    match kind {
        EventTimeKind::Instant => "instant".to_owned(),
        EventTimeKind::WindowEnd => "window end".to_owned(),
        EventTimeKind::WindowStart(size) => format!("window start of size {size}"),
        EventTimeKind::Window(size) | EventTimeKind::Windows(size) => {
            format!("window of size {size}")
        }
        EventTimeKind::Session => "session".to_owned(),
    }
}
