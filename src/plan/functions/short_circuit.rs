//! `AND` and `OR` that compute their right side only on the rows that need it, as Spark does.
//!
//! `DataFusion` computes both sides over the whole batch, which is quicker, and wrong where the left
//! side guards the right: `x <> 0 AND 1 / x > 2` fails on x = 0.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Literal};

/// The same expression, computed row by row where it says so; `None` where nothing changes.
pub fn short_circuit(expression: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let lazy = Arc::clone(expression).transform_up(|node| {
        let Some(binary) = node.downcast_ref::<BinaryExpr>() else {
            return Ok(Transformed::no(node));
        };
        let decided = match binary.op() {
            Operator::And => false,
            Operator::Or => true,
            _ => return Ok(Transformed::no(node)),
        };
        // CASE WHEN left IS DISTINCT FROM decided THEN left AND right ELSE decided END
        let decided: Arc<dyn PhysicalExpr> =
            Arc::new(Literal::new(ScalarValue::Boolean(Some(decided))));
        let open = BinaryExpr::new(
            Arc::clone(binary.left()),
            Operator::IsDistinctFrom,
            Arc::clone(&decided),
        );
        let case = CaseExpr::try_new(
            None,
            vec![(Arc::new(open), Arc::clone(&node))],
            Some(decided),
        )?;
        Ok(Transformed::yes(Arc::new(case)))
    })?;
    Ok(lazy.transformed.then_some(lazy.data))
}
