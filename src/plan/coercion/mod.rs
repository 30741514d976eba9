//! Types brought together as Spark does in ANSI mode, before and after `DataFusion`'s own coercion.
//!
//! [`SparkCoercion`] runs first and leaves `DataFusion`'s rule nothing to decide about operators,
//! CASE, IN, BETWEEN, COALESCE and its like, and UNION. What functions ask of their arguments is
//! still `DataFusion`'s. [`SparkCasts`] runs last and gives every cast Spark's meaning. Both leave
//! a plan that they have seen before as it is.

mod expressions;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Union, Values,
};
use datafusion::optimizer::AnalyzerRule;
use tidemark_connectors::format::zone::Zone;

use super::functions::cast::{as_cast, cast_call};
use super::functions::common_type::common_type_of;
use super::sql::type_name;

pub(super) use expressions::compared_as;

/// See the module's header.
#[derive(Debug)]
pub struct SparkCoercion;

impl AnalyzerRule for SparkCoercion {
    fn name(&self) -> &'static str {
        "spark_coercion"
    }

    fn analyze(&self, plan: LogicalPlan, options: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = options.execution.time_zone.as_deref().and_then(Zone::parse);
        let days_are_fixed = matches!(zone, None | Some(Zone::Fixed(_)));
        rewritten(plan, &|expr, schema| {
            expressions::coerced(expr, schema, days_are_fixed)
        })
    }
}

/// See the module's header.
#[derive(Debug)]
pub struct SparkCasts;

impl AnalyzerRule for SparkCasts {
    fn name(&self) -> &'static str {
        "spark_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewritten(plan, &|expr, schema| {
            let (Expr::Cast(_) | Expr::TryCast(_)) = &expr else {
                return Ok(Transformed::no(expr));
            };
            let Some((inner, to, strict)) = as_cast(&expr) else {
                return Ok(Transformed::no(expr));
            };
            let from = inner.get_type(schema)?;
            cast_call(inner.clone(), &from, to, strict).map(Transformed::yes)
        })
    }
}

/// An expression over a schema to another.
type Rewrite<'a> = &'a dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>;

/// The plan with every expression rewritten from its leaves upwards. Columns keep their names.
pub(super) fn rewritten(plan: LogicalPlan, rewrite: Rewrite) -> Result<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|plan| {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            let whole = DFSchema::try_from_qualified_schema(
                scan.table_name.clone(),
                &scan.source.schema(),
            )?;
            schema.merge(&whole);
        }
        let names = NamePreserver::new(&plan);
        let plan = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let done = expr.transform_up(|expr| rewrite(expr, &schema))?;
            // The parameters of lambdas follow the types of the values beside them.
            let done = done.transform_data(|expr| parameters_typed(expr, &schema))?;
            Ok(done.update_data(|expr| name.restore(expr)))
        })?;
        plan.map_data(|plan| match plan {
            LogicalPlan::Union(union) => brought_together(union),
            LogicalPlan::Values(values) => constants(values),
            plan => plan.recompute_schema(),
        })
    })?;
    Ok(done.data)
}

/// The expression with the parameters of its lambdas typed. `DataFusion` leaves the values of the
/// outermost call as they are, and these may be calls with lambdas, too.
fn parameters_typed(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| {
        let Expr::HigherOrderFunction(mut call) = expr else {
            return Ok(Transformed::no(expr));
        };
        let mut changed = false;
        for arg in &mut call.args {
            if !matches!(arg, Expr::Lambda(_)) {
                let done = parameters_typed(std::mem::take(arg), schema)?;
                changed |= done.transformed;
                *arg = done.data;
            }
        }
        let done = Expr::HigherOrderFunction(call).resolve_lambda_variables(schema)?;
        let changed = changed || done.transformed;
        Ok(Transformed::new(
            done.data,
            changed,
            TreeNodeRecursion::Jump,
        ))
    })
}

/// The inputs of a union with the columns of all brought to their common types.
fn brought_together(union: Union) -> Result<LogicalPlan> {
    let width = union.schema.fields().len();
    if union
        .inputs
        .iter()
        .any(|input| input.schema().fields().len() != width)
    {
        // DataFusion says how they differ.
        return Ok(LogicalPlan::Union(union));
    }
    let mut types = Vec::with_capacity(width);
    for column in 0..width {
        let found = (union.inputs.iter()).map(|input| input.schema().field(column).data_type());
        if let Some(data_type) = common_type_of(found.clone()) {
            types.push(data_type);
        } else {
            let found: Vec<String> = found.map(type_name).collect();
            return plan_err!(
                "[INCOMPATIBLE_COLUMN_TYPE] column {} of the UNION is {}; add a CAST",
                column + 1,
                found.join(" and ")
            );
        }
    }
    let inputs = (union.inputs.into_iter())
        .map(|input| as_types(input, &types))
        .collect::<Result<_>>()?;
    let schema = with_types(&union.schema, &types)?;
    Ok(LogicalPlan::Union(Union { inputs, schema }))
}

fn as_types(input: Arc<LogicalPlan>, types: &[DataType]) -> Result<Arc<LogicalPlan>> {
    let given = Arc::clone(input.schema());
    if (given.fields().iter().zip(types)).all(|(field, to)| field.data_type() == to) {
        return Ok(input);
    }
    let columns = (given.iter().zip(types))
        .map(|((qualifier, field), to)| {
            let column = Expr::from((qualifier, field));
            if field.data_type() == to {
                return Ok(column);
            }
            let cast = cast_call(column, field.data_type(), to, true)?;
            Ok(cast.alias_qualified(qualifier.cloned(), field.name()))
        })
        .collect::<Result<Vec<_>>>()?;
    let projected = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?;
    projected.build().map(Arc::new)
}

fn with_types(schema: &DFSchema, types: &[DataType]) -> Result<DFSchemaRef> {
    let fields = (schema.iter().zip(types))
        .map(|((qualifier, field), data_type)| {
            let field = field.as_ref().clone().with_data_type(data_type.clone());
            (qualifier.cloned(), Arc::new(field))
        })
        .collect();
    let metadata = schema.metadata().clone();
    Ok(Arc::new(DFSchema::new_with_metadata(fields, metadata)?))
}

/// Constant rows with each column of one type.
fn constants(mut values: Values) -> Result<LogicalPlan> {
    let nothing = DFSchema::empty();
    let mut types = vec![];
    for column in 0..values.schema.fields().len() {
        let found = (values.values.iter())
            .map(|row| row[column].get_type(&nothing))
            .collect::<Result<Vec<_>>>()?;
        let Some(data_type) = common_type_of(&found) else {
            let found: Vec<String> = found.iter().map(type_name).collect();
            return plan_err!(
                "[INVALID_INLINE_TABLE.INCOMPATIBLE_TYPES_IN_INLINE_TABLE] column {} of the VALUES is {}; add a CAST",
                column + 1,
                found.join(" and ")
            );
        };
        types.push(data_type);
    }
    for row in &mut values.values {
        for (value, to) in row.iter_mut().zip(&types) {
            let from = value.get_type(&nothing)?;
            if from != *to {
                *value = cast_call(value.clone(), &from, to, true)?;
            }
        }
    }
    let fields = (values.schema.fields().iter().zip(&types))
        .map(|(field, to)| Field::new(field.name(), to.clone(), true))
        .collect();
    let metadata = values.schema.metadata().clone();
    values.schema = Arc::new(DFSchema::from_unqualified_fields(fields, metadata)?);
    Ok(LogicalPlan::Values(values))
}
