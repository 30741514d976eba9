//! `GROUP BY` with several groupings, as Spark writes it, on the syntax tree.
//!
//! `GROUP BY a, b WITH ROLLUP` and `GROUP BY a, b GROUPING SETS (..)` become `GROUP BY ROLLUP (a, b)`
//! and `GROUP BY GROUPING SETS (..)`; `grouping_id()` becomes `grouping` of all that is grouped by.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, GroupByExpr, GroupByWithModifier, Select, VisitMut,
    VisitorMut,
};

use super::ast::{arguments, call, function_name, name_span};
use super::windows::Failure;
use crate::plan::error::PlanErrorKind;

/// Rewrites one block.
pub(super) fn rewrite(select: &mut Select) -> Result<(), Failure> {
    let GroupByExpr::Expressions(exprs, modifiers) = &mut select.group_by else {
        return Ok(());
    };
    for modifier in std::mem::take(modifiers) {
        let each = |exprs: &mut Vec<Expr>| {
            let exprs = std::mem::take(exprs).into_iter();
            exprs.map(|expr| vec![expr]).collect()
        };
        let set = match modifier {
            GroupByWithModifier::Rollup => Expr::Rollup(each(exprs)),
            GroupByWithModifier::Cube => Expr::Cube(each(exprs)),
            GroupByWithModifier::GroupingSets(sets) => sets,
            GroupByWithModifier::Totals => {
                let kind = PlanErrorKind::Unsupported {
                    what: "GROUP BY ... WITH TOTALS".into(),
                    instead: Some("write GROUP BY ... WITH ROLLUP".into()),
                };
                return Err(Box::new((
                    datafusion::sql::sqlparser::tokenizer::Span::empty(),
                    kind,
                )));
            }
        };
        *exprs = vec![set];
    }
    let mut keys: Vec<Expr> = vec![];
    let mut several = false;
    for expr in exprs.iter() {
        let sets = match expr {
            Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => {
                several = true;
                sets.concat()
            }
            other => vec![other.clone()],
        };
        for key in sets {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    let mut calls = Calls { keys, several };
    let items = select.projection.visit(&mut calls);
    let visited = match items {
        ControlFlow::Continue(()) => select.having.visit(&mut calls),
        found @ ControlFlow::Break(_) => found,
    };
    match visited {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(failure) => Err(failure),
    }
}

/// Finds `grouping(..)` and `grouping_id(..)`.
struct Calls {
    /// What is grouped by, in order.
    keys: Vec<Expr>,
    /// There are several groupings.
    several: bool,
}

impl VisitorMut for Calls {
    type Break = Failure;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Failure> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let name = function_name(function);
        if !matches!(&name[..], "grouping" | "grouping_id") {
            return ControlFlow::Continue(());
        }
        let refused = |function: &Function, message: String| {
            let kind = PlanErrorKind::Query { message };
            ControlFlow::Break(Box::new((name_span(function), kind)))
        };
        if !self.several {
            return refused(
                function,
                format!(
                    "[UNSUPPORTED_GROUPING_EXPRESSION] {name} is for GROUP BY with GROUPING SETS, ROLLUP or CUBE"
                ),
            );
        }
        let args: Vec<Expr> = arguments(function).into_iter().cloned().collect();
        let (args, data_type) = match &name[..] {
            "grouping" => (args, DataType::TinyInt(None)),
            _ if args.is_empty() || args == self.keys => {
                (self.keys.clone(), DataType::BigInt(None))
            }
            _ => {
                return refused(
                    function,
                    "[GROUPING_ID_COLUMN_MISMATCH] the arguments of grouping_id must be all that is grouped by, in order; leave them out".into(),
                );
            }
        };
        *expr = Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(call("grouping", args, name_span(function))),
            data_type,
            array: false,
            format: None,
        };
        ControlFlow::Continue(())
    }
}
