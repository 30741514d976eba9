//! `DataFusion`'s analysed and optimised `LogicalPlan` to a [`Plan`].
//!
//! | module | what it does |
//! |---|---|
//! | `nodes` | each logical operator to ours, or a refusal that says what there is instead |
//! | `fold` | aggregates of sessions, folded into the sessions |
//! | `fuse` | adjacent filters and projections become one operator |
//! | `aggregate` | `GROUP BY`, `DISTINCT` and the aggregates that state can keep |
//! | `expr` | `current_timestamp()` and random values become functions of supplied columns; what no plan can hold is refused |
//! | `join` | joins, and how long their rows are kept |
//! | `nearest` | joins with the nearest row, and how long a row waits for a nearer one |
//! | `sorted` | `ORDER BY` over a whole result |
//! | `rank` | `DISTINCT ON`, the first rows of an order or of each partition |
//! | `trailing` | how far back window functions look |
//! | `order` | one order of columns for one text |
//! | `key` | which columns of the result identify a row |
//!
//! Event time is followed on the way ([`super::event_time`]); then the output mode decides when
//! each operator gives its results ([`super::modes`]).

mod aggregate;
pub(super) mod error;
pub(super) mod expr;
mod fold;
mod fuse;
mod join;
mod key;
mod nearest;
mod nodes;
mod order;
mod rank;
mod sorted;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod trailing;

use std::cell::Cell;
use std::sync::Arc;

use super::catalog::QueryStatement;
use super::event_time::WallClock;
use super::room::with_room;
use super::{Node, Operator, Plan, SinkTable, SourceTable, modes};

pub use error::{ConvertError, Result};

/// Plans a query: what each operator keeps and until when, and what the sink is told.
pub fn plan_query(statement: &QueryStatement) -> Result<Plan> {
    with_room(|| plan_here(statement))
}

fn plan_here(statement: &QueryStatement) -> Result<Plan> {
    let lateness = statement.settings.allowed_lateness;
    let scope = nodes::Scope {
        sources: &statement.sources,
        lateness: i64::try_from(lateness.as_micros()).unwrap_or(i64::MAX),
        clock: WallClock::of(&statement.settings.time_zone),
        draws: &Cell::new(0),
    };
    let sorted = sorted::unsorted(&statement.logical)?;
    let sorted = sorted.filter(|(_, order)| modes::is_given_whole(order, statement.mode));
    let (logical, mut order) = match &sorted {
        Some((logical, order)) => (logical, Some(order.clone())),
        None => (&statement.logical, None),
    };
    let mut root = nodes::node(logical, scope)?;
    if let Some(order) = order.as_mut().filter(|order| order.fetch.is_some())
        && !modes::has_result(&root)
    {
        root = rank::first_rows(root, order, scope)?;
        (order.skip, order.fetch) = (0, None);
    }
    let mut root = rank::unnumbered(root);
    let sources: Vec<SourceTable> = statement.sources.iter().map(source_table).collect();
    let schema = Arc::new(statement.logical.schema().as_arrow().clone());
    let derived = key::of_result(&root);
    // What the result is ordered by may be in the key, and not in the result.
    let derived = derived.filter(|key| key.iter().all(|column| *column < schema.fields().len()));
    let asked = match &order {
        Some(order) => Some(modes::for_order(&root, order, statement.mode)?),
        None => modes::for_lateness(&root, statement.mode, lateness)?,
    };
    let (mode, mode_reason) = modes::assign(&mut root, &sources, asked, derived.is_some())?;
    let mut root = fold::fold_sessions(root, scope.clock)?;
    number(&mut root, &mut 0);
    let key_is_group = statement.primary_key.is_empty() && gives_keys_whole(&root);
    let key = if statement.primary_key.is_empty() {
        derived
    } else {
        Some(statement.primary_key.clone())
    };
    Ok(Plan {
        name: statement.name.clone(),
        sources,
        schema,
        root,
        order,
        sink: statement.sink.clone(),
        mode,
        mode_reason,
        trigger: statement.trigger,
        key,
        key_is_group,
        settings: statement.settings.clone(),
        on_error: statement.on_error,
        dead_letter: statement.dead_letter.as_deref().map(side_table),
        late_rows: statement.late_rows.as_deref().map(side_table),
        logical: statement.logical.clone(),
    })
}

/// Whether all rows of one derived key come from one worker.
///
/// Sessions that fold their groups have them where their partition's rows are, and every key holds
/// the partition. Elsewhere a session is known by its start, while the groups of it also hold its
/// end, which moves and takes the group to another worker.
fn gives_keys_whole(node: &Node) -> bool {
    match &node.operator {
        Operator::FilterProject { .. } => node.inputs.iter().all(gives_keys_whole),
        Operator::SessionWindow(sessions) => sessions.calls.is_some(),
        // Another key than the partition's may move from partition to partition.
        Operator::Rank(rank) => rank.partition.is_empty() || key::is_of_partition(rank),
        Operator::Over(over) => over.partition.is_empty(),
        Operator::Deduplicate(_) => true,
        Operator::Join(_) | Operator::Nearest(_) => false,
        _ => !has_sessions(node),
    }
}

fn has_sessions(node: &Node) -> bool {
    matches!(node.operator, Operator::SessionWindow(_)) || node.inputs.iter().any(has_sessions)
}

fn side_table(table: &super::catalog::CatalogTable) -> SinkTable {
    SinkTable {
        name: table.name.clone(),
        connector: table.connector.clone(),
        options: table.options.clone(),
    }
}

fn source_table(source: &super::catalog::QuerySource) -> SourceTable {
    let table = &source.table;
    SourceTable {
        name: table.name.clone(),
        connector: table.connector.clone(),
        options: table.options.clone(),
        schema: table
            .schema
            .clone()
            .unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty())),
        watermark: table.watermark.clone(),
        streaming: table.streaming,
        refresh: table.refresh,
        bytes: None,
    }
}

/// Dense ids in post-order (invariant 4).
fn number(node: &mut Node, next: &mut usize) {
    for input in &mut node.inputs {
        number(input, next);
    }
    node.id = *next;
    *next += 1;
}
