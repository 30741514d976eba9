//! `AND` and `OR` that compute their right side only on the rows that need it, as Spark does.
//!
//! `DataFusion` computes both sides over the whole batch, which is quicker, and wrong where the left
//! side guards the right: `x <> 0 AND 1 / x > 2` fails on x = 0.

use std::sync::Arc;

use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Literal};

/// The same expression, computed row by row where it says so; `None` where nothing changes.
///
/// A chain is one CASE, so that its parts are computed twice at most, however long it is:
/// `CASE WHEN a IS false THEN false WHEN b IS false THEN false ELSE a AND b END`.
pub fn short_circuit(expression: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let decided = match expression.downcast_ref::<BinaryExpr>().map(BinaryExpr::op) {
        Some(Operator::And) => false,
        Some(Operator::Or) => true,
        _ => return below(expression),
    };
    let op = if decided { Operator::Or } else { Operator::And };
    let mut parts = vec![];
    chain(expression, op, &mut parts);
    let parts = parts
        .into_iter()
        .map(|part| Ok(short_circuit(part)?.unwrap_or_else(|| Arc::clone(part))))
        .collect::<Result<Vec<_>>>()?;
    let decided: Arc<dyn PhysicalExpr> =
        Arc::new(Literal::new(ScalarValue::Boolean(Some(decided))));
    let branches = parts
        .iter()
        .map(|part| {
            let closed = BinaryExpr::new(
                Arc::clone(part),
                Operator::IsNotDistinctFrom,
                Arc::clone(&decided),
            );
            (
                Arc::new(closed) as Arc<dyn PhysicalExpr>,
                Arc::clone(&decided),
            )
        })
        .collect();
    let open = parts
        .into_iter()
        .reduce(|left, right| Arc::new(BinaryExpr::new(left, op, right)));
    Ok(Some(Arc::new(CaseExpr::try_new(None, branches, open)?)))
}

/// The operands of a chain of one operator, from the left.
fn chain<'a>(
    expression: &'a Arc<dyn PhysicalExpr>,
    op: Operator,
    parts: &mut Vec<&'a Arc<dyn PhysicalExpr>>,
) {
    match expression.downcast_ref::<BinaryExpr>() {
        Some(binary) if *binary.op() == op => {
            chain(binary.left(), op, parts);
            chain(binary.right(), op, parts);
        }
        _ => parts.push(expression),
    }
}

fn below(expression: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let mut changed = false;
    let children = expression
        .children()
        .into_iter()
        .map(|child| {
            let lazy = short_circuit(child)?;
            changed |= lazy.is_some();
            Ok(lazy.unwrap_or_else(|| Arc::clone(child)))
        })
        .collect::<Result<Vec<_>>>()?;
    if changed {
        Arc::clone(expression).with_new_children(children).map(Some)
    } else {
        Ok(None)
    }
}
