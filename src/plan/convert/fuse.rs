//! Filters and projections: adjacent ones become a single [`Operator::FilterProject`] where that
//! changes neither results nor errors and computes nothing twice.

use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, and};

use super::super::event_time::WallClock;
use super::super::{Node, Operator, Supplied, event_time};
use super::error::{ConvertError, Result};
use super::expr::{cannot_fail, is_cheap};

/// Keeps the rows of `input` for which `predicate` is true.
pub(super) fn filter(input: Node, predicate: Expr) -> Result<Node> {
    if let Operator::FilterProject {
        filter: before,
        project,
    } = &input.operator
    {
        let columns = outputs(&input, project.as_deref());
        let used = uses(&predicate, &input)?;
        let cheap = used
            .iter()
            .zip(&columns)
            .all(|(count, column)| *count == 0 || is_cheap(column));
        let inlined = if cheap {
            Some(inline(predicate.clone(), &input, &columns)?)
        } else {
            None
        };
        if let Some(inlined) = inlined
            && (before.is_none() || cannot_fail(&inlined))
        {
            let filter = match before.clone() {
                Some(before) => and(before, inlined),
                None => inlined,
            };
            let operator = Operator::FilterProject {
                filter: Some(filter),
                project: project.clone(),
            };
            return Ok(Node { operator, ..input });
        }
    }
    Ok(Node {
        id: 0,
        schema: Arc::clone(&input.schema),
        columns: input.columns.clone(),
        append_only: input.append_only,
        operator: Operator::FilterProject {
            filter: Some(predicate),
            project: None,
        },
        inputs: vec![input],
    })
}

/// Computes `exprs` from each row of `input`.
pub(super) fn project(
    input: Node,
    exprs: Vec<Expr>,
    schema: DFSchemaRef,
    clock: WallClock,
) -> Result<Node> {
    if is_identity(&exprs, &input) {
        return Ok(renamed(input, schema));
    }
    let columns = (exprs.iter())
        .map(|expr| event_time::of_expression(expr, &input.schema, &input.columns, clock))
        .collect();
    if let Operator::FilterProject {
        filter,
        project: before,
    } = &input.operator
    {
        let given = outputs(&input, before.as_deref());
        let mut counts = vec![0; given.len()];
        for expr in &exprs {
            for (total, count) in counts.iter_mut().zip(uses(expr, &input)?) {
                *total += count;
            }
        }
        if counts
            .iter()
            .zip(&given)
            .all(|(count, column)| *count <= 1 || is_cheap(column))
        {
            let exprs = (exprs.into_iter())
                .map(|expr| inline(expr, &input, &given))
                .collect::<Result<Vec<_>>>()?;
            let operator = Operator::FilterProject {
                filter: filter.clone(),
                project: Some(exprs),
            };
            return Ok(Node {
                operator,
                schema,
                columns,
                ..input
            });
        }
    }
    Ok(Node {
        id: 0,
        schema,
        columns,
        append_only: input.append_only,
        operator: Operator::FilterProject {
            filter: None,
            project: Some(exprs),
        },
        inputs: vec![input],
    })
}

/// The same columns by other names.
pub(super) fn renamed(node: Node, schema: DFSchemaRef) -> Node {
    match node.operator {
        // What stands above resolves against the new names; below, nothing changes.
        Operator::FilterProject { .. }
        | Operator::Source { .. }
        | Operator::Unnest { .. }
        | Operator::Union
        | Operator::Aggregate(_)
        | Operator::SessionWindow(_)
        | Operator::Join(_)
        | Operator::Nearest(_)
        | Operator::Deduplicate(_)
        | Operator::Rank(_)
        | Operator::Over(_)
        | Operator::Values { .. } => Node { schema, ..node },
    }
}

/// Whether the expressions are the columns of `input`, all of them, in order.
fn is_identity(exprs: &[Expr], input: &Node) -> bool {
    exprs.len() == input.columns.len()
        && exprs.iter().enumerate().all(|(index, expr)| match expr {
            Expr::Column(column) => input.schema.maybe_index_of_column(column) == Some(index),
            _ => false,
        })
}

/// What each column of a filter-project is, over its input.
fn outputs(node: &Node, project: Option<&[Expr]>) -> Vec<Expr> {
    match (project, node.inputs.first()) {
        (Some(exprs), _) => exprs.to_vec(),
        (None, Some(input)) => input
            .schema
            .columns()
            .into_iter()
            .map(Expr::Column)
            .collect(),
        (None, None) => Vec::new(),
    }
}

fn unresolved(expr: &Expr) -> impl FnOnce(DataFusionError) -> ConvertError + use<> {
    let what = super::super::text::expression(expr);
    move |source| ConvertError::Expression { what, source }
}

/// How often an expression over `node` uses each of its columns.
fn uses(expr: &Expr, node: &Node) -> Result<Vec<usize>> {
    let mut counts = vec![0; node.schema.fields().len()];
    expr.apply(|part| {
        if let Expr::Column(column) = part
            && Supplied::of(column).is_none()
        {
            counts[node.schema.index_of_column(column)?] += 1;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(unresolved(expr))?;
    Ok(counts)
}

/// The expression over `node`, written over what feeds it.
fn inline(expr: Expr, node: &Node, columns: &[Expr]) -> Result<Expr> {
    let failed = unresolved(&expr);
    expr.transform_down(|part| match &part {
        Expr::Column(column) if Supplied::of(column).is_none() => {
            let index = node.schema.index_of_column(column)?;
            // The replacement speaks of another schema: it is not looked into again.
            Ok(Transformed::new(
                columns[index].clone(),
                true,
                TreeNodeRecursion::Jump,
            ))
        }
        _ => Ok(Transformed::no(part)),
    })
    .map(|inlined| inlined.data.unalias_nested().data)
    .map_err(failed)
}

/// An expression over `node`, written over what lies below the filters and projections on top of
/// it, whatever it costs to compute: to see what it is, not to run it.
pub(super) fn origin(mut expr: Expr, mut node: &Node) -> Result<(Expr, &Node)> {
    while let Operator::FilterProject { project, .. } = &node.operator
        && let Some(input) = node.inputs.first()
    {
        expr = inline(expr, node, &outputs(node, project.as_deref()))?;
        node = input;
    }
    Ok((expr, node))
}
