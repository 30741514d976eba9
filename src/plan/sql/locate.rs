//! Where in a query an error is that does not say so itself: at the innermost expression that,
//! selected alone from the same tables, fails in the same way.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, OrderByKind, Query, Select, SetExpr, Spanned, UnaryOperator, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::ast::{alone, name_span};

/// So many expressions are tried.
const MOST: usize = 200;

/// The place of the expression that `fails`, where one does by itself.
pub(super) fn culprit(
    query: &Query,
    tokens: &[TokenWithSpan],
    fails: &dyn Fn(Query) -> bool,
) -> Option<Span> {
    let mut blocks = Blocks::default();
    let _ = query.visit(&mut blocks);
    let tried = blocks.0.iter().flat_map(|block| {
        let exprs = block.exprs.iter();
        exprs.map(move |expr| (&block.select, expr))
    });
    let mut tried = tried.map(|(select, expr)| (span(expr, tokens), select, expr));
    (tried.by_ref().take(MOST))
        .find(|(span, select, expr)| {
            span.start.line > 0 && fails(alone(query, select, (*expr).clone()))
        })
        .map(|(span, ..)| span)
}

/// A `SELECT` with its expressions, the innermost first.
struct Block {
    select: Select,
    exprs: Vec<Expr>,
}

/// The blocks of a query, the innermost first.
#[derive(Default)]
struct Blocks(Vec<Block>);

impl Visitor for Blocks {
    type Break = ();

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let (SetExpr::Select(select), Some(order)) = (&*query.body, &query.order_by)
            && let OrderByKind::Expressions(order) = &order.kind
        {
            let mut exprs = Exprs::default();
            let _ = order.iter().try_for_each(|by| by.expr.visit(&mut exprs));
            self.0.push(Block {
                select: Select::clone(select),
                exprs: exprs.0,
            });
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let mut exprs = Exprs::default();
        let _ = select.projection.visit(&mut exprs);
        let _ = select.selection.visit(&mut exprs);
        let _ = select.group_by.visit(&mut exprs);
        let _ = select.having.visit(&mut exprs);
        self.0.push(Block {
            select: select.clone(),
            exprs: exprs.0,
        });
        ControlFlow::Continue(())
    }
}

/// Expressions, the innermost first.
#[derive(Default)]
struct Exprs(Vec<Expr>);

impl Visitor for Exprs {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if !matches!(expr, Expr::Value(_) | Expr::Nested(_)) {
            self.0.push(expr.clone());
        }
        // Long chains hold one another.
        if self.0.len() < MOST {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

/// The place of an expression: of its name, or from the word or sign that it begins with.
fn span(expr: &Expr, tokens: &[TokenWithSpan]) -> Span {
    let inner = expr.span();
    let begins = |is_it: &dyn Fn(&Token) -> bool| {
        let before = tokens.iter().rev().filter(|t| t.span.start < inner.start);
        let mut before = before.filter(|t| is_it(&t.token));
        before.next().map_or(inner, |t| t.span)
    };
    let word = |word: &str| {
        begins(&|token| matches!(token, Token::Word(w) if w.value.eq_ignore_ascii_case(word)))
    };
    match expr {
        Expr::Function(function) => name_span(function),
        Expr::Cast { .. } => begins(
            &|token| matches!(token, Token::Word(w) if ["CAST", "TRY_CAST"].iter().any(|cast| w.value.eq_ignore_ascii_case(cast))),
        ),
        Expr::Case { .. } => word("CASE"),
        Expr::Extract { .. } => word("EXTRACT"),
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            ..
        } => word("NOT"),
        Expr::UnaryOp { .. } => begins(&|token| matches!(token, Token::Minus | Token::Plus)),
        _ => inner,
    }
}
