//! Deduplication in a logical plan: the node that keeps the first row of each key, and where it comes from.
//!
//! "First" is a property of arrival, so no window function of `DataFusion` gives it to a stream.
//! [`Deduplicate`] is the operator that does. [`introduced`] puts it into the plan that the SQL planner
//! makes, before analysis:
//!
//! - `SELECT DISTINCT ON (k) ...` is Spark's `dropDuplicates(k)`. With an `ORDER BY` that goes on behind
//!   the keys the first row is that of the order, which is `ROW_NUMBER() ... = 1`;
//! - `DEDUPLICATE_WITHIN_WATERMARK(TABLE t, DESCRIPTOR(k))` is Spark's `dropDuplicatesWithinWatermark(k)`;
//!   it arrives as a `DISTINCT ON` whose key is a call of [`WITHIN_WATERMARK`].

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchemaRef, Result, plan_err};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, ExprFunctionExt, ExprSchemable, Extension, LogicalPlan,
    LogicalPlanBuilder, SortExpr, UserDefinedLogicalNodeCore, lit,
};

use super::functions::aggregates::order::event_time;
use super::functions::collections::holds_map;

/// The function whose arguments are the keys of [`Deduplicate`] within the watermark.
pub const WITHIN_WATERMARK: &str = "__within_watermark";

/// The column by which `DISTINCT ON` with an order picks its rows.
const PLACE: &str = "__place";

/// The first row of each key to arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplicate {
    /// The rows.
    pub input: LogicalPlan,
    /// What duplicates have in common.
    pub keys: Vec<Expr>,
    /// Keys are forgotten once the watermark has passed their first row by the table's delay.
    pub within_watermark: bool,
    /// The event time of the rows: what is late goes by it, whatever is selected.
    time: Option<Column>,
}

impl Deduplicate {
    fn new(input: LogicalPlan, keys: Vec<Expr>, within_watermark: bool) -> Self {
        Self {
            time: event_time(&input),
            input,
            keys,
            within_watermark,
        }
    }
}

impl Hash for Deduplicate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.keys, self.within_watermark).hash(state);
    }
}

impl PartialOrd for Deduplicate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.input, &self.keys, self.within_watermark).partial_cmp(&(
            &other.input,
            &other.keys,
            other.within_watermark,
        ))
    }
}

impl UserDefinedLogicalNodeCore for Deduplicate {
    fn name(&self) -> &'static str {
        "Deduplicate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        let time = self.time.iter().cloned().map(Expr::Column);
        self.keys.iter().cloned().chain(time).collect()
    }

    /// Only what picks whole keys leaves the first rows of the others as they are.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let common = |name: &str| {
            let by = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == name);
            self.keys.iter().any(by)
        };
        let names = self.schema().fields().iter().map(|field| field.name());
        names.filter(|name| !common(name)).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let within = if self.within_watermark {
            " within the watermark"
        } else {
            ""
        };
        write!(f, "Deduplicate: by [{}]{within}", keys.join(", "))
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let Some(input) = inputs.pop() else {
            return plan_err!("a deduplication needs its input");
        };
        let mut keys: Vec<Expr> = exprs.into_iter().map(Expr::unalias).collect();
        let time = self.time.as_ref().and_then(|_| keys.pop());
        Ok(Self {
            input,
            keys,
            within_watermark: self.within_watermark,
            time: time.and_then(|time| time.try_as_col().cloned()),
        })
    }

    /// Those asked for; what the expressions use is added by who asks.
    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output.to_vec()])
    }
}

/// The deduplication that a node of the plan is.
pub fn deduplicate_of(node: &LogicalPlan) -> Option<&Deduplicate> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// The plan with a [`Deduplicate`] for each `DISTINCT ON`.
pub fn introduced(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Distinct(Distinct::On(on)) => first_of(on).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(transformed.data)
}

fn first_of(on: DistinctOn) -> Result<LogicalPlan> {
    let DistinctOn {
        on_expr,
        select_expr,
        sort_expr,
        input,
        ..
    } = on;
    let input = Arc::unwrap_or_clone(input);
    // An order begins with the keys: it ranks rows of one key by what follows.
    let order: Vec<SortExpr> = (sort_expr.into_iter().flatten())
        .skip(on_expr.len())
        .collect();
    let (keys, within_watermark) = match on_expr.as_slice() {
        [Expr::ScalarFunction(call)] if call.func.name() == WITHIN_WATERMARK => {
            (call.args.clone(), true)
        }
        _ => (on_expr, false),
    };
    for key in &keys {
        if holds_map(&key.get_type(input.schema())?) {
            return plan_err!(
                "[UNSUPPORTED_FEATURE.SET_OPERATION_ON_MAP_TYPE] maps cannot be compared, so {key} is no key of a deduplication; take map_entries(..) of it"
            );
        }
    }
    let first = if order.is_empty() {
        LogicalPlan::Extension(Extension {
            node: Arc::new(Deduplicate::new(input, keys, within_watermark)),
        })
    } else {
        let place = row_number().partition_by(keys).order_by(order).build()?;
        LogicalPlanBuilder::from(input)
            .window(vec![place.alias(PLACE)])?
            .filter(Expr::Column(Column::new_unqualified(PLACE)).eq(lit(1_u64)))?
            .build()?
    };
    LogicalPlanBuilder::from(first)
        .project(select_expr)?
        .build()
}
