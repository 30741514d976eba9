//! `DataFusion` set up for us: which functions there are, what operators mean, which rules the
//! optimiser applies.
//!
//! Names: inside a plan every name is in lower case, because Spark's names resolve without case.
//! Schemas are lowered as tables enter ([`StreamTable`]), unquoted names by `DataFusion`, quoted
//! ones by our tokens; the result's columns get their spelling back at the very end
//! (`sql::names`). Fields of structs keep their spelling and are looked up without case here.
//!
//! The optimiser's rules are an explicit list: only those that leave the shape of state alone. In
//! particular `count(DISTINCT ..)` stays one call, and `SELECT DISTINCT` becomes an `Aggregate`
//! without calls.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, DataFusionError, Diagnostic, Result, Spans, TableReference,
    plan_datafusion_err, plan_err,
};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::functions::expr_fn::get_field;
use datafusion::logical_expr::expr::{
    AggregateFunction, AggregateFunctionParams, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr,
    RawFieldAccessExpr, RawWindowExpr, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Distinct, Expr, ExprSchemable, GetFieldAccess, HigherOrderUDF,
    LogicalPlan, Operator, ScalarUDF, TableSource, WindowUDF, binary_expr, cast,
};
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use tidemark_connectors::METADATA_COLUMN;

use super::batch_joins::NullsOfJoins;
use super::catalog::CatalogTable;
use super::coercion::{SparkCasts, SparkCoercion, compared_as};
use super::functions;
use super::functions::arithmetic::{self, Op};
use super::grouping_sets::ExpandGroupingSets;
use super::held_back::{CommonParts, PushDown};
use super::sql::generate::GeneratorPlanner;
use super::sql::literals::typed_literal;
use super::sql::types::{SparkTypePlanner, type_name};

/// What [`evaluation_options`] gives, as operators hand it around.
pub type EvaluationOptions = Arc<ConfigOptions>;

/// What expressions are computed with: functions find the session's time zone, and that failures
/// are errors, in their `config_options.execution`.
pub fn evaluation_options(time_zone: &str) -> ConfigOptions {
    let mut options = ConfigOptions::new();
    options.execution.time_zone = Some(time_zone.to_owned());
    options.execution.enable_ansi_mode = true;
    options
}

/// Functions of `DataFusion` that are none here. `array_sort` takes a lambda, and a scalar function
/// of its name would be found first; `_metadata.file_path` names the file of a row; the others give
/// a TIME, a type that there is not.
const NOT_SPARKS: [&str; 6] = [
    "array_sort",
    "current_time",
    "input_file_name",
    "make_time",
    "time_trunc",
    "to_time",
];

/// `DataFusion`'s state with our functions, operators and rules.
pub fn session_state(time_zone: &str) -> SessionState {
    let mut config = SessionConfig::from(evaluation_options(time_zone))
        .with_target_partitions(1)
        .with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.default_null_ordering = "nulls_min".into();
    options.optimizer.skip_failed_rules = false;
    options
        .optimizer
        .enable_physical_uncorrelated_scalar_subquery = false;
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_analyzer_rules(analyzer_rules())
        .with_optimizer_rules(optimizer_rules())
        .with_physical_optimizer_rules(physical_rules())
        .with_type_planner(Arc::new(SparkTypePlanner));
    // The first planner that knows an operator decides; the last function of a name stays.
    let planners = builder.expr_planners().get_or_insert_with(Vec::new);
    planners.insert(0, Arc::new(SparkOperators));
    planners.insert(1, Arc::new(datafusion_spark::planner::SparkFunctionPlanner));
    let aggregates = builder.aggregate_functions().get_or_insert_with(Vec::new);
    aggregates.extend(datafusion_spark::all_default_aggregate_functions());
    aggregates.extend(functions::aggregate_functions());
    let scalars = builder.scalar_functions().get_or_insert_with(Vec::new);
    scalars.extend(datafusion_spark::all_default_scalar_functions());
    scalars.retain(|function| !NOT_SPARKS.contains(&function.name()));
    scalars.extend(functions::scalar_functions());
    let higher_order = builder
        .higher_order_functions()
        .get_or_insert_with(Vec::new);
    higher_order.extend(functions::higher_order_functions());
    builder.build()
}

/// `DataFusion`'s rules between ours, which have the last word on types.
fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(SparkCoercion),
        Arc::new(TypeCoercion::new()),
        Arc::new(ExpandGroupingSets),
        Arc::new(functions::aggregates::order::OrderOfRows),
        Arc::new(SparkCasts),
    ]
}

/// `DataFusion`'s, of which batches are planned, behind ours.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::default().rules;
    rules.insert(0, Arc::new(NullsOfJoins));
    rules
}

/// The rules that leave the shape of state as the query has it.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    use datafusion::optimizer as rules;
    vec![
        Arc::new(rules::rewrite_set_comparison::RewriteSetComparison::new()),
        Arc::new(rules::optimize_unions::OptimizeUnions::new()),
        Arc::new(rules::simplify_expressions::SimplifyExpressions::new()),
        Arc::new(DistinctToAggregate),
        Arc::new(rules::decorrelate_predicate_subquery::DecorrelatePredicateSubquery::new()),
        Arc::new(OneRowAtMost),
        Arc::new(rules::scalar_subquery_to_join::ScalarSubqueryToJoin::new()),
        Arc::new(rules::decorrelate_lateral_join::DecorrelateLateralJoin::new()),
        Arc::new(rules::extract_equijoin_predicate::ExtractEquijoinPredicate::new()),
        Arc::new(rules::eliminate_duplicated_expr::EliminateDuplicatedExpr::new()),
        Arc::new(rules::eliminate_cross_join::EliminateCrossJoin::new()),
        Arc::new(rules::eliminate_outer_join::EliminateOuterJoin::new()),
        Arc::new(PushDown::default()),
        Arc::new(CommonParts::default()),
        Arc::new(rules::optimize_projections::OptimizeProjections::new()),
    ]
}

/// `SELECT DISTINCT` as an `Aggregate` without calls.
#[derive(Debug)]
struct DistinctToAggregate;

impl OptimizerRule for DistinctToAggregate {
    fn name(&self) -> &'static str {
        "distinct_to_aggregate"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Distinct(Distinct::All(input)) = plan else {
            return Ok(Transformed::no(plan));
        };
        let fields = input.schema().fields();
        if let Some(map) = fields
            .iter()
            .find(|f| functions::collections::holds_map(f.data_type()))
        {
            return plan_err!(
                "[UNSUPPORTED_FEATURE.SET_OPERATION_ON_MAP_TYPE] DISTINCT and UNION cannot compare the maps of column '{}'; take map_entries(..) of it, or UNION ALL",
                map.name()
            );
        }
        let keys = input
            .schema()
            .columns()
            .into_iter()
            .map(Expr::Column)
            .collect();
        Ok(Transformed::yes(LogicalPlan::Aggregate(
            Aggregate::try_new(input, keys, vec![])?,
        )))
    }
}

/// Refuses a sub-query as a value that may have several rows: as a join it would multiply the rows beside it.
#[derive(Debug)]
struct OneRowAtMost;

impl OptimizerRule for OneRowAtMost {
    fn name(&self) -> &'static str {
        "one_row_at_most"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        plan.apply_expressions(|expr| {
            expr.apply(|part| match part {
                Expr::ScalarSubquery(inner)
                    if inner.outer_ref_columns.is_empty()
                        && inner.subquery.max_rows().is_none_or(|most| most > 1) =>
                {
                    plan_err!(
                        "[SCALAR_SUBQUERY_TOO_MANY_ROWS] a sub-query that is used as a value may have several rows; make it one with an aggregate, such as (SELECT max(x) FROM t), or write IN or EXISTS"
                    )
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })?;
        Ok(Transformed::no(plan))
    }
}

/// A declared table as the planner sees it: a schema, and what it stands for.
#[derive(Debug)]
pub struct StreamTable {
    /// The name that scans carry.
    pub name: String,
    /// What it is.
    pub table: Arc<CatalogTable>,
    schema: SchemaRef,
}

impl StreamTable {
    /// The table under `name`. `_metadata` is a column only where `with_metadata` says so.
    pub fn new(name: &str, table: Arc<CatalogTable>, with_metadata: bool) -> Self {
        let columns = table
            .schema
            .as_ref()
            .map(|schema| schema.fields().clone())
            .unwrap_or_default();
        let mut fields: Vec<FieldRef> = columns
            .iter()
            // A record of a stream may always miss a field.
            .map(|f| {
                Arc::new(Field::new(
                    f.name().to_lowercase(),
                    f.data_type().clone(),
                    true,
                ))
            })
            .collect();
        if with_metadata && !table.metadata.fields().is_empty() {
            let metadata = DataType::Struct(table.metadata.fields().clone());
            fields.push(Arc::new(Field::new(METADATA_COLUMN, metadata, false)));
        }
        Self {
            name: name.to_owned(),
            table,
            schema: Arc::new(Schema::new(fields)),
        }
    }
}

impl TableSource for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// A view: its plan takes the place of its name.
pub(crate) struct ViewSource {
    pub(crate) plan: LogicalPlan,
}

impl TableSource for ViewSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }

    fn get_logical_plan(&self) -> Option<std::borrow::Cow<'_, LogicalPlan>> {
        Some(std::borrow::Cow::Borrowed(&self.plan))
    }
}

/// What the SQL planner may ask of us.
pub(crate) struct Provider<'a, F> {
    pub(crate) state: &'a SessionState,
    pub(crate) types: Arc<dyn TypePlanner>,
    relations: Vec<Arc<dyn RelationPlanner>>,
    /// The table of a name in lower case.
    pub(crate) tables: F,
}

impl<'a, F> Provider<'a, F> {
    pub(crate) fn new(state: &'a SessionState, tables: F) -> Self {
        Self {
            state,
            types: Arc::new(SparkTypePlanner),
            relations: vec![Arc::new(GeneratorPlanner)],
            tables,
        }
    }
}

impl<F: Fn(&str) -> Option<Arc<dyn TableSource>>> ContextProvider for Provider<'_, F> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match &name {
            TableReference::Bare { table } => (self.tables)(table),
            _ => None,
        }
        .ok_or_else(|| plan_datafusion_err!("table '{name}' not found"))
    }

    fn get_table_function_source(&self, name: &str, _: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        plan_err!("Invalid function '{name}'")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state
            .higher_order_functions()
            .keys()
            .cloned()
            .collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// What Spark's operators mean where `DataFusion`'s mean something else.
#[derive(Debug)]
struct SparkOperators;

impl ExprPlanner for SparkOperators {
    fn plan_binary_op(
        &self,
        mut raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{
            And, BitwiseAnd, BitwiseOr, BitwiseXor, Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo,
            Multiply, MyIntegerDivide, NotEq, Or, Plus, Spaceship,
        };
        raw.left = typed_literal(raw.left)?;
        raw.right = typed_literal(raw.right)?;
        let op = match raw.op {
            Plus => Op::Add,
            Minus => Op::Subtract,
            Multiply => Op::Multiply,
            Divide => Op::Divide,
            Modulo => Op::Remainder,
            MyIntegerDivide => Op::IntegerDivide,
            Eq | NotEq | Lt | LtEq | Gt | GtEq | Spaceship => {
                return compared(raw, schema);
            }
            And | Or => return conditions(raw, schema),
            BitwiseAnd | BitwiseOr | BitwiseXor => return bits(raw, schema),
            _ => return Ok(PlannerResult::Original(raw)),
        };
        let types = [raw.left.get_type(schema)?, raw.right.get_type(schema)?];
        arithmetic::result_type(op, &types)
            .map_err(|error| located(error, &[&raw.left, &raw.right]))?;
        let call = arithmetic::call(op, raw.left, raw.right);
        Ok(PlannerResult::Planned(call))
    }

    fn plan_field_access(
        &self,
        mut raw: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let key = match raw.field_access {
            GetFieldAccess::NamedStructField { name } => {
                if let DataType::Struct(fields) = raw.expr.get_type(schema)?
                    && let Some(Some(asked)) = name.try_as_str()
                {
                    let field = spelt(&fields, asked)?;
                    let planned = get_field(raw.expr, field.name().as_str());
                    return Ok(PlannerResult::Planned(planned));
                }
                Expr::Literal(name, None)
            }
            GetFieldAccess::ListIndex { key } => *key,
            range @ GetFieldAccess::ListRange { .. } => {
                raw.field_access = range;
                return Ok(PlannerResult::Original(raw));
            }
        };
        let item = functions::item::item().call(vec![raw.expr, key]);
        Ok(PlannerResult::Planned(item))
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::from((qualifier, field)));
        let mut data_type = field.data_type().clone();
        for name in nested_names {
            let DataType::Struct(fields) = &data_type else {
                return plan_err!(
                    "[INVALID_EXTRACT_BASE_FIELD_TYPE] '{}' is no STRUCT and has no field '{name}'",
                    field.name()
                );
            };
            let found = spelt(fields, name)?;
            expr = get_field(expr, found.name().as_str());
            data_type = found.data_type().clone();
        }
        Ok(PlannerResult::Planned(expr))
    }

    /// Spark's numbers of rows are INT.
    fn plan_window(&self, raw: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        const NUMBERS: [&str; 4] = ["row_number", "rank", "dense_rank", "ntile"];
        if !NUMBERS.contains(&raw.func_def.name()) {
            return Ok(PlannerResult::Original(raw));
        }
        let call = WindowFunction {
            fun: raw.func_def,
            params: WindowFunctionParams {
                args: raw.args,
                partition_by: raw.partition_by,
                order_by: raw.order_by,
                window_frame: raw.window_frame,
                filter: raw.filter,
                null_treatment: raw.null_treatment,
                distinct: raw.distinct,
            },
        };
        Ok(PlannerResult::Planned(cast(
            Expr::from(call),
            DataType::Int32,
        )))
    }

    fn plan_aggregate(&self, raw: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        if raw.func.name() != "approx_count_distinct" {
            return Ok(match functions::aggregates::calls::planned(raw)? {
                Ok(call) => PlannerResult::Planned(call),
                Err(raw) => PlannerResult::Original(raw),
            });
        }
        let RawAggregateExpr {
            func,
            args,
            filter,
            order_by,
            null_treatment,
            ..
        } = raw;
        let args = functions::approx::planned_args(args)?;
        // Distinct values are what is counted anyway.
        let params = AggregateFunctionParams {
            args,
            distinct: false,
            filter,
            order_by,
            null_treatment,
        };
        Ok(PlannerResult::Planned(Expr::AggregateFunction(
            AggregateFunction { func, params },
        )))
    }
}

/// The error at the first of the expressions whose place is known.
fn located(error: DataFusionError, exprs: &[&Expr]) -> DataFusionError {
    let span = exprs
        .iter()
        .find_map(|expr| expr.spans().and_then(Spans::first));
    let diagnostic = Diagnostic::new_error(error.strip_backtrace(), span);
    error.with_diagnostic(diagnostic)
}

/// `AND` and `OR`: both sides are conditions, or text that says one.
fn conditions(raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    let (left, right) = (raw.left.get_type(schema)?, raw.right.get_type(schema)?);
    let condition = |t: &DataType| matches!(t, DataType::Boolean | DataType::Null | DataType::Utf8);
    if !condition(&left) || !condition(&right) || (left == right && left == DataType::Utf8) {
        return plan_err!(
            "[DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES] there is no {} {} {}; compare the values, or add a CAST",
            type_name(&left),
            raw.op,
            type_name(&right)
        );
    }
    let truth = |expr, from| match from {
        DataType::Utf8 => cast(expr, DataType::Boolean),
        _ => expr,
    };
    Ok(PlannerResult::Original(RawBinaryExpr {
        op: raw.op,
        left: truth(raw.left, left),
        right: truth(raw.right, right),
    }))
}

/// `&`, `|` and `^`: whole numbers, or a text beside one, which is read as a BIGINT.
fn bits(raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    let (left, right) = (raw.left.get_type(schema)?, raw.right.get_type(schema)?);
    let whole = |t: &DataType| t.is_integer() || t.is_null();
    let wrong = |class: &str| {
        plan_err!(
            "[DATATYPE_MISMATCH.{class}] there is no {} {} {}; CAST both sides to whole numbers",
            type_name(&left),
            raw.op,
            type_name(&right)
        )
    };
    let number = |expr| cast(expr, DataType::Int64);
    let (left, right) = match (&left, &right) {
        (a, b) if whole(a) && whole(b) => (raw.left, raw.right),
        (DataType::Utf8, b) if b.is_integer() => (number(raw.left), raw.right),
        (a, DataType::Utf8) if a.is_integer() => (raw.left, number(raw.right)),
        (a, b) if a == b => return wrong("BINARY_OP_WRONG_TYPE"),
        _ => return wrong("BINARY_OP_DIFF_TYPES"),
    };
    Ok(PlannerResult::Original(RawBinaryExpr {
        op: raw.op,
        left,
        right,
    }))
}

/// A comparison: its sides must meet in one type. The analyzer brings them there, because only then
/// the types of both are final.
fn compared(raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    let (left, right) = (raw.left.get_type(schema)?, raw.right.get_type(schema)?);
    let op = match raw.op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => Operator::IsNotDistinctFrom,
    };
    let common =
        compared_as(op, &left, &right).map_err(|error| located(error, &[&raw.left, &raw.right]))?;
    let known = BinaryTypeCoercer::new(&left, &op, &right).get_result_type();
    if known.is_ok() {
        return Ok(PlannerResult::Original(raw));
    }
    // DataFusion has no type for both, so that the sides must be cast before it looks at them.
    Ok(PlannerResult::Planned(binary_expr(
        cast(raw.left, common.clone()),
        op,
        cast(raw.right, common),
    )))
}

/// The field of this name, whatever its case.
fn spelt<'a>(fields: &'a Fields, name: &str) -> Result<&'a FieldRef> {
    fields
        .iter()
        .find(|f| f.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
            plan_datafusion_err!(
                "[FIELD_NOT_FOUND] there is no field '{name}' in STRUCT<{}>",
                names.join(", ")
            )
        })
}
