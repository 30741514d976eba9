//! Floats for the batch answer: -0.0 is 0.0, and one NaN another, wherever values are compared with each other.
//!
//! `DataFusion` groups and joins so, and tells them apart in window functions, orders and distinct arguments. A stream's keys
//! do not (`crate::row::key`), nor does Spark.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, exec_datafusion_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, SortExpr, Volatility,
};

use crate::row::{has_floats, normalised};

/// The plan with one zero and one NaN in what it compares.
pub(super) fn with_one_zero(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| {
        let sorts = matches!(node, LogicalPlan::Sort(_));
        if !(sorts || matches!(node, LogicalPlan::Window(_) | LogicalPlan::Aggregate(_))) {
            return Ok(Transformed::no(node));
        }
        let names = NamePreserver::new(&node);
        let input = DFSchema::clone(node.inputs()[0].schema());
        node.map_expressions(|expr| {
            if sorts {
                return compared(expr, &input).map(Transformed::yes);
            }
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| call(expr, &input))?;
            Ok(replaced.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(transformed.data)
}

/// A call, with one zero in what it compares.
fn call(expr: Expr, input: &DFSchema) -> Result<Transformed<Expr>> {
    let each = |exprs: &mut Vec<Expr>| -> Result<()> {
        for expr in exprs {
            *expr = compared(expr.clone(), input)?;
        }
        Ok(())
    };
    let order = |order: &mut Vec<SortExpr>| -> Result<()> {
        for by in order {
            by.expr = compared(by.expr.clone(), input)?;
        }
        Ok(())
    };
    match expr {
        Expr::WindowFunction(mut window) => {
            each(&mut window.params.partition_by)?;
            order(&mut window.params.order_by)?;
            Ok(Transformed::yes(Expr::WindowFunction(window)))
        }
        Expr::AggregateFunction(mut aggregate) => {
            if aggregate.params.distinct {
                each(&mut aggregate.params.args)?;
            }
            order(&mut aggregate.params.order_by)?;
            Ok(Transformed::yes(Expr::AggregateFunction(aggregate)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The expression, with one zero where it has floats.
fn compared(expr: Expr, input: &DFSchema) -> Result<Expr> {
    let floats = has_floats(&expr.get_type(input)?);
    Ok(if floats {
        ScalarUDF::from(OneZero::default()).call(vec![expr])
    } else {
        expr
    })
}

/// Its argument with one zero and one NaN.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneZero {
    signature: Signature,
}

impl Default for OneZero {
    fn default() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for OneZero {
    fn name(&self) -> &'static str {
        "one_zero"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns: Vec<ArrayRef> = ColumnarValue::values_to_arrays(&args.args)?;
        let one = normalised(&columns[0]);
        one.map(ColumnarValue::Array)
            .map_err(|error| exec_datafusion_err!("{error}"))
    }
}
