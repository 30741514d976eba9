//! `GROUPING SETS`, `ROLLUP` and `CUBE` as one grouping of rows that come once for each set.
//!
//! Each row is multiplied by the numbers of the sets; a key that is not in a set is null in the
//! set's copies of the row, and the number itself is one key more. Keys that are in all sets stay as
//! they are, so that a window among them still says when its groups are complete. The number holds a
//! bit for each key that is not in the set (the first key's is the highest), and above them, for sets
//! that are there several times, which of them it is: `DataFusion`'s `__grouping_id`, from which
//! `grouping(..)` is computed.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, NullHandling, Result, ScalarValue, UnnestOptions, plan_err};
use datafusion::logical_expr::{
    Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, in_list, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

/// The column that holds the sets of a row, then the number of one.
const SETS: &str = "__grouping_sets";

/// Turns groupings with several sets into groupings with one.
#[derive(Debug)]
pub(super) struct ExpandGroupingSets;

impl AnalyzerRule for ExpandGroupingSets {
    fn name(&self) -> &'static str {
        "expand_grouping_sets"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let expanded = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.as_slice() {
                [Expr::GroupingSet(set)] => {
                    let set = set.clone();
                    expand(&aggregate, &set).map(Transformed::yes)
                }
                _ => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
            },
            other => Ok(Transformed::no(other)),
        })?;
        Ok(expanded.data)
    }
}

fn expand(aggregate: &Aggregate, set: &GroupingSet) -> Result<LogicalPlan> {
    let keys: Vec<Expr> = set.distinct_expr().into_iter().cloned().collect();
    let sets = match set {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(keys) => (0..=keys.len()).map(|n| keys[..n].to_vec()).collect(),
        GroupingSet::Cube(keys) => {
            if keys.len() > 12 {
                return plan_err!(
                    "CUBE of {} keys has {} groupings; name those that are needed with GROUPING SETS",
                    keys.len(),
                    1_u128 << keys.len().min(127)
                );
            }
            let chosen = |mask: usize| {
                let keys = keys.iter().enumerate();
                let keys = keys.filter(move |(index, _)| mask >> index & 1 == 1);
                keys.map(|(_, key)| key.clone()).collect()
            };
            (0..1_usize << keys.len()).map(chosen).collect()
        }
    };
    let number_type = aggregate.schema.field(keys.len()).data_type().clone();
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut numbers = vec![];
    for set in &sets {
        let bits = keys
            .iter()
            .fold(0, |bits, key| bits << 1 | u64::from(!set.contains(key)));
        let times = seen.entry(bits).or_default();
        numbers.push(ScalarValue::from(*times << keys.len() | bits).cast_to(&number_type)?);
        *times += 1;
    }

    let input = &aggregate.input;
    let list = ScalarValue::List(ScalarValue::new_list(&numbers, &number_type, true));
    let mut columns: Vec<Expr> = input
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    columns.push(lit(list).alias(SETS));
    let each = UnnestOptions::new().with_null_handling(NullHandling::Drop);
    let rows = LogicalPlanBuilder::from(Arc::clone(input))
        .project(columns)?
        .unnest_column_with_options(Column::from_name(SETS), each)?
        .build()?;

    let number = Expr::Column(Column::from_name(SETS));
    let grouped = keys.iter().map(|key| {
        let having: Vec<Expr> = (sets.iter().zip(&numbers))
            .filter(|(set, _)| set.contains(key))
            .map(|(_, number)| lit(number.clone()))
            .collect();
        if having.len() == sets.len() {
            return Ok(key.clone());
        }
        when(
            in_list(number.clone(), having, false),
            unaliased(key).clone(),
        )
        .end()
    });
    let mut grouped = grouped.collect::<Result<Vec<_>>>()?;
    grouped.push(number.clone());
    let one = Aggregate::try_new(Arc::new(rows), grouped, aggregate.aggr_expr.clone())?;
    let names = aggregate.schema.iter();
    let result = (one.schema.columns().into_iter().zip(names))
        .map(|(column, (qualifier, field))| {
            Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
        })
        .collect::<Vec<_>>();
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(one))
        .project(result)?
        .build()
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
