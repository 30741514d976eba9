//! Which static tables every worker has in memory whole, and which are spread over the workers by key.
//!
//! A table that a stream is looked up in is given to every worker where it is small: rows of the stream need not
//! move then. Of a larger one, or one of unknown size, each worker has the rows of its keys, and rows of the stream go
//! where theirs are. What is small says `autoBroadcastJoinThreshold` (Spark's `spark.sql.autoBroadcastJoinThreshold`).
//! Nothing in a checkpoint depends on it.

use super::{Join, Node, Operator, Plan};

/// How a join looks rows up in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// There is no key: any row of the stream may meet any row of the table.
    WithoutKeys,
    /// Every worker has the table, which has so many bytes.
    Broadcast(u64),
    /// Each worker has its share of the table, which has so many bytes where that is known.
    Spread(Option<u64>),
}

/// The joins whose tables are spread over the workers, by their ids.
pub fn spread_joins(plan: &Plan) -> Vec<usize> {
    fn visit(plan: &Plan, node: &Node, found: &mut Vec<usize>) {
        node.inputs
            .iter()
            .for_each(|input| visit(plan, input, found));
        if let Operator::Join(join) = &node.operator
            && let Some(Layout::Spread(_)) = layout(plan, node, join)
        {
            found.push(node.id);
        }
    }
    let mut found = Vec::new();
    visit(plan, &plan.root, &mut found);
    found
}

/// The sources that streams are looked up in, whose sizes matter.
pub fn tables_looked_up(plan: &Plan) -> Vec<usize> {
    fn visit(node: &Node, found: &mut Vec<usize>) {
        node.inputs.iter().for_each(|input| visit(input, found));
        if let Operator::Join(join) = &node.operator
            && let Some(side) = join.looked_up()
            && !join.on.is_empty()
        {
            sources(&node.inputs[1 - side], found);
        }
    }
    let mut found = Vec::new();
    visit(&plan.root, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

/// How a join holds its table; `None` where it looks nothing up.
pub(super) fn layout(plan: &Plan, node: &Node, join: &Join) -> Option<Layout> {
    let side = join.looked_up()?;
    if join.on.is_empty() {
        return Some(Layout::WithoutKeys);
    }
    let mut read = Vec::new();
    sources(&node.inputs[1 - side], &mut read);
    // What is filtered or grouped on the way is taken for as much as was read, as nobody knows better.
    let bytes = (read.iter()).try_fold(0_u64, |all, source| {
        Some(all.saturating_add(plan.sources[*source].bytes?))
    });
    Some(match (bytes, plan.settings.broadcast_threshold) {
        (Some(bytes), Some(most)) if bytes <= most => Layout::Broadcast(bytes),
        _ => Layout::Spread(bytes),
    })
}

/// The sources of a node, each as often as it is used.
fn sources(node: &Node, found: &mut Vec<usize>) {
    if let Operator::Source { source, .. } = &node.operator {
        found.push(*source);
    }
    node.inputs.iter().for_each(|input| sources(input, found));
}
