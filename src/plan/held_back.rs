//! Rules of `DataFusion` that are held back where they would change the answer.
//!
//! Some take columns for each other whose names read alike: a key `CAST(t.x AS INT)` is called `t.x`, as the column `x` of
//! `t` is.

use std::collections::HashSet;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// [`PushDownFilter`] takes a condition without columns (`FALSE`, what is left of `count(x) IS NULL`) for one of the
/// keys. Below an aggregate without keys it would leave a row where there is none.
#[derive(Debug, Default)]
pub(super) struct PushDown(PushDownFilter);

impl OptimizerRule for PushDown {
    fn name(&self) -> &'static str {
        "push_down_filter"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if filters_all_rows(&plan) || filters_namesakes(&plan) {
            return Ok(Transformed::no(plan));
        }
        self.0.rewrite(plan, config)
    }
}

/// Whether the rows that pass are those of an aggregate of all rows, of which there is one.
fn filters_all_rows(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Filter(filter) = plan else {
        return false;
    };
    match &*filter.input {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        below => filters_all_rows(below),
    }
}

/// Whether the rows that pass have columns whose names read alike.
fn filters_namesakes(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Filter(filter) = plan else {
        return false;
    };
    match &*filter.input {
        LogicalPlan::Filter(_) => filters_namesakes(&filter.input),
        below => has_namesakes(below),
    }
}

fn has_namesakes(plan: &LogicalPlan) -> bool {
    let mut names = HashSet::new();
    let columns = plan.schema().columns();
    columns
        .iter()
        .any(|column| !names.insert(column.flat_name()))
}

/// [`CommonSubexprEliminate`], which goes through the whole plan by itself.
#[derive(Debug, Default)]
pub(super) struct CommonParts(CommonSubexprEliminate);

impl OptimizerRule for CommonParts {
    fn name(&self) -> &'static str {
        "common_sub_expression_eliminate"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if plan.exists(|node| Ok(has_namesakes(node)))? {
            return Ok(Transformed::no(plan));
        }
        self.0.rewrite(plan, config)
    }
}
