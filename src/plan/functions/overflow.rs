//! Arithmetic that fails instead of wrapping around, as Spark's does (ANSI).
//!
//! `DataFusion` plans `+`, `-`, `*` and negation so that they wrap; its kernels can do better when asked.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};

/// The expression with all its arithmetic checked: an overflow is an error of the row.
///
/// `schema` is that of the rows that it reads.
pub fn checked(
    expression: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    expression
        .transform_up(|node| {
            if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
                // The least integer has no counterpart: 0 - x fails on it.
                let operand = Arc::clone(negative.arg());
                let data_type = operand.data_type(schema)?;
                if !data_type.is_signed_integer() {
                    return Ok(Transformed::no(node));
                }
                let zero: Arc<dyn PhysicalExpr> =
                    Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
                let strict =
                    BinaryExpr::new(zero, Operator::Minus, operand).with_fail_on_overflow(true);
                return Ok(Transformed::yes(Arc::new(strict)));
            }
            let Some(binary) = node.downcast_ref::<BinaryExpr>() else {
                return Ok(Transformed::no(node));
            };
            if !matches!(
                binary.op(),
                Operator::Plus | Operator::Minus | Operator::Multiply
            ) {
                return Ok(Transformed::no(node));
            }
            let strict = BinaryExpr::new(
                Arc::clone(binary.left()),
                *binary.op(),
                Arc::clone(binary.right()),
            )
            .with_fail_on_overflow(true);
            Ok(Transformed::yes(Arc::new(strict)))
        })
        .data()
}
