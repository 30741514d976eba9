//! Sessions in a logical plan: the node that merges them, and where it comes from.
//!
//! A session is a property of many rows, so no scalar expression can give it. [`SessionWindow`] is
//! the operator that does: it appends to each row the session that the row belongs to. `DataFusion`
//! knows nothing of it, which keeps the optimiser from moving a filter on sessions below it.
//!
//! [`introduced`] puts it into the plan that the SQL planner makes, before analysis:
//!
//! - `GROUP BY session_window(ts, gap), k`: below the aggregate, by `k`;
//! - `SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap)`: below the projection that marks it.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Extension, LogicalPlan, Projection, UserDefinedLogicalNodeCore,
};

use super::functions::session::{SESSION_WINDOW, SESSIONS, session_window};

/// The column that [`SessionWindow`] appends.
pub const SESSION_COLUMN: &str = "__session";

/// Rows with the session that each belongs to.
///
/// The rows of one partition whose own windows overlap or touch are of one session, from the least
/// start to the greatest end. Rows without a window of their own are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionWindow {
    /// The rows.
    pub input: LogicalPlan,
    /// Each row's own window.
    pub window: Expr,
    /// What rows of one session have in common.
    pub partition: Vec<Expr>,
    schema: DFSchemaRef,
}

impl SessionWindow {
    /// The columns of `input`, and the session behind them.
    pub fn try_new(input: LogicalPlan, window: Expr, partition: Vec<Expr>) -> Result<Self> {
        let data_type = window.get_type(input.schema())?;
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
            .collect();
        fields.push((None, Arc::new(Field::new(SESSION_COLUMN, data_type, true))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self {
            input,
            window,
            partition,
            schema,
        })
    }
}

impl Hash for SessionWindow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.window, &self.partition).hash(state);
    }
}

impl PartialOrd for SessionWindow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.input, &self.window, &self.partition).partial_cmp(&(
            &other.input,
            &other.window,
            &other.partition,
        ))
    }
}

impl UserDefinedLogicalNodeCore for SessionWindow {
    fn name(&self) -> &'static str {
        "SessionWindow"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let window = std::iter::once(&self.window);
        window.chain(&self.partition).cloned().collect()
    }

    /// Only what picks whole partitions leaves the sessions of the others as they are.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let common = |name: &str| {
            let by = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == name);
            self.partition.iter().any(by)
        };
        let names = self.schema.fields().iter().map(|field| field.name());
        names.filter(|name| !common(name)).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionWindow: {} by [", self.window)?;
        for (index, key) in self.partition.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{key}")?;
        }
        f.write_str("]")
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let mut exprs = exprs.into_iter().map(Expr::unalias);
        if let (Some(window), Some(input)) = (exprs.next(), inputs.pop()) { Self::try_new(input, window, exprs.collect()) } else { plan_err!("a session window needs its window and its input") }
    }

    /// Those asked for; what the expressions use is added by who asks.
    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let inputs = self.input.schema().fields().len();
        Some(vec![
            output.iter().copied().filter(|i| *i < inputs).collect(),
        ])
    }
}

/// The session window that a node of the plan is.
pub fn session_window_of(node: &LogicalPlan) -> Option<&SessionWindow> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// The plan with a [`SessionWindow`] wherever sessions are asked for.
pub fn introduced(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => below_aggregate(aggregate),
        LogicalPlan::Projection(projection) => below_projection(projection),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(transformed.data)
}

fn below_aggregate(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let Some(call) = only_call(&aggregate.group_expr, SESSION_WINDOW)? else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    if matches!(aggregate.group_expr[..], [Expr::GroupingSet(_)]) {
        return plan_err!(
            "a session window cannot stand in GROUPING SETS, ROLLUP or CUBE; group by it and the keys, and combine several such queries with UNION ALL"
        );
    }
    let mut partition = Vec::new();
    for key in &aggregate.group_expr {
        if calls(key, SESSION_WINDOW)?.is_empty() {
            partition.push(key.clone().unalias());
        }
    }
    let plan = LogicalPlan::Aggregate(aggregate.clone());
    let input = with_sessions(&aggregate.input, &call, partition)?;
    let replace = |exprs: Vec<Expr>| replaced(&plan, exprs, &call);
    let keys = replace(aggregate.group_expr)?;
    let calls = replace(aggregate.aggr_expr)?;
    let aggregate = Aggregate::try_new(Arc::new(input), keys, calls)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
}

fn below_projection(projection: Projection) -> Result<Transformed<LogicalPlan>> {
    let Some(call) = only_call(&projection.expr, SESSIONS)? else {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    };
    let plan = LogicalPlan::Projection(projection.clone());
    let partition = call.args.iter().skip(2).cloned().collect();
    let input = with_sessions(&projection.input, &call, partition)?;
    let exprs = replaced(&plan, projection.expr, &call)?;
    let projection = Projection::try_new(exprs, Arc::new(input))?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

fn with_sessions(
    input: &Arc<LogicalPlan>,
    call: &ScalarFunction,
    partition: Vec<Expr>,
) -> Result<LogicalPlan> {
    let own = call.args.iter().take(2).cloned().collect();
    let window = Expr::ScalarFunction(ScalarFunction::new_udf(session_window(), own));
    let node = SessionWindow::try_new(input.as_ref().clone(), window, partition)?;
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    }))
}

/// The expressions of `plan` with the session's column in place of `call`, by their old names.
fn replaced(plan: &LogicalPlan, exprs: Vec<Expr>, call: &ScalarFunction) -> Result<Vec<Expr>> {
    let names = NamePreserver::new(plan);
    exprs
        .into_iter()
        .map(|expr| {
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| {
                Ok(match &expr {
                    Expr::ScalarFunction(found) if found == call => {
                        Transformed::yes(Expr::Column(Column::new_unqualified(SESSION_COLUMN)))
                    }
                    _ => Transformed::no(expr),
                })
            })?;
            Ok(replaced.update_data(|expr| name.restore(expr)).data)
        })
        .collect()
}

/// The one call of `function` in these expressions.
fn only_call(exprs: &[Expr], function: &str) -> Result<Option<ScalarFunction>> {
    let mut found: Vec<ScalarFunction> = Vec::new();
    for expr in exprs {
        for call in calls(expr, function)? {
            if !found.contains(&call) {
                found.push(call);
            }
        }
    }
    if found.len() > 1 {
        return plan_err!("a SELECT can have one session window; put the other into a sub-query");
    }
    Ok(found.pop())
}

fn calls(expr: &Expr, function: &str) -> Result<Vec<ScalarFunction>> {
    let mut found = Vec::new();
    expr.apply(|part| {
        if let Expr::ScalarFunction(call) = part
            && call.func.name() == function
        {
            found.push(call.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
