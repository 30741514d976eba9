//! `EXPLAIN`: a plan as text.
//!
//! First what the query is to the outside (sink, mode, trigger, checkpoint) and whether its state
//! stays bounded, then its operators as a tree with the result on top: what each keeps, keyed how and until when, what it drops, and
//! whether it ever takes a row back; then what it reads. Secrets are hidden
//! ([`super::redact`]).

mod joins;
mod nearest;
mod ranks;

use std::fmt::Write;

use joins::join_notes;
use nearest::nearest_notes;

use super::join::{self, is_static};
use super::lineage::{Below, Naming, column_texts, columns_read};
use super::modes::{describe_join, describe_nearest};
use super::redact::shown_options;
use super::text::duration;
use super::{
    Aggregate, AggregateCall, AggregateFunction, Bound, Emit, EventTimeColumn, EventTimeKind,
    Known, Node, Operator, OutputMode, Plan, SessionWindow, SourceTable, Trigger, WatermarkPolicy,
};
use ranks::keeps_first;

/// A line below an operator or a source: what it is about, and what there is to say.
type Note = (&'static str, String);

impl Plan {
    /// The plan as text for people.
    pub fn explain(&self) -> String {
        let mut out = format!("Query {}\n", self.name);
        for (label, value) in self.notes() {
            note(&mut out, "  ", label, &value);
        }
        out.push_str("\nOperators, the result first\n");
        tree(self, &self.root, "  ", "  ", &mut out);
        out.push_str(if self.sources.is_empty() {
            "\nNo sources\n"
        } else {
            "\nSources\n"
        });
        for (index, source) in self.sources.iter().enumerate() {
            let _ = writeln!(out, "  {}", source.name);
            for (label, value) in source_notes(source, &columns_read(&self.root, index)) {
                note(&mut out, "    ", label, &value);
            }
        }
        out
    }

    fn notes(&self) -> Vec<Note> {
        let options = shown_options(&self.sink.options);
        let mut sink = format!("{} ({}", self.sink.name, self.sink.connector);
        for option in options {
            sink.push_str(", ");
            sink.push_str(&option);
        }
        let retained = self.settings.min_batches_to_retain;
        let checkpoint = match &self.settings.checkpoint_location {
            Some(place) => format!("{place}; the last {retained} epochs can be restored"),
            None => {
                "none: nothing is kept, a restart begins anew; set 'checkpointLocation' to go on where it ended"
                    .into()
            }
        };
        let key = match &self.key {
            None => "none: the result has no columns that identify a row".into(),
            Some(key) if key.is_empty() => "none needed: the result is one row".into(),
            Some(key) => (key.iter())
                .filter_map(|column| self.schema.fields().get(*column))
                .map(|field| field.name().as_str())
                .collect::<Vec<_>>()
                .join(", "),
        };
        let mut notes = vec![
            ("writes", sink + ")"),
            ("mode", format!("{}: {}", self.mode, self.mode_reason)),
            ("key", key),
            ("trigger", trigger(self.trigger)),
            ("checkpoint", checkpoint),
            ("state", self.state_in_short()),
        ];
        if let Some(order) = &self.order {
            notes.insert(2, ("order", order.by(&self.root) + &order.to_string()));
        }
        if self
            .sources
            .iter()
            .filter(|source| source.watermark.is_some())
            .count()
            > 1
        {
            let policy = match self.settings.watermark_policy {
                WatermarkPolicy::Min => "the slowest source decides",
                WatermarkPolicy::Max => "the fastest source decides",
            };
            notes.push(("watermark", policy.into()));
        }
        if let Some(table) = &self.dead_letter {
            notes.push(("bad rows", format!("go to {}", table.name)));
        }
        let lateness = self.settings.allowed_lateness;
        if !lateness.is_zero() {
            let length = duration(i64::try_from(lateness.as_micros()).unwrap_or(i64::MAX));
            notes.push((
                "lateness",
                format!("rows may come {length} late: what was given is corrected"),
            ));
        }
        if let Some(table) = &self.late_rows {
            notes.push(("late rows", format!("go to {}", table.name)));
        }
        notes
    }
}

impl Plan {
    /// Whether what the query keeps stays bounded, and which operators let it grow.
    fn state_in_short(&self) -> String {
        let mut kept = Kept::default();
        kept.add(self, &self.root);
        match kept.growing.as_slice() {
            [] if let Some(lasting) = kept.lasting.first() => format!(
                "grows with each new key: operator {lasting} keeps its last rows, the watermark passes the others"
            ),
            [] if kept.until_passed => "bounded: what the watermark has passed is forgotten".into(),
            [] if kept.tables => "bounded: the rows of static tables".into(),
            [] if let Some(rows) = kept.rows => format!("bounded: {rows}"),
            [] => "none: every row is done with in its epoch".into(),
            [one] => format!(
                "grows with each new {}: operator {one} forgets nothing",
                kept.of(&self.root)
            ),
            many => {
                let ids: Vec<String> = many.iter().map(ToString::to_string).collect();
                let ids = ids.join(", ");
                format!(
                    "grows with each new {}: operators {ids} forget nothing",
                    kept.of(&self.root)
                )
            }
        }
    }
}

/// What the operators of a plan keep between epochs.
#[derive(Default)]
struct Kept {
    /// Some keep what the watermark has not passed.
    until_passed: bool,
    /// Some keep the rows of static tables.
    tables: bool,
    /// Some keep so many rows: one group, or the first of an order.
    rows: Option<&'static str>,
    /// The operators that keep the last rows of each key.
    lasting: Vec<usize>,
    /// The operators whose state has no end.
    growing: Vec<usize>,
}

impl Kept {
    /// What makes it grow.
    fn of(&self, node: &Node) -> &'static str {
        let joins = |node: &Node| {
            self.growing.contains(&node.id)
                && matches!(node.operator, Operator::Join(_) | Operator::Nearest(_))
        };
        if joins(node) || node.inputs.iter().any(|input| self.of(input) == "row") {
            "row"
        } else {
            "key"
        }
    }

    fn add(&mut self, plan: &Plan, node: &Node) {
        for input in &node.inputs {
            self.add(plan, input);
        }
        match &node.operator {
            Operator::Aggregate(aggregate) => {
                let from_changes = node.inputs.iter().any(|input| !input.append_only);
                let values = |call: &AggregateCall| {
                    !matches!(call.function, AggregateFunction::ApproxCountDistinct { .. })
                        && kept_beside(call, from_changes).is_some()
                };
                if aggregate.bound.is_some() {
                    self.until_passed = true;
                } else if aggregate.keys.is_empty() && !aggregate.calls.iter().any(values) {
                    self.rows.get_or_insert("one row");
                } else {
                    self.growing.push(node.id);
                }
            }
            Operator::SessionWindow(sessions) if sessions.bound.is_some() => {
                self.until_passed = true;
            }
            Operator::SessionWindow(_) => self.growing.push(node.id),
            Operator::Deduplicate(deduplicate) if deduplicate.known != Known::Always => {
                self.until_passed = true;
            }
            Operator::Deduplicate(_) => self.growing.push(node.id),
            Operator::Rank(rank) if rank.bound.is_some() => self.until_passed = true,
            // So many rows of the one partition.
            Operator::Rank(rank) if rank.partition.is_empty() && keeps_first(node, rank) => {
                self.rows = Some("the first rows of an order");
            }
            Operator::Over(over) if over.bound.is_some() => self.until_passed = true,
            Operator::Over(over) if let Some(trailing) = &over.trailing => {
                match (trailing.rows, over.emit) {
                    (Some(0), _) => self.until_passed = true,
                    (Some(_), Emit::OnClose) => self.lasting.push(node.id),
                    _ => self.growing.push(node.id),
                }
            }
            Operator::Rank(_) | Operator::Over(_) => self.growing.push(node.id),
            Operator::Join(join) => {
                let streaming = |source: usize| plan.sources[source].streaming;
                for (input, side) in node.inputs.iter().zip(&join.sides) {
                    match side.kept {
                        join::Kept::Not => {}
                        join::Kept::Until(..) => self.until_passed = true,
                        join::Kept::Forever if is_static(input, &streaming) => {
                            self.tables = true;
                        }
                        join::Kept::Forever => self.growing.push(node.id),
                    }
                }
                self.growing.dedup();
            }
            Operator::Nearest(nearest) if !nearest.waits => self.tables = true,
            Operator::Nearest(nearest) if nearest.lag.is_none() => self.growing.push(node.id),
            // A row without a later one waits.
            Operator::Nearest(nearest) if nearest.later => self.growing.push(node.id),
            Operator::Nearest(_) => {
                self.until_passed = true;
                self.lasting.push(node.id);
            }
            Operator::Source { .. }
            | Operator::FilterProject { .. }
            | Operator::Unnest { .. }
            | Operator::Union
            | Operator::Values { .. } => {}
        }
    }
}

fn note(out: &mut String, indent: &str, label: &str, value: &str) {
    let _ = writeln!(out, "{indent}{label:<11} {value}");
}

fn trigger(trigger: Trigger) -> String {
    let length = |interval: std::time::Duration| {
        duration(i64::try_from(interval.as_micros()).unwrap_or(i64::MAX))
    };
    match trigger {
        Trigger::ProcessingTime(interval) if interval.is_zero() => {
            "an epoch starts as soon as the one before is done".into()
        }
        Trigger::ProcessingTime(interval) => format!("an epoch every {}", length(interval)),
        Trigger::AvailableNow => "all that is there at the start, then the end".into(),
        Trigger::Once => "all that is there at the start, in one epoch, then the end".into(),
        Trigger::Continuous(interval) => {
            format!("continuous, a commit every {}", length(interval))
        }
    }
}

/// The operator on a line, its notes below it, then its inputs.
fn tree(plan: &Plan, node: &Node, first: &str, rest: &str, out: &mut String) {
    let _ = writeln!(out, "{first}{} {}", node.id, headline(plan, node));
    let below = if node.inputs.is_empty() { "  " } else { "│ " };
    for (label, value) in node_notes(plan, node) {
        note(out, &format!("{rest}{below}  "), label, &value);
    }
    for (index, input) in node.inputs.iter().enumerate() {
        let last = index + 1 == node.inputs.len();
        let (branch, stem) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        tree(
            plan,
            input,
            &format!("{rest}{branch}"),
            &format!("{rest}{stem}"),
            out,
        );
    }
}

pub(super) fn headline(plan: &Plan, node: &Node) -> String {
    let below = Below::new(node, Naming::Shown);
    let names = || column_texts(node, Naming::Shown);
    match &node.operator {
        Operator::Source { source, projection } => {
            let table = plan.sources.get(*source);
            let name = table.map_or("?", |table| table.name.as_str());
            let columns: Vec<String> = (projection.iter().zip(names()))
                .map(|(column, name)| {
                    let field = table.and_then(|table| table.schema.fields().get(*column));
                    named(
                        field.map_or("_metadata", |field| field.name()).to_owned(),
                        &name,
                    )
                })
                .collect();
            if columns.is_empty() {
                format!("Source {name}: no columns, only how many rows there are")
            } else {
                format!("Source {name}: {}", columns.join(", "))
            }
        }
        Operator::FilterProject { filter, project } => {
            let project = project.as_ref().map(|exprs| {
                (exprs.iter().zip(names()))
                    .map(|(expr, name)| named(below.expression(expr), &name))
                    .collect::<Vec<_>>()
                    .join(", ")
            });
            match (
                filter.as_ref().map(|filter| below.expression(filter)),
                project,
            ) {
                (Some(filter), Some(project)) => format!("Filter {filter}, then project {project}"),
                (Some(filter), None) => format!("Filter {filter}"),
                (None, project) => format!("Project {}", project.unwrap_or_default()),
            }
        }
        Operator::Unnest { column, keep_empty } => {
            let list = below.texts.get(*column).cloned().unwrap_or_default();
            let name = names()
                .get(*column)
                .map_or(list.clone(), |name| named(list, name));
            let empty = if *keep_empty {
                "; an empty list stays as a null"
            } else {
                ""
            };
            format!("Unnest {name}{empty}")
        }
        Operator::Union => "Union of all rows".into(),
        Operator::Aggregate(aggregate) => {
            let keys = aggregate.keys.iter().map(|key| below.expression(key));
            let calls = aggregate.calls.iter().map(|call| below.aggregate(call));
            let mut all: Vec<String> = keys
                .chain(calls)
                .zip(names())
                .map(|(text, name)| named(text, &name))
                .collect();
            let calls = all.split_off(aggregate.keys.len().min(all.len()));
            let keys = all;
            if aggregate.is_distinct() {
                return format!("Distinct {}", keys.join(", "));
            }
            if keys.is_empty() {
                format!("Aggregate {} over all rows", calls.join(", "))
            } else {
                format!("Aggregate {} by {}", calls.join(", "), keys.join(", "))
            }
        }
        Operator::SessionWindow(session) => {
            let window = below.expression(&session.window);
            let partition: Vec<String> = (session.partition.iter())
                .map(|key| below.expression(key))
                .collect();
            let by = if partition.is_empty() {
                "of all rows".to_owned()
            } else {
                format!("by {}", partition.join(", "))
            };
            match &session.calls {
                None => format!("Sessions {window} {by}"),
                Some(calls) => {
                    let calls: Vec<String> =
                        calls.iter().map(|call| below.aggregate(call)).collect();
                    let what = [&[window], &calls[..]].concat().join(", ");
                    format!("Sessions {what} {by}")
                }
            }
        }
        Operator::Join(join) => describe_join(node, join),
        Operator::Nearest(nearest) => describe_nearest(node, nearest),
        Operator::Deduplicate(deduplicate) => {
            let keys: Vec<String> = (deduplicate.keys.iter())
                .map(|key| below.expression(key))
                .collect();
            let within = match deduplicate.known {
                Known::Within(delay) => format!(" within {}", duration(delay)),
                _ => String::new(),
            };
            format!("First row of each ({}){within}", keys.join(", "))
        }
        Operator::Rank(rank) => {
            let over = rank.over(&|expr| below.expression(expr));
            let number = if rank.numbered { ", with the rank" } else { "" };
            format!("Rows of {over} {}{number}", rank.range())
        }
        Operator::Over(over) => {
            let calls = over.texts(&|expr| below.expression(expr));
            format!("Each row with {}", calls.join(", "))
        }
        Operator::Values { rows } => match rows.len() {
            1 => "Values: 1 row, given in the first epoch".into(),
            count => format!("Values: {count} rows, given in the first epoch"),
        },
    }
}

fn named(expression: String, name: &str) -> String {
    if expression.eq_ignore_ascii_case(name) {
        expression
    } else {
        format!("{expression} AS {name}")
    }
}

fn node_notes(plan: &Plan, node: &Node) -> Vec<Note> {
    let mut notes = Vec::new();
    match &node.operator {
        Operator::Aggregate(aggregate) => notes.extend(state_notes(plan, node, aggregate)),
        Operator::SessionWindow(session) => notes.extend(session_notes(plan, session)),
        Operator::Join(join) => notes.extend(join_notes(plan, node, join)),
        Operator::Nearest(nearest) => notes.extend(nearest_notes(plan, node, nearest)),
        Operator::Deduplicate(deduplicate) => notes.extend(ranks::first_notes(plan, deduplicate)),
        Operator::Rank(rank) => notes.extend(ranks::rank_notes(plan, node, rank)),
        Operator::Over(over) => notes.extend(ranks::over_notes(plan, over)),
        _ => {}
    }
    let names = column_texts(node, Naming::Shown);
    let times: Vec<String> = (node.columns.iter().zip(names))
        .filter_map(|(column, name)| column.map(|column| event_time(&name, column)))
        .collect();
    if !times.is_empty() {
        notes.push(("event time", times.join("; ")));
    }
    let gives = if node.append_only {
        "append-only: no row is ever taken back"
    } else {
        "retracting: rows can be taken back later"
    };
    notes.push(("output", gives.into()));
    notes
}

fn session_notes(plan: &Plan, session: &SessionWindow) -> Vec<Note> {
    let bound = session.bound.map(|column| Bound { key: 0, column });
    let forgets = match bound {
        None => forgets_nothing(plan),
        Some(bound) => format!("a session when the watermark passes {}", end_of(bound)),
    };
    let gives = match session.emit {
        Emit::OnClose if session.calls.is_some() => "a session once, when it is complete",
        Emit::OnClose => "the rows of a session once, when it is complete",
        Emit::Changes if session.calls.is_some() => {
            "each epoch: the sessions that changed, old rows out, new rows in"
        }
        Emit::Changes => "each epoch: rows that came or went, and those whose session changed",
    };
    let state = match &session.calls {
        None => "each row of the sessions that are open",
        Some(_) => "one row for each session that is open",
    };
    vec![
        ("state", state.to_owned()),
        ("forgets", forgets),
        ("late rows", late_rows(bound)),
        ("gives", gives.into()),
    ]
}

fn forgets_nothing(plan: &Plan) -> String {
    if plan.mode == OutputMode::Complete {
        "nothing: complete mode gives the whole result each epoch".to_owned()
    } else {
        "nothing: no key says when a group is complete".to_owned()
    }
}

fn late_rows(bound: Option<Bound>) -> String {
    match bound {
        None => "no row is late".to_owned(),
        Some(bound) => {
            format!(
                "dropped, once the watermark of the epoch before has passed {}",
                end_of(bound)
            )
        }
    }
}

fn state_notes(plan: &Plan, node: &Node, aggregate: &Aggregate) -> Vec<Note> {
    let keys = (column_texts(node, Naming::Shown).into_iter())
        .take(aggregate.keys.len())
        .collect::<Vec<_>>()
        .join(", ");
    let from_changes = node.inputs.iter().any(|input| !input.append_only);
    let mut state = if aggregate.keys.is_empty() {
        "one row".to_owned()
    } else if aggregate.is_distinct() {
        format!("each distinct ({keys})")
    } else {
        format!("one row for each ({keys})")
    };
    state.push_str(&extra_state(aggregate, from_changes));
    let forgets = match aggregate.bound {
        None => forgets_nothing(plan),
        Some(bound) => format!("a group when the watermark passes {}", end_of(bound)),
    };
    let gives = match aggregate.emit {
        Emit::OnClose => "a group once, when it is complete",
        Emit::Changes if node.append_only => "a row at once, when it first appears",
        Emit::Changes => {
            "each epoch, of the groups that changed: the old row taken back, the new one given"
        }
    };
    let input = match (from_changes, aggregate.is_distinct()) {
        (true, true) => "retracting: counts how often each row is there",
        (true, false) => "retracting: each aggregate can take a row back",
        (false, true) => "append-only: a row that came before is passed over",
        (false, false) => "append-only: each aggregate is folded as rows come",
    };
    vec![
        ("state", state),
        ("forgets", forgets),
        ("late rows", late_rows(aggregate.bound)),
        ("gives", gives.into()),
        ("input", input.into()),
    ]
}

/// What an aggregate keeps beside one value a call.
fn extra_state(aggregate: &Aggregate, from_changes: bool) -> String {
    let calls = &aggregate.calls;
    let kept = |(at, call): (usize, &AggregateCall)| {
        let shares = |other: &&AggregateCall| call.counts_same_values(other);
        if calls[..at].iter().any(|other| shares(&other)) {
            return None;
        }
        let kept = kept_beside(call, from_changes)?;
        Some(match calls[at..].iter().skip(1).filter(shares).count() {
            0 => kept,
            1 => format!("{kept} and of another call that counts them"),
            more => format!("{kept} and of {more} more calls that count them"),
        })
    };
    let extra: Vec<String> = calls.iter().enumerate().filter_map(kept).collect();
    if extra.is_empty() {
        String::new()
    } else {
        format!(", with {}", extra.join(", and "))
    }
}

/// What a call keeps beside its value.
fn kept_beside(call: &AggregateCall, from_changes: bool) -> Option<String> {
    use AggregateFunction as Function;
    Some(match call.function {
        Function::CountDistinct => format!("every distinct value of {call}"),
        Function::ApproxCountDistinct { precision } => {
            format!(
                "a sketch of {} registers for {call}",
                1_u32 << precision.min(16)
            )
        }
        Function::Min
        | Function::Max
        | Function::First
        | Function::Last
        | Function::MinBy
        | Function::MaxBy
            if from_changes =>
        {
            format!("every value of {call}, as any of them can be taken back")
        }
        Function::CollectList | Function::ListAgg if !call.distinct => {
            format!("every value of {call}")
        }
        function if call.distinct || function.keeps_values() => {
            format!("every distinct value of {call}")
        }
        _ => return None,
    })
}

fn end_of(bound: Bound) -> String {
    let what = match bound.column.kind {
        EventTimeKind::Instant => "its event time",
        EventTimeKind::WindowEnd
        | EventTimeKind::Window(_)
        | EventTimeKind::Windows(_)
        | EventTimeKind::Session => "its window's end",
        EventTimeKind::WindowStart(size) => {
            return format!(
                "its window's start + {}",
                length(size.saturating_add(bound.column.lag))
            );
        }
    };
    match bound.column.lag {
        0 => what.into(),
        lag => format!("{what} + {}", length(lag)),
    }
}

/// A length in words; what a truncation leaves is said as "just under" the whole, and what goes a little beyond
/// as "just above".
fn length(micros: i64) -> String {
    match (micros.checked_add(1), micros.checked_sub(1)) {
        (_, Some(0)) => "an instant".into(),
        (Some(whole), _) if whole % 1_000 == 0 => format!("just under {}", duration(whole)),
        (_, Some(whole)) if whole % 1_000 == 0 => format!("just above {}", duration(whole)),
        _ => duration(micros),
    }
}

fn event_time(name: &str, column: EventTimeColumn) -> String {
    let kind = match column.kind {
        EventTimeKind::Instant => "a moment".to_owned(),
        EventTimeKind::WindowEnd => "a window's end".to_owned(),
        EventTimeKind::WindowStart(size) => format!("the start of a window of {}", duration(size)),
        EventTimeKind::Window(size) => format!("a window of {}", duration(size)),
        EventTimeKind::Windows(size) => format!("a list of windows of {}", duration(size)),
        EventTimeKind::Session => "a session".to_owned(),
    };
    match column.lag {
        0 => format!("{name}: {kind}, no lag"),
        lag => format!("{name}: {kind}, up to {} behind the watermark", length(lag)),
    }
}

fn source_notes(source: &SourceTable, read: &[usize]) -> Vec<Note> {
    let mut place = source.connector.clone();
    for option in shown_options(&source.options) {
        place.push_str(", ");
        place.push_str(&option);
    }
    let fields = source.schema.fields();
    let name = |column: usize| {
        fields
            .get(column)
            .map_or("_metadata", |field| field.name().as_str())
    };
    let used = read.iter().filter(|column| **column < fields.len()).count();
    let columns: Vec<&str> = read.iter().map(|column| name(*column)).collect();
    let columns = match columns.as_slice() {
        [] => format!("none of its {} columns", fields.len()),
        columns => format!(
            "{} ({used} of {} columns)",
            columns.join(", "),
            fields.len()
        ),
    };
    let mut notes = vec![("connector", place), ("reads", columns)];
    notes.push((
        "watermark",
        match &source.watermark {
            _ if !source.streaming => "none: a static table, read once at the start".into(),
            None => "none".into(),
            Some(watermark) => {
                let delay = i64::try_from(watermark.delay.as_micros()).unwrap_or(i64::MAX);
                let idle = watermark.idle_timeout.map_or(String::new(), |timeout| {
                    let timeout = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
                    format!(
                        "; a partition without data for {} is left out",
                        duration(timeout)
                    )
                });
                format!(
                    "the greatest {} - {}{idle}",
                    name(watermark.column),
                    duration(delay)
                )
            }
        },
    ));
    notes
}
