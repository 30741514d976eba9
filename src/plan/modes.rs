//! What an output mode asks of each operator, and whether the query can honour it.
//!
//! | mode | an aggregate gives | allowed |
//! |---|---|---|
//! | append | a group once, when its bound has passed; `DISTINCT` at once | every group must end |
//! | update, changelog | its changes, each epoch | always |
//! | complete | its changes, each epoch; nothing is late, nothing forgotten | with an aggregate |
//!
//! Sessions are as aggregates: in append mode the rows of a session are given once it is complete. So are
//! the first rows of a partition. A deduplication gives its rows at once; over rows that can be taken
//! back it is the first row of each key by event time.
//! Sessions are as aggregates: in append mode the rows of a session are given once it is complete. A join gives
//! pairs at once in every mode; a row without a match in append mode when it can find none any more, else at
//! once, and takes it back when it finds one.
//! A join with the nearest row gives each row in append mode when no nearer one can come, else at once.
//!
//! Without a mode: append where that is possible, else update.

use std::time::Duration;

use datafusion::logical_expr::{Expr, SortExpr};
use tidemark_connectors::OutputMode;

use super::convert::error::unsupported;
use super::convert::expr::uses_clock;
use super::convert::{ConvertError, Result};
use super::join::{Join, JoinKind, LEFT};
use super::lineage::{Below, Naming};
use super::sql::type_name;
use super::{
    Aggregate, Bound, Deduplicate, Emit, Known, Nearest, Node, Operator, Rank, RankFunction,
    ResultOrder, SourceTable,
};

/// Decides the mode, sets every aggregate's `emit` and `bound` and every node's `append_only`, and
/// says in a sentence why the mode is allowed. `keyed`: the columns of the result identify a row.
pub fn assign(
    root: &mut Node,
    sources: &[SourceTable],
    asked: Option<OutputMode>,
    keyed: bool,
) -> Result<(OutputMode, String)> {
    let (mode, reason) = match asked {
        Some(mode) => (mode, allowed(root, sources, mode)?),
        None => match allowed(root, sources, OutputMode::Append) {
            Ok(reason) => (
                OutputMode::Append,
                format!("not given, so append: {reason}"),
            ),
            Err(ConvertError::Mode {
                operator, reason, ..
            }) => (
                OutputMode::Update,
                format!(
                    "not given; append is not possible for {operator} ({reason}), so the rows that changed are given"
                ),
            ),
            Err(other) => return Err(other),
        },
    };
    settle(root, mode)?;
    check_clock(root, mode, keyed, false)?;
    Ok((mode, reason))
}

/// Whether a result in this order is given whole. Its first rows can be kept up to date instead.
pub fn is_given_whole(order: &ResultOrder, asked: Option<OutputMode>) -> bool {
    order.fetch.is_none() || matches!(asked, None | Some(OutputMode::Complete))
}

/// The mode of a result in an order: complete, in which all of it is there.
pub fn for_order(
    root: &Node,
    order: &ResultOrder,
    asked: Option<OutputMode>,
) -> Result<OutputMode> {
    let what = format!("ORDER BY {}", order.by(root));
    if !has_result(root) {
        return Err(unsupported(
            what,
            "an unbounded result is never all there to be put in order",
            "ask for its first rows with LIMIT, or leave it out and sort when the result is read",
        ));
    }
    match asked {
        None | Some(OutputMode::Complete) => Ok(OutputMode::Complete),
        Some(mode) => Err(ConvertError::Mode {
            mode,
            operator: what,
            reason: "its epochs give only what is new, and never all that would be in order".into(),
            remedy:
                "use 'outputMode' = 'complete', or leave it out and sort when the result is read"
                    .into(),
        }),
    }
}

/// The mode where rows that come late correct what was given: one in which that can be told.
pub fn for_lateness(
    root: &Node,
    asked: Option<OutputMode>,
    lateness: Duration,
) -> Result<Option<OutputMode>> {
    if lateness.is_zero() || !is_stateful(root) {
        return Ok(asked);
    }
    match asked {
        None => Ok(Some(OutputMode::Update)),
        Some(OutputMode::Append) => Err(ConvertError::Mode {
            mode: OutputMode::Append,
            operator: "'allowedLateness'".into(),
            reason: "a row that comes late corrects what was given, and append gives what never changes".into(),
            remedy: "use 'outputMode' = 'update' or 'changelog'; or leave 'allowedLateness' out and give the watermark a longer delay".into(),
        }),
        Some(mode) => Ok(Some(mode)),
    }
}

/// Whether an operator keeps what rows that come late could belong to.
pub fn is_stateful(node: &Node) -> bool {
    let own = matches!(
        node.operator,
        Operator::Aggregate(_)
            | Operator::SessionWindow(_)
            | Operator::Join(_)
            | Operator::Nearest(_)
            | Operator::Deduplicate(_)
            | Operator::Rank(_)
            | Operator::Over(_)
    );
    own || node.inputs.iter().any(is_stateful)
}

/// Whether something says which rows are of the result, rather than each row that is read.
pub fn has_result(node: &Node) -> bool {
    let own = matches!(
        node.operator,
        Operator::Aggregate(_) | Operator::Deduplicate(_) | Operator::Rank(_) | Operator::Over(_)
    );
    own || node.inputs.iter().any(has_result)
}

fn allowed(root: &Node, sources: &[SourceTable], mode: OutputMode) -> Result<String> {
    let aggregates = aggregates(root);
    let all_distinct = aggregates
        .iter()
        .all(|(_, aggregate)| aggregate.calls.is_empty());
    let ranks = has_ranks(root);
    Ok(match mode {
        OutputMode::Append => {
            check_append(root, sources)?;
            if has_sessions(root) {
                "each session is given once, when the watermark says that it is complete".into()
            } else if has_trailing(root) {
                "a row is given once, when the watermark says that all rows before it are there".into()
            } else if ranks {
                "the rows of a partition are given once, when the watermark says that it is complete".into()
            } else if aggregates.is_empty() {
                if has_waiting(root) {
                    "a row is given once, when the watermark says that no nearer one can come".into()
                } else if joins(root).iter().any(|(_, join)| !join.is_final()) {
                    "a pair is given at once, and a row without a match when the watermark says that it will find none".into()
                } else {
                    "no operator ever changes a row that it gave".into()
                }
            } else if all_distinct {
                "a distinct row never changes and is given when it first appears".into()
            } else {
                "each group is given once, when the watermark says that it is complete".into()
            }
        }
        OutputMode::Update if has_sessions(root) || ranks => {
            "each epoch gives the rows that changed".into()
        }
        OutputMode::Update if joins(root).iter().any(|(_, join)| !join.is_final()) => {
            "each epoch gives the rows that changed: a row without a match is taken back when it finds one".into()
        }
        OutputMode::Update if has_waiting(root) => {
            "each epoch gives the rows that changed: a row is taken back when a nearer one comes".into()
        }
        OutputMode::Update if changing(root, sources).is_some() => {
            "each epoch gives the rows that changed: those of a table that is read again are taken back when they have gone from it".into()
        }
        OutputMode::Update if aggregates.is_empty() || (all_distinct && aggregates.len() == 1) => {
            "no operator ever changes a row that it gave, so every row is new, as in append".into()
        }
        OutputMode::Update => "each epoch gives the rows that changed".into(),
        OutputMode::Changelog => "each epoch gives every insertion and retraction".into(),
        OutputMode::Complete if !has_result(root) => {
            return Err(ConvertError::Mode {
                mode,
                operator: "a query without an aggregation".into(),
                reason: "its result grows with every row ever read, and all of it would be written again each epoch".into(),
                remedy: "use 'outputMode' = 'append', or aggregate with GROUP BY".into(),
            });
        }
        OutputMode::Complete => {
            "each epoch gives the whole result; no row is late and no group is forgotten".into()
        }
    })
}

/// All aggregates, those of the inputs first.
fn aggregates(node: &Node) -> Vec<(&Node, &Aggregate)> {
    let mut found: Vec<_> = node.inputs.iter().flat_map(aggregates).collect();
    if let Operator::Aggregate(aggregate) = &node.operator {
        found.push((node, aggregate));
    }
    found
}

/// All joins, those of the inputs first.
fn joins(node: &Node) -> Vec<(&Node, &Join)> {
    let mut found: Vec<_> = node.inputs.iter().flat_map(joins).collect();
    if let Operator::Join(join) = &node.operator {
        found.push((node, join));
    }
    found
}

fn has_sessions(node: &Node) -> bool {
    matches!(node.operator, Operator::SessionWindow(_)) || node.inputs.iter().any(has_sessions)
}

/// Whether window functions look back over rows in the order of event time.
fn has_trailing(node: &Node) -> bool {
    matches!(&node.operator, Operator::Over(over) if over.trailing.is_some())
        || node.inputs.iter().any(has_trailing)
}

/// Whether rows wait for the nearest one.
fn has_waiting(node: &Node) -> bool {
    matches!(&node.operator, Operator::Nearest(nearest) if nearest.waits)
        || node.inputs.iter().any(has_waiting)
}

fn has_ranks(node: &Node) -> bool {
    matches!(node.operator, Operator::Rank(_) | Operator::Over(_))
        || node.inputs.iter().any(has_ranks)
}

/// The first ranks or window functions in partitions that are never complete, as SQL, what can still
/// happen to a row, and what else would help.
fn endless_partitions(node: &Node) -> Option<(String, &'static str, &'static str)> {
    let below = Below::new(node, Naming::Shown);
    let text = |expr: &Expr| below.expression(expr);
    (node.inputs.iter().find_map(endless_partitions)).or_else(|| match &node.operator {
        Operator::Rank(rank) if rank.bound.is_none() => {
            let operator = format!("{} {}", rank.over(&text), rank.range());
            Some((operator, "take the place of one that was given", ""))
        }
        Operator::Over(over) if over.bound.is_none() && over.trailing.is_none() => {
            let operator = over.texts(&text).join(", ");
            Some((
                operator,
                "change the result of one that was given",
                ", or order functions that look back only by an event time with a watermark",
            ))
        }
        _ => None,
    })
}

/// The first join with the nearest row that never is final, as SQL, and why.
fn endless_nearest(node: &Node) -> Option<(String, &'static str)> {
    (node.inputs.iter().find_map(endless_nearest)).or_else(|| match &node.operator {
        Operator::Nearest(nearest) => Some((describe_nearest(node, nearest), nearest.endless()?)),
        _ => None,
    })
}

/// The first table that is read again whose changes change the result. What is looked up in one stays as it was found.
fn changing<'a>(node: &Node, sources: &'a [SourceTable]) -> Option<&'a SourceTable> {
    let looked_up = match &node.operator {
        Operator::Source { source, .. } => {
            return (sources.get(*source)).filter(|table| table.refresh.is_some());
        }
        Operator::Join(join) => join.looked_up(),
        Operator::Nearest(nearest) => (!nearest.waits).then_some(LEFT),
        _ => None,
    };
    match looked_up {
        Some(side) => changing(&node.inputs[side], sources),
        None => (node.inputs.iter()).find_map(|input| changing(input, sources)),
    }
}

/// The first sessions that are never complete.
fn endless_sessions(node: &Node) -> Option<&Node> {
    let below = node.inputs.iter().find_map(endless_sessions);
    below.or(match &node.operator {
        Operator::SessionWindow(session) if session.bound.is_none() => Some(node),
        _ => None,
    })
}

/// In append mode every operator is append-only, so only groups that never end stand in the way, and rows that
/// might find a match for ever.
fn check_append(root: &Node, sources: &[SourceTable]) -> Result<()> {
    if let Some(table) = changing(root, sources) {
        return Err(ConvertError::Mode {
            mode: OutputMode::Append,
            operator: format!("table {}, which is read again ('refreshInterval')", table.name),
            reason: "rows of the result are taken back when rows have gone from it".into(),
            remedy: "join a stream with it, whose rows look up what is there as they come, or use 'outputMode' = 'update'".into(),
        });
    }
    if let Some(node) = endless_sessions(root)
        && let Operator::SessionWindow(session) = &node.operator
    {
        let (reason, remedy) = without_watermark(node, sources);
        return Err(ConvertError::Mode {
            mode: OutputMode::Append,
            operator: Below::new(node, Naming::Shown).expression(&session.window),
            reason,
            remedy,
        });
    }
    if let Some((operator, happens, order)) = endless_partitions(root) {
        return Err(ConvertError::Mode {
            mode: OutputMode::Append,
            operator,
            reason: format!(
                "a row that comes later can {happens}, and no partition is ever complete"
            ),
            remedy: format!(
                "partition by a window of the event time, such as window(ts, '5 minutes'){order}, or use 'outputMode' = 'update'"
            ),
        });
    }
    for (node, join) in joins(root) {
        let Some(side) = join.endless() else { continue };
        return Err(ConvertError::Mode {
            mode: OutputMode::Append,
            operator: describe_join(node, join),
            reason: format!(
                "a row of its {} input without a match could find one at any time, so it never is final",
                ["left", "right"][side]
            ),
            remedy: "say in the condition how far apart in event time the two may be, such as b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR (both tables need a watermark), or use 'outputMode' = 'update'".into(),
        });
    }
    if let Some((operator, reason)) = endless_nearest(root) {
        return Err(ConvertError::Mode {
            mode: OutputMode::Append,
            operator,
            reason: reason.into(),
            remedy: "compare times of tables with a watermark, and look for the nearest earlier row, or use 'outputMode' = 'update'".into(),
        });
    }
    for (node, aggregate) in aggregates(root) {
        if aggregate.bound.is_some() || aggregate.is_distinct() {
            continue;
        }
        let (reason, remedy) = never_complete(node, aggregate, sources);
        return Err(ConvertError::Mode {
            mode: OutputMode::Append,
            operator: describe(node, aggregate),
            reason,
            remedy,
        });
    }
    Ok(())
}

fn never_complete(node: &Node, aggregate: &Aggregate, sources: &[SourceTable]) -> (String, String) {
    let mut below = Vec::new();
    tables(node, &mut below);
    let watermark = below
        .iter()
        .filter_map(|index| sources.get(*index))
        .find_map(|source| {
            let watermark = source.watermark.as_ref().filter(|_| source.streaming)?;
            let column = source.schema.fields().get(watermark.column)?;
            Some((source.name.as_str(), column.name().as_str()))
        });
    match watermark {
        _ if aggregate.keys.is_empty() => (
            "one group of all rows is never complete".into(),
            "group by window(ts, ...), or use 'outputMode' = 'update' or 'complete'".into(),
        ),
        Some((table, column)) => (
            format!(
                "none of its keys carries the event time '{column}' of table {table}, so no group is ever complete"
            ),
            format!(
                "group by window({column}, '5 minutes') as well, or use 'outputMode' = 'update'"
            ),
        ),
        None => {
            let (name, column) = timed_table(&below, sources);
            (
                "append needs a watermark to know when a group is complete, and no table below it has one".into(),
                format!("declare WATERMARK FOR {column} AS {column} - INTERVAL '10' MINUTE on table {name} and group by window({column}, ...), or use 'outputMode' = 'update'"),
            )
        }
    }
}

/// Why sessions are never complete, and what to do.
fn without_watermark(node: &Node, sources: &[SourceTable]) -> (String, String) {
    let mut below = Vec::new();
    tables(node, &mut below);
    let (name, column) = timed_table(&below, sources);
    (
        "append needs a watermark to know when a session is complete, and its time carries none"
            .into(),
        format!(
            "make sessions of a column with WATERMARK FOR {column} AS {column} - INTERVAL '10' MINUTE on table {name}, or use 'outputMode' = 'update'"
        ),
    )
}

/// The first of these tables, and its column that could have a watermark.
fn timed_table<'a>(tables: &[usize], sources: &'a [SourceTable]) -> (&'a str, &'a str) {
    let table = tables.first().and_then(|index| sources.get(*index));
    let name = table.map_or("the table", |table| table.name.as_str());
    (name, table.and_then(time_column).unwrap_or("ts"))
}

/// The first column that could have a watermark.
fn time_column(table: &SourceTable) -> Option<&str> {
    (table.schema.fields().iter())
        .find(|field| type_name(field.data_type()) == "TIMESTAMP")
        .map(|field| field.name().as_str())
}

fn tables(node: &Node, found: &mut Vec<usize>) {
    if let Operator::Source { source, .. } = &node.operator
        && !found.contains(source)
    {
        found.push(*source);
    }
    for input in &node.inputs {
        tables(input, found);
    }
}

/// The aggregate as SQL.
fn describe(node: &Node, aggregate: &Aggregate) -> String {
    let below = Below::new(node, Naming::Shown);
    let keys: Vec<String> = aggregate
        .keys
        .iter()
        .map(|key| below.expression(key))
        .collect();
    let keys = keys.join(", ");
    if aggregate.calls.is_empty() {
        return format!("SELECT DISTINCT {keys}");
    }
    let calls: Vec<String> = aggregate
        .calls
        .iter()
        .map(|call| below.aggregate(call))
        .collect();
    let calls = calls.join(", ");
    if keys.is_empty() {
        format!("SELECT {calls}")
    } else {
        format!("SELECT {calls} GROUP BY {keys}")
    }
}

/// The join as SQL.
pub(super) fn describe_join(node: &Node, join: &Join) -> String {
    let below = Below::new(node, Naming::Shown);
    let keys = join.on.iter().map(|(left, right)| {
        let equal = if join.nulls_match { "<=>" } else { "=" };
        format!(
            "{} {equal} {}",
            below.expression(left),
            below.expression(right)
        )
    });
    let own = join.sides.iter().filter_map(|side| side.condition.as_ref());
    let conditions: Vec<String> = keys
        .chain(own.chain(&join.filter).map(|expr| below.expression(expr)))
        .collect();
    match &conditions[..] {
        [] if join.kind == JoinKind::Inner => "CROSS JOIN".into(),
        [] => format!("{} ON true", join.kind.name()),
        conditions => format!("{} ON {}", join.kind.name(), conditions.join(" AND ")),
    }
}

/// The join with the nearest row as SQL.
pub(super) fn describe_nearest(node: &Node, nearest: &Nearest) -> String {
    let below = Below::new(node, Naming::Shown);
    let pair = |left: &Expr, op: &str, right: &Expr| {
        format!(
            "{} {op} {}",
            below.expression(left),
            below.expression(right)
        )
    };
    let [left, right] = &nearest.times;
    let condition = pair(left, nearest.comparison(), right);
    let on: Vec<String> = (nearest.on.iter())
        .map(|(left, right)| pair(left, "=", right))
        .collect();
    let on = match &on[..] {
        [] => String::new(),
        on => format!(" ON {}", on.join(" AND ")),
    };
    format!("{} MATCH_CONDITION ({condition}){on}", nearest.name())
}

/// Sets `emit`, `bound` and `append_only` from the inputs up.
fn settle(node: &mut Node, mode: OutputMode) -> Result<()> {
    for input in &mut node.inputs {
        settle(input, mode)?;
    }
    let of_inputs = node.inputs.iter().all(|input| input.append_only);
    if let Operator::Deduplicate(deduplicate) = &node.operator
        && !of_inputs
    {
        node.operator = Operator::Rank(first_by_time(deduplicate)?);
    }
    let retracting: Vec<usize> = (0..node.inputs.len())
        .filter(|input| !node.inputs[*input].append_only)
        .collect();
    node.append_only = match &mut node.operator {
        Operator::Aggregate(aggregate) => {
            if mode == OutputMode::Complete {
                aggregate.bound = None;
            }
            let closes = mode == OutputMode::Append && !aggregate.is_distinct();
            aggregate.emit = if closes { Emit::OnClose } else { Emit::Changes };
            closes || (aggregate.is_distinct() && of_inputs)
        }
        Operator::SessionWindow(session) => {
            if mode == OutputMode::Complete {
                session.bound = None;
            }
            let closes = mode == OutputMode::Append;
            session.emit = if closes { Emit::OnClose } else { Emit::Changes };
            closes
        }
        Operator::Rank(rank) => {
            if mode == OutputMode::Complete {
                rank.bound = None;
            }
            let closes = mode == OutputMode::Append;
            rank.emit = if closes { Emit::OnClose } else { Emit::Changes };
            closes
        }
        Operator::Over(over) => {
            if mode == OutputMode::Complete {
                (over.bound, over.trailing) = (None, None);
            }
            let closes = mode == OutputMode::Append;
            over.emit = if closes { Emit::OnClose } else { Emit::Changes };
            closes
        }
        Operator::Deduplicate(deduplicate) => {
            if mode == OutputMode::Complete {
                (deduplicate.time, deduplicate.known) = (None, Known::Always);
            }
            of_inputs
        }
        Operator::Join(join) => {
            if mode == OutputMode::Complete {
                join.keep_all();
            }
            if mode == OutputMode::Append {
                join.emit = Emit::OnClose;
            }
            retracting
                .into_iter()
                .for_each(|side| join.keep_retractable(side));
            // A row that is looked up in a table is not kept: it meets the rows of its epoch, whatever becomes of them.
            let looked_up = join.looked_up().map(|side| node.inputs[side].append_only);
            join.is_final() && looked_up.unwrap_or(of_inputs)
        }
        Operator::Nearest(nearest) => {
            if mode == OutputMode::Complete {
                nearest.keep_all();
            }
            if mode == OutputMode::Append {
                nearest.emit = Emit::OnClose;
            }
            let looked_up = (!nearest.waits).then_some(node.inputs[LEFT].append_only);
            nearest.is_final() && looked_up.unwrap_or(of_inputs)
        }
        // Known since it was made: a table that is read again takes rows back.
        Operator::Source { .. } => node.append_only,
        Operator::FilterProject { .. }
        | Operator::Unnest { .. }
        | Operator::Union
        | Operator::Values { .. } => of_inputs,
    };
    Ok(())
}

/// A deduplication over rows that can be taken back: then the next row takes the place of the first.
fn first_by_time(deduplicate: &Deduplicate) -> Result<Rank> {
    if let Known::Within(_) = deduplicate.known {
        return Err(unsupported(
            "DEDUPLICATE_WITHIN_WATERMARK over rows that can change",
            "a key that is forgotten could not be given to another row when its first row is taken back",
            "deduplicate before the aggregation, or use SELECT DISTINCT ON",
        ));
    }
    let by = |expr: &Expr| SortExpr::new(expr.clone(), true, true);
    let time = deduplicate.time.as_ref();
    let bound = (deduplicate.known == Known::UntilPassed).then(|| {
        let (expr, column) = time?;
        let key = deduplicate.keys.iter().position(|key| key == expr)?;
        Some(Bound {
            key,
            column: *column,
        })
    });
    Ok(Rank {
        partition: deduplicate.keys.clone(),
        order: deduplicate.order.iter().map(by).collect(),
        function: RankFunction::RowNumber,
        ranks: (1, 1),
        numbered: false,
        bound: bound.flatten(),
        emit: Emit::Changes,
    })
}

/// The clock over rows that can be retracted: the retraction would be computed at another time
/// than the row, and would not meet it.
fn check_clock(node: &Node, mode: OutputMode, keyed: bool, state_above: bool) -> Result<()> {
    let stateful = matches!(
        node.operator,
        Operator::Aggregate(_)
            | Operator::SessionWindow(_)
            | Operator::Deduplicate(_)
            | Operator::Rank(_)
            | Operator::Over(_)
            | Operator::Join(_)
            | Operator::Nearest(_)
    );
    if !node.inputs.iter().all(|input| input.append_only) {
        let upserts = mode == OutputMode::Update && keyed && !state_above;
        let offending = match &node.operator {
            Operator::FilterProject { filter, project } => {
                let projected = project.iter().flatten().filter(|_| !upserts);
                filter.iter().chain(projected).find(|expr| uses_clock(expr))
            }
            Operator::Aggregate(aggregate) => {
                let calls = aggregate
                    .calls
                    .iter()
                    .flat_map(|call| call.args.iter().chain(&call.filter));
                aggregate
                    .keys
                    .iter()
                    .chain(calls)
                    .find(|expr| uses_clock(expr))
            }
            Operator::SessionWindow(session) => std::iter::once(&session.window)
                .chain(&session.partition)
                .find(|expr| uses_clock(expr)),
            Operator::Rank(rank) => (rank.partition.iter())
                .chain(rank.order.iter().map(|by| &by.expr))
                .find(|expr| uses_clock(expr)),
            Operator::Nearest(nearest) => (nearest.on.iter())
                .flat_map(|(left, right)| [left, right])
                .chain(&nearest.times)
                .find(|expr| uses_clock(expr)),
            Operator::Join(join) => (join.on.iter())
                .flat_map(|(left, right)| [left, right])
                .chain(join.sides.iter().filter_map(|side| side.condition.as_ref()))
                .find(|expr| uses_clock(expr)),
            _ => None,
        };
        if let Some(expr) = offending {
            return Err(ConvertError::NotSupported {
                operator: format!("{} over rows that can change", Below::new(node, Naming::Shown).expression(expr)),
                reason: format!("in {mode} mode a row is taken back at another time than it was given, and the two would differ"),
                instead: "compute current_timestamp() below the aggregation, such as max(current_timestamp()), or use 'outputMode' = 'append'".into(),
            });
        }
    }
    for input in &node.inputs {
        check_clock(input, mode, keyed, state_above || stateful)?;
    }
    Ok(())
}
