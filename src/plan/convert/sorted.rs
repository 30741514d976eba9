//! `ORDER BY` and `LIMIT` over a whole result: what complete mode can put in order.
//!
//! The rows come to the end of the dataflow with what they are ordered by: columns of the result
//! where it has them, else columns behind those of the result, which are left out when the rows
//! are written.

use datafusion::arrow::compute::SortOptions;
use datafusion::common::{Column, DataFusionError};
use datafusion::logical_expr::{
    Expr, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, Sort,
};

use super::super::{OrderBy, ResultOrder};
use super::error::{ConvertError, Result};

/// A plan whose rows are in an order, without what orders and cuts them; `None` for other plans.
pub(super) fn unsorted(plan: &LogicalPlan) -> Result<Option<(LogicalPlan, ResultOrder)>> {
    let Some(found) = find(plan) else {
        return Ok(None);
    };
    found
        .unsorted()
        .map(Some)
        .map_err(|source| ConvertError::Expression {
            what: "ORDER BY".into(),
            source,
        })
}

/// A `Sort` below projections and a `LIMIT`.
struct Found<'a> {
    sort: &'a Sort,
    /// What the projections give, the lowest last.
    projections: Vec<&'a [Expr]>,
    skip: usize,
    fetch: Option<usize>,
}

fn find(plan: &LogicalPlan) -> Option<Found<'_>> {
    match plan {
        LogicalPlan::Sort(sort) => Some(Found {
            sort,
            projections: vec![],
            skip: 0,
            fetch: sort.fetch,
        }),
        LogicalPlan::Projection(projection) => {
            let mut found = find(&projection.input)?;
            found.projections.insert(0, &projection.expr);
            Some(found)
        }
        LogicalPlan::Limit(limit) => {
            let mut found = find(&limit.input)?;
            let (skip, fetch) = bounds(limit)?;
            let rest = found.fetch.map(|rows| rows.saturating_sub(skip));
            found.skip += skip;
            found.fetch = match (rest, fetch) {
                (Some(rest), Some(fetch)) => Some(rest.min(fetch)),
                (rest, fetch) => rest.or(fetch),
            };
            Some(found)
        }
        _ => None,
    }
}

/// How many rows a `LIMIT` leaves out and lets through, where that is constant.
fn bounds(limit: &Limit) -> Option<(usize, Option<usize>)> {
    match (limit.get_skip_type().ok()?, limit.get_fetch_type().ok()?) {
        (SkipType::Literal(skip), FetchType::Literal(fetch)) => Some((skip, fetch)),
        _ => None,
    }
}

impl Found<'_> {
    fn unsorted(self) -> Result<(LogicalPlan, ResultOrder), DataFusionError> {
        let mut plan = self.sort.input.as_ref().clone();
        let mut keys: Vec<Expr> = self.sort.expr.iter().map(|by| by.expr.clone()).collect();
        let mut levels: Vec<Vec<Expr>> = (self.projections.iter().rev())
            .map(|exprs| exprs.to_vec())
            .collect();
        if levels.is_empty() {
            levels.push(plan.schema().iter().map(Expr::from).collect());
        }
        let (mut places, mut shown) = (vec![], 0);
        for mut exprs in levels {
            shown = exprs.len();
            places = (keys.iter().enumerate())
                .map(|(number, key)| {
                    let same = |expr: &Expr| expr.clone().unalias() == *key;
                    exprs[..shown].iter().position(same).unwrap_or_else(|| {
                        exprs.push(hidden(key, number, &exprs));
                        exprs.len() - 1
                    })
                })
                .collect();
            plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
            let column = |place: &usize| Column::from(plan.schema().qualified_field(*place));
            keys = places.iter().map(column).map(Expr::Column).collect();
        }
        let by = (self.sort.expr.iter().zip(places))
            .map(|(by, column)| OrderBy {
                column,
                options: SortOptions::new(!by.asc, by.nulls_first),
            })
            .collect();
        Ok((
            plan,
            ResultOrder {
                by,
                columns: shown,
                skip: self.skip,
                fetch: self.fetch,
            },
        ))
    }
}

/// A key as a column behind those of the result: under its own name where that is free.
fn hidden(key: &Expr, number: usize, shown: &[Expr]) -> Expr {
    let taken = |name: &str| shown.iter().any(|expr| expr.qualified_name().1 == name);
    match key {
        Expr::Column(column) if !taken(&column.name) => key.clone(),
        _ => key.clone().alias(format!("__order_{number}")),
    }
}
