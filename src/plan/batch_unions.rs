//! Unions for the batch answer, of columns that the optimizer knows nothing of.
//!
//! Where a column is constant in each input of a union, and not the same, `DataFusion` sorts each input by the other
//! columns, and for the first rows of all has the inputs share what the last of them is: rows are lost.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::functions::math::expr_fn::random;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};

/// The plan with columns of a union's inputs that nobody can tell to be constant.
pub(super) fn with_unions(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Union(mut union) = node else {
            return Ok(Transformed::no(node));
        };
        for input in &mut union.inputs {
            let columns = input.schema().iter().map(|(relation, field)| {
                let column = Expr::from((relation, field));
                // Of a boolean the optimizer makes an expression that may be null.
                if *field.data_type() == DataType::Boolean {
                    return Ok(column);
                }
                // Always so, but that is not known.
                let hidden = when(random().gt_eq(lit(0.0)), column.clone()).otherwise(column)?;
                Ok(hidden.alias_qualified(relation.cloned(), field.name()))
            });
            let columns = columns.collect::<Result<Vec<Expr>>>()?;
            let plan = LogicalPlanBuilder::from(Arc::clone(input)).project(columns)?;
            *input = Arc::new(plan.build()?);
        }
        Ok(Transformed::yes(LogicalPlan::Union(union)))
    })?;
    Ok(transformed.data)
}
