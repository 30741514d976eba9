//! Joins with the nearest row, in a logical plan: `ASOF JOIN`, and the version of a table at a row's time.
//!
//! `DataFusion` has no such join. [`NearestJoin`] is the operator; the syntax tree asks for it with a mark
//! among the conditions of an ordinary join, which [`introduced`] replaces before analysis:
//!
//! - [`NEAREST`]`(a.ts >= b.ts)` is the `MATCH_CONDITION` of an `ASOF JOIN`;
//! - [`VERSION`]`(a.ts >= v.ts, v.k, ...)` is `FOR SYSTEM_TIME AS OF a.ts`, with the table's primary key.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DFSchemaRef, JoinType, Result, plan_err};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Extension, Join, LogicalPlan, LogicalPlanBuilder, Operator,
    UserDefinedLogicalNodeCore, when,
};

use super::text;

/// The function whose argument is the condition of an `ASOF JOIN`.
pub const NEAREST: &str = "__nearest";

/// The function whose arguments are how the version is found, and the key of the versioned table.
pub const VERSION: &str = "__version";

/// Each row of the left input with the one row of the right input whose time is nearest to its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestJoin {
    /// The rows.
    pub left: LogicalPlan,
    /// What is looked up.
    pub right: LogicalPlan,
    /// What must be equal, each an equality.
    pub on: Vec<Expr>,
    /// The comparison of a time of the left input with one of the right input.
    pub condition: Expr,
    /// Rows that find none stay, with nulls beside them.
    pub outer: bool,
    /// Of rows of one time the last to arrive is taken, rather than the first in the order of the columns.
    pub latest: bool,
    schema: DFSchemaRef,
}

impl NearestJoin {
    fn schema_of(left: &DFSchema, right: &DFSchema, outer: bool) -> Result<DFSchemaRef> {
        let join_type = if outer {
            JoinType::Left
        } else {
            JoinType::Inner
        };
        Ok(Arc::new(build_join_schema(left, right, &join_type)?))
    }

    fn parts(&self) -> (&LogicalPlan, &LogicalPlan, &[Expr], &Expr, bool, bool) {
        (
            &self.left,
            &self.right,
            &self.on,
            &self.condition,
            self.outer,
            self.latest,
        )
    }
}

impl Hash for NearestJoin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for NearestJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.parts().partial_cmp(&other.parts())
    }
}

impl UserDefinedLogicalNodeCore for NearestJoin {
    fn name(&self) -> &'static str {
        "NearestJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        [&self.condition]
            .into_iter()
            .chain(&self.on)
            .cloned()
            .collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<String> = self.on.iter().map(ToString::to_string).collect();
        write!(f, "NearestJoin: {} on [{}]", self.condition, on.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Ok([left, right]), mut exprs) = (<[_; 2]>::try_from(inputs), exprs.into_iter()) else {
            return plan_err!("a join with the nearest row has two inputs");
        };
        let Some(condition) = exprs.next() else {
            return plan_err!("a join with the nearest row has a condition");
        };
        Ok(Self {
            schema: Self::schema_of(left.schema(), right.schema(), self.outer)?,
            left,
            right,
            on: exprs.map(Expr::unalias).collect(),
            condition: condition.unalias(),
            outer: self.outer,
            latest: self.latest,
        })
    }

    /// Those asked for, by input; what the expressions use is added by who asks.
    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let left = self.left.schema().fields().len();
        let (of_left, of_right): (Vec<usize>, Vec<usize>) =
            output.iter().partition(|index| **index < left);
        Some(vec![
            of_left,
            of_right.into_iter().map(|index| index - left).collect(),
        ])
    }
}

/// The join that a node of the plan is.
pub fn nearest_of(node: &LogicalPlan) -> Option<&NearestJoin> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// The plan with a [`NearestJoin`] for each join that is marked.
pub fn introduced(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match marked(&join) {
            Some(mark) => nearest(join, mark).map(Transformed::yes),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(transformed.data)
}

/// What a join is marked with.
struct Mark {
    version: bool,
    condition: Expr,
    /// The primary key of a versioned table.
    key: Vec<Expr>,
}

fn mark_of(expr: &Expr) -> Option<Mark> {
    match expr {
        Expr::ScalarFunction(call) if [NEAREST, VERSION].contains(&call.func.name()) => {
            let (condition, key) = call.args.split_first()?;
            Some(Mark {
                version: call.func.name() == VERSION,
                condition: condition.clone(),
                key: key.to_vec(),
            })
        }
        _ => None,
    }
}

fn marked(join: &Join) -> Option<Mark> {
    let conditions = split_conjunction_owned(join.filter.clone()?);
    conditions.iter().find_map(mark_of)
}

fn nearest(join: Join, mark: Mark) -> Result<LogicalPlan> {
    let Join {
        left,
        right,
        filter,
        join_type,
        ..
    } = join;
    let (left, right) = (Arc::unwrap_or_clone(left), Arc::unwrap_or_clone(right));
    let conditions = filter.into_iter().flat_map(split_conjunction_owned);
    let mut on = Vec::new();
    let mut rest = Vec::new();
    let mut known: Vec<Expr> = Vec::new();
    for condition in conditions.filter(|condition| mark_of(condition).is_none()) {
        match equal_of(&condition, &left, &right) {
            Some(of_right) if !mark.version || mark.key.contains(&of_right) => {
                known.push(of_right);
                on.push(condition);
            }
            _ => rest.push(condition),
        }
    }
    if let Some(missing) = mark.key.iter().find(|key| !known.contains(key)) {
        let missing = text::expression(missing);
        return plan_err!(
            "the version of a row is looked up by the whole primary key, and ON has no equality for {missing}; add AND ... = {missing}"
        );
    }
    if !mark.version
        && let Some(other) = rest.first()
    {
        return plan_err!(
            "the ON of an ASOF JOIN takes equalities of one table's columns with the other's, not {}; filter in a sub-query or in WHERE",
            text::expression(other)
        );
    }
    let outer = join_type == JoinType::Left;
    let schema = NearestJoin::schema_of(left.schema(), right.schema(), outer)?;
    let (of_left, of_right) = (left.schema().columns(), right.schema().columns());
    let joined = LogicalPlan::Extension(Extension {
        node: Arc::new(NearestJoin {
            left,
            right,
            on,
            condition: mark.condition,
            outer,
            latest: mark.version,
            schema,
        }),
    });
    match conjunction(rest) {
        None => Ok(joined),
        Some(rest) if !outer => LogicalPlanBuilder::from(joined).filter(rest)?.build(),
        // A version that fails the rest of the condition is none.
        Some(rest) => {
            let shown = of_right.into_iter().map(|column| {
                let Column { relation, name, .. } = column.clone();
                let shown = when(rest.clone(), Expr::Column(column)).end()?;
                Ok(shown.alias_qualified(relation, name))
            });
            let all = of_left.into_iter().map(|column| Ok(Expr::Column(column)));
            let all = all.chain(shown).collect::<Result<Vec<_>>>()?;
            LogicalPlanBuilder::from(joined).project(all)?.build()
        }
    }
}

/// What an equality of one input with the other asks of the right one.
fn equal_of(condition: &Expr, left: &LogicalPlan, right: &LogicalPlan) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr {
        left: one,
        op: Operator::Eq,
        right: other,
    }) = condition
    else {
        return None;
    };
    let of = |expr: &Expr, input: &LogicalPlan| {
        let columns = expr.column_refs();
        !columns.is_empty()
            && (columns.iter()).all(|column| input.schema().maybe_index_of_column(column).is_some())
    };
    if of(one, left) && of(other, right) {
        Some((**other).clone())
    } else if of(one, right) && of(other, left) {
        Some((**one).clone())
    } else {
        None
    }
}
