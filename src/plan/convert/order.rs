//! One order of columns for one text.
//!
//! For `GROUP BY` over an `unnest` (every sliding window) `DataFusion` gives the columns below the
//! `Unnest` in the order of a hash set: another one each time. Processes that plan the same text
//! exchange batches by position, so the order is fixed here, by name, below every aggregate.

use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::DataFusionError;

use super::super::{Node, Operator};
use super::error::{ConvertError, Result};

/// What feeds an aggregate, with its columns in the order of their names where they come out of an
/// `Unnest`: the aggregate finds them by name.
pub(super) fn settled(node: Node) -> Result<Node> {
    if !is_unnest(&node) || !can_reorder(&node) {
        return Ok(node);
    }
    let names = node.schema.columns();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|index| names[*index].flat_name());
    let node = reordered(node, &order).map_err(|source| ConvertError::Expression {
        what: "the columns below an unnest".into(),
        source,
    })?;
    // A projection finds its columns by name, too, so what it stands on has an order of its own.
    let inputs = if is_projection(&node) {
        node.inputs
            .into_iter()
            .map(settled)
            .collect::<Result<_>>()?
    } else {
        node.inputs
    };
    Ok(Node { inputs, ..node })
}

/// An `Unnest` with filters and projections on it.
fn is_unnest(node: &Node) -> bool {
    match &node.operator {
        Operator::Unnest { .. } => true,
        Operator::FilterProject { .. } => node.inputs.iter().all(is_unnest),
        _ => false,
    }
}

fn is_projection(node: &Node) -> bool {
    matches!(
        node.operator,
        Operator::FilterProject {
            project: Some(_),
            ..
        }
    )
}

/// Whether there is a projection to reorder at the end of a chain that keeps positions.
fn can_reorder(node: &Node) -> bool {
    match &node.operator {
        Operator::FilterProject {
            project: Some(_), ..
        } => true,
        Operator::FilterProject { project: None, .. } | Operator::Unnest { .. } => {
            node.inputs.iter().all(can_reorder)
        }
        _ => false,
    }
}

/// Column `order[i]` becomes column `i`, here and in all that keeps positions below.
fn reordered(node: Node, order: &[usize]) -> Result<Node, DataFusionError> {
    let mut inputs = node.inputs;
    let operator = match node.operator {
        Operator::FilterProject {
            filter,
            project: Some(exprs),
        } => Operator::FilterProject {
            filter,
            project: Some(order.iter().map(|index| exprs[*index].clone()).collect()),
        },
        kept => {
            inputs = inputs
                .into_iter()
                .map(|input| reordered(input, order))
                .collect::<Result<_, _>>()?;
            match kept {
                Operator::Unnest { column, keep_empty } => Operator::Unnest {
                    column: order
                        .iter()
                        .position(|index| *index == column)
                        .unwrap_or(column),
                    keep_empty,
                },
                other => other,
            }
        }
    };
    Ok(Node {
        operator,
        inputs,
        schema: permuted(&node.schema, order)?,
        columns: order.iter().map(|index| node.columns[*index]).collect(),
        ..node
    })
}

fn permuted(schema: &DFSchemaRef, order: &[usize]) -> Result<DFSchemaRef, DataFusionError> {
    let fields = order
        .iter()
        .map(|index| {
            let (qualifier, field) = schema.qualified_field(*index);
            (qualifier.cloned(), Arc::clone(field))
        })
        .collect();
    DFSchema::new_with_metadata(fields, schema.metadata().clone()).map(Arc::new)
}
