//! Outer joins of the batch answer: what is constant on the side that they fill with nulls is not behind them.
//!
//! `DataFusion` carries the constants of both sides through an outer join (55.2, `EquivalenceGroup::join`), and leaves a column
//! out of an order where it takes it for constant: rows with its nulls stand wherever they happen to. So that side
//! is made to tell nothing of itself.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};

/// The rule, which comes before those that look for orders.
#[derive(Debug)]
pub(super) struct NullsOfJoins;

impl PhysicalOptimizerRule for NullsOfJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let sides = filled(&*node);
            if sides == [false; 2] {
                return Ok(Transformed::no(node));
            }
            let inputs = node.children().into_iter().zip(sides);
            let inputs = inputs
                .map(|(input, filled)| {
                    let input = Arc::clone(input);
                    if filled {
                        Arc::new(Untold::new(input))
                    } else {
                        input
                    }
                })
                .collect();
            let anew = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            node.replace_children(inputs, anew).map(Transformed::yes)
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "nulls_of_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Which sides of a join are filled with nulls.
fn filled(node: &dyn ExecutionPlan) -> [bool; 2] {
    let hashed = node.downcast_ref::<HashJoinExec>();
    let nested = node.downcast_ref::<NestedLoopJoinExec>();
    let kind = hashed
        .map(HashJoinExec::join_type)
        .or(nested.map(NestedLoopJoinExec::join_type));
    match kind {
        Some(JoinType::Left) => [false, true],
        Some(JoinType::Right) => [true, false],
        Some(JoinType::Full) => [true, true],
        _ => [false; 2],
    }
}

/// Rows as they come, of which nothing is known.
#[derive(Debug)]
struct Untold {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Untold {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self {
            input,
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for Untold {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for Untold {
    fn name(&self) -> &'static str {
        "Untold"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0))))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let anew = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, anew)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
