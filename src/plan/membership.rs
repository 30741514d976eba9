//! `NOT IN` with a sub-query, as `EXISTS`: with the three truths of SQL.
//!
//! `x NOT IN (SELECT s ...)` is unknown where nothing equals `x` and something might: `x` is null and there
//! are rows, or an `s` is null. A join with a condition for that would hold each `x` against every `s`. So
//! it is taken apart before analysis, into conditions that each are a join of their own by equal keys:
//!
//! | where | becomes |
//! |---|---|
//! | only rows for which it is true stay: `WHERE`, below `AND` and `OR` | `NOT EXISTS (s = x) AND NOT EXISTS (s IS NULL) AND NOT EXISTS (x IS NULL)`, each over the sub-query |
//! | anywhere else: `NOT (... OR x IN ...)`, `CASE` | a `CASE` with the three truths |
//!
//! What cannot be null is not asked for it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue, Spans};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, not, when,
};

/// The plan with `EXISTS` in the place of each `NOT IN`.
pub(super) fn with_exists(plan: LogicalPlan) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(mut filter) if asks(&filter.predicate)? => {
            filter.predicate = if_true(filter.predicate, &filter.input)?;
            Ok(Transformed::yes(LogicalPlan::Filter(filter)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(transformed.data)
}

fn asks(predicate: &Expr) -> Result<bool> {
    predicate.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_))))
}

/// A condition of which only "true" matters, over rows of `input`.
fn if_true(condition: Expr, input: &LogicalPlan) -> Result<Expr> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::And | Operator::Or) =>
        {
            let sides = (if_true(*left, input)?, if_true(*right, input)?);
            let (left, right) = (Box::new(sides.0), Box::new(sides.1));
            Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(asked) => {
                let negated = !asked.negated;
                if_true(Expr::InSubquery(InSubquery { negated, ..asked }), input)
            }
            inner => exact(not(inner), input),
        },
        Expr::InSubquery(asked) if !asked.negated => Ok(Expr::InSubquery(asked)),
        Expr::InSubquery(asked) => match Membership::of(&asked, input)? {
            Some(of) => {
                let equal = not(of.equal()?);
                let unknown = of.unknown()?.into_iter().map(not);
                Ok(unknown.fold(equal, Expr::and))
            }
            None => Ok(Expr::InSubquery(asked)),
        },
        other => exact(other, input),
    }
}

/// A condition with all three truths.
fn exact(condition: Expr, input: &LogicalPlan) -> Result<Expr> {
    let transformed = condition.transform_down(|expr| {
        let Expr::InSubquery(asked) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let Some(of) = Membership::of(asked, input)? else {
            return Ok(Transformed::no(expr));
        };
        let mut truth = when(of.equal()?, lit(!asked.negated));
        if let Some(unknown) = of.unknown()?.into_iter().reduce(Expr::or) {
            truth = truth.when(unknown, lit(ScalarValue::Boolean(None)));
        }
        Ok(Transformed::yes(truth.otherwise(lit(asked.negated))?))
    })?;
    Ok(transformed.data)
}

/// A value, and the values of a sub-query.
struct Membership<'a> {
    /// As the sub-query sees it.
    value: Expr,
    value_is_known: bool,
    query: &'a LogicalPlan,
    of_query: Column,
}

impl<'a> Membership<'a> {
    /// `None`: the sub-query is about each row, and has a row of its own for those without any: a
    /// condition above it would have that row no more.
    fn of(asked: &'a InSubquery, input: &LogicalPlan) -> Result<Option<Self>> {
        let query = &*asked.subquery.subquery;
        let [of_query] = &query.schema().columns()[..] else {
            return Ok(None);
        };
        let correlated = !query.all_out_ref_exprs().is_empty();
        if correlated && query.exists(|node| Ok(counts_rows(node)))? {
            return Ok(None);
        }
        let schema = input.schema();
        let value = (*asked.expr).clone().transform(|expr| {
            Ok(match &expr {
                Expr::Column(column) => match schema.qualified_field_from_column(column) {
                    Ok((qualifier, field)) => {
                        let column = Column::new(qualifier.cloned(), field.name());
                        let field = Arc::clone(field);
                        Transformed::yes(Expr::OuterReferenceColumn(field, column))
                    }
                    Err(_) => Transformed::no(expr),
                },
                _ => Transformed::no(expr),
            })
        })?;
        Ok(Some(Self {
            value: value.data,
            value_is_known: is_known(&asked.expr, input),
            query,
            of_query: of_query.clone(),
        }))
    }

    fn exists(&self, condition: Expr) -> Result<Expr> {
        let query = LogicalPlanBuilder::from(self.query.clone()).filter(condition)?;
        let query = query.build()?;
        Ok(Expr::Exists(Exists {
            subquery: Subquery {
                outer_ref_columns: query.all_out_ref_exprs(),
                subquery: Arc::new(query),
                spans: Spans::new(),
            },
            negated: false,
        }))
    }

    /// Whether the value is there.
    fn equal(&self) -> Result<Expr> {
        self.exists(Expr::Column(self.of_query.clone()).eq(self.value.clone()))
    }

    /// What makes it unknown where it is not there.
    fn unknown(&self) -> Result<Vec<Expr>> {
        let of_query = Expr::Column(self.of_query.clone());
        let mut unknown = Vec::new();
        if !is_known(&of_query, self.query) {
            unknown.push(self.exists(of_query.is_null())?);
        }
        if !self.value_is_known {
            unknown.push(self.exists(self.value.clone().is_null())?);
        }
        Ok(unknown)
    }
}

/// Whether a node gives rows by their number.
fn counts_rows(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Limit(_) => true,
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

/// Whether an expression over rows of `plan` never is null.
fn is_known(expr: &Expr, plan: &LogicalPlan) -> bool {
    let column = match expr {
        Expr::Literal(value, _) => return !value.is_null(),
        Expr::Alias(alias) => return is_known(&alias.expr, plan),
        Expr::Column(column) => column,
        _ => return false,
    };
    let Ok(index) = plan.schema().index_of_column(column) else {
        return false;
    };
    if !plan.schema().field(index).is_nullable() {
        return true;
    }
    match plan {
        LogicalPlan::Projection(projection) => is_known(&projection.expr[index], &projection.input),
        LogicalPlan::SubqueryAlias(alias) => {
            let below = alias.input.schema().columns().swap_remove(index);
            is_known(&Expr::Column(below), &alias.input)
        }
        LogicalPlan::Filter(filter) => {
            let says =
                |condition: &&Expr| matches!(condition, Expr::IsNotNull(of) if **of == *expr);
            split_conjunction(&filter.predicate).iter().any(says) || is_known(expr, &filter.input)
        }
        _ => false,
    }
}
