//! Rewrites on the syntax tree, one `SELECT` at a time.
//!
//! `window(ts, size[, slide[, start]])` becomes `__tumbling_window(..)`, or, where windows overlap,
//! `unnest(__sliding_windows(..))`: `DataFusion` multiplies the rows below the grouping. As in
//! Spark, `window` names the result in the same block (`window.start`), and rows without event
//! time are in no window. `session_window(ts, gap)` becomes `__session_window(..)`, a row's own
//! session; below the grouping they are merged (`plan::sessions`). `current_date()` becomes the date of `current_timestamp()`, and `*`
//! leaves `_metadata` out.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, ExceptSelectItem, Expr, Ident, OrderByExpr, OrderByKind, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Spanned, TableFactor, Value,
    VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use tidemark_connectors::METADATA_COLUMN;

use super::asof::{self, Versions};
use super::ast::{call, function_name, name_span, string};
use super::window_calls::{Family, WindowCall, bad, is_window_function};
use super::{generators, grouping, lambdas, spark_functions};
use crate::plan::error::PlanErrorKind;

/// What a rewrite needs to know.
pub(super) struct Rewriter<'a> {
    /// `spark.sql.session.timeZone`.
    pub(super) time_zone: &'a str,
    /// The tables, in lower case, that show `_metadata` in this query.
    pub(super) with_metadata: &'a dyn Fn(&str) -> bool,
    /// What there is to look up in a table by its name in lower case.
    pub(super) versions: &'a dyn Fn(&str) -> Versions,
}

/// Rewrites all blocks of a query; the error comes with its place.
pub(super) fn rewrite(query: &mut Query, rewriter: &mut Rewriter) -> Result<(), Failure> {
    match query.visit(rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// An error and its place.
pub(super) type Failure = Box<(Span, PlanErrorKind)>;

impl VisitorMut for Rewriter<'_> {
    type Break = Failure;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Failure> {
        order_by_all(query);
        // `ORDER BY` is about the windows of the one block before it, and visited as a part of it.
        lend_order(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Failure> {
        lend_order(query);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Failure> {
        if let Expr::Function(function) = expr {
            match function_name(function).as_str() {
                "current_date" | "curdate" => {
                    let span = name_span(function);
                    let zone = string(self.time_zone, span);
                    *expr = call(
                        "__local_date",
                        vec![call("current_timestamp", vec![], span), zone],
                        span,
                    );
                }
                _ => {}
            }
        }
        if let Err(failure) = lambdas::resolve(expr) {
            return ControlFlow::Break(failure);
        }
        match spark_functions::rewritten(expr) {
            Ok(Some(other)) => *expr = other,
            Ok(None) => {}
            Err(kind) => {
                let span = match expr {
                    Expr::Function(function) => name_span(function),
                    other => other.span(),
                };
                return ControlFlow::Break(Box::new((span, kind)));
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Failure> {
        self.hide_metadata(select);
        let rewritten = asof::rewrite(select, self.versions)
            .and_then(|()| grouping::rewrite(select))
            .and_then(|()| windows(select))
            .and_then(|()| generators::rewrite(select));
        match rewritten {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Rewriter<'_> {
    fn hide_metadata(&self, select: &mut Select) {
        let shown = |factor: &TableFactor| match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let table = name.to_string().replace('`', "").to_lowercase();
                (self.with_metadata)(&table).then(|| {
                    alias
                        .as_ref()
                        .map_or(table, |a| a.name.value.to_lowercase())
                })
            }
            _ => None,
        };
        let factors = select
            .from
            .iter()
            .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)));
        let names: Vec<String> = factors.filter_map(shown).collect();
        for item in &mut select.projection {
            let options = match item {
                SelectItem::Wildcard(options) if !names.is_empty() => options,
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) if names.contains(&name.to_string().replace('`', "").to_lowercase()) => options,
                _ => continue,
            };
            leave_out(options, Ident::new(METADATA_COLUMN));
        }
    }
}

fn leave_out(options: &mut WildcardAdditionalOptions, ident: Ident) {
    match &mut options.opt_except {
        None => {
            options.opt_except = Some(ExceptSelectItem {
                first_element: ident,
                additional_elements: vec![],
            });
        }
        Some(except) => {
            let named = |i: &Ident| i.value.eq_ignore_ascii_case(&ident.value);
            if !named(&except.first_element) && !except.additional_elements.iter().any(named) {
                except.additional_elements.push(ident);
            }
        }
    }
}

/// Spells `ORDER BY ALL` out: by all items of the `SELECT`, where they can be counted.
fn order_by_all(query: &mut Query) {
    let (SetExpr::Select(select), Some(order)) = (&*query.body, &mut query.order_by) else {
        return;
    };
    let OrderByKind::All(options) = order.kind else {
        return;
    };
    let counted = |item: &SelectItem| {
        matches!(
            item,
            SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
        )
    };
    if select.projection.iter().all(counted) {
        let by = (1..=select.projection.len()).map(|position| OrderByExpr {
            expr: Expr::value(Value::Number(position.to_string(), false)),
            options,
            with_fill: None,
        });
        order.kind = OrderByKind::Expressions(by.collect());
    }
}

/// Hands what a query is ordered by to its one block, as if it were sorted by it, or takes it back.
fn lend_order(query: &mut Query) {
    let order = query.order_by.as_mut().map(|order| &mut order.kind);
    if let (SetExpr::Select(select), Some(OrderByKind::Expressions(order))) =
        (&mut *query.body, order)
    {
        std::mem::swap(&mut select.sort_by, order);
    }
}

/// Rewrites the calls of one block.
fn windows(select: &mut Select) -> Result<(), Failure> {
    let mut in_where = Finder::default();
    visit(select.selection.as_mut(), &mut in_where)?;
    let mut finder = Finder {
        calls: in_where.calls,
        error: None,
    };
    let before = finder.calls.len();
    each_expr(select, |expr| visit(Some(expr), &mut finder))?;
    let calls = finder.calls;
    if calls.is_empty() {
        return Ok(());
    }
    if let Some(call) = calls[..before].iter().find(|c| c.sliding()) {
        return Err(bad(
            Family::Window,
            call.span,
            "a sliding window cannot stand in WHERE; put it into a sub-query",
        ));
    }
    let first_sliding = calls.iter().find(|c| c.sliding());
    if let Some(first) = first_sliding
        && let Some(other) = calls.iter().find(|c| c.sliding() && !c.same(first))
    {
        return Err(bad(
            Family::Window,
            other.span,
            "a SELECT can have one sliding window; put the other into a sub-query",
        ));
    }
    // What `window` means is clear where all such calls are the same.
    let clear = |family: &Family| {
        let mut of_family = calls.iter().filter(|call| call.family() == *family);
        let first = of_family.next();
        first.is_some_and(|first| of_family.all(|call| call.same(first)))
    };
    let clear: Vec<Family> = Family::ALL.into_iter().filter(clear).collect();
    for item in &mut select.projection {
        name_item(item, &calls, &clear);
    }
    let mut substitute = Substitute {
        calls: &calls,
        clear: &clear,
    };
    if let Some(expr) = select.selection.as_mut() {
        let _ = expr.visit(&mut substitute);
    }
    each_expr(select, |expr| {
        let _ = expr.visit(&mut substitute);
        Ok(())
    })?;
    let mut counted: Vec<Expr> = calls.iter().map(WindowCall::counted).collect();
    counted.dedup();
    for known in counted {
        select.selection = Some(match select.selection.take() {
            None => known,
            Some(condition) => Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(condition))),
                op: BinaryOperator::And,
                right: Box::new(known),
            },
        });
    }
    Ok(())
}

/// The expressions of a block in which a window may stand, apart from `WHERE`.
fn each_expr(
    select: &mut Select,
    mut f: impl FnMut(&mut Expr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    use datafusion::sql::sqlparser::ast::{Distinct, GroupByExpr};
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            f(expr)?;
        }
    }
    if let Some(Distinct::On(exprs)) = &mut select.distinct {
        exprs.iter_mut().try_for_each(&mut f)?;
    }
    if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        exprs.iter_mut().try_for_each(&mut f)?;
    }
    for by in &mut select.sort_by {
        f(&mut by.expr)?;
    }
    select.having.as_mut().map_or(Ok(()), &mut f)
}

fn visit(expr: Option<&mut Expr>, finder: &mut Finder) -> Result<(), Failure> {
    if let Some(expr) = expr {
        let _ = expr.visit(finder);
    }
    finder.error.take().map_or(Ok(()), Err)
}

/// Gathers the calls and leaves a mark in place of each.
#[derive(Default)]
struct Finder {
    calls: Vec<WindowCall>,
    error: Option<Failure>,
}

impl VisitorMut for Finder {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        match WindowCall::parse(function) {
            None => ControlFlow::Continue(()),
            Some(Ok(call)) => {
                let index = self
                    .calls
                    .iter()
                    .position(|c| c.same(&call))
                    .unwrap_or(self.calls.len());
                if index == self.calls.len() {
                    self.calls.push(call);
                }
                *expr = Expr::Identifier(Ident::new(format!("{MARK}{index}")));
                ControlFlow::Continue(())
            }
            Some(Err(error)) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

const MARK: &str = "__window_call_";

/// Puts the rewritten calls in place of their marks, and of `window` where that is clear.
struct Substitute<'a> {
    calls: &'a [WindowCall],
    /// Whose names stand for the one call of theirs.
    clear: &'a [Family],
}

impl Substitute<'_> {
    fn meant(&self, ident: &Ident) -> Option<&WindowCall> {
        if let Some(call) = marked(self.calls, ident) {
            return Some(call);
        }
        let family = named(self.clear, ident)?;
        self.calls.iter().find(|call| call.family() == family)
    }
}

/// The call that a mark stands for.
fn marked<'a>(calls: &'a [WindowCall], ident: &Ident) -> Option<&'a WindowCall> {
    let index = ident.value.strip_prefix(MARK)?;
    calls.get(index.parse::<usize>().ok()?)
}

/// The one of these windows that a name stands for.
fn named(clear: &[Family], ident: &Ident) -> Option<Family> {
    let mut named = clear.iter().copied();
    named.find(|family| ident.value.eq_ignore_ascii_case(family.name()))
}

impl VisitorMut for Substitute<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let replaced = match expr {
            Expr::Identifier(ident) => self.meant(ident).map(WindowCall::expr),
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => {
                self.meant(&parts[0]).map(|window| {
                    let field = string(&parts[1].value.to_lowercase(), parts[1].span);
                    call("get_field", vec![window.expr(), field], window.span)
                })
            }
            // By now the root of `window(..).start` is what the mark was replaced by.
            Expr::CompoundFieldAccess { root, access_chain } => {
                match (&**root, &access_chain[..]) {
                    (Expr::Function(function), [AccessExpr::Dot(Expr::Identifier(field))])
                        if is_window_function(function) =>
                    {
                        let name = string(&field.value.to_lowercase(), field.span);
                        Some(call("get_field", vec![(**root).clone(), name], field.span))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(replaced) = replaced {
            *expr = replaced;
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT window(..)`, `SELECT window` and `SELECT window.start` keep their names.
fn name_item(item: &mut SelectItem, calls: &[WindowCall], clear: &[Family]) {
    let SelectItem::UnnamedExpr(expr) = item else {
        return;
    };
    let family = |ident: &Ident| match marked(calls, ident) {
        Some(call) => Some(call.family()),
        None => named(clear, ident),
    };
    let alias = match expr {
        Expr::Identifier(ident) => match family(ident) {
            Some(family) => family.name().to_owned(),
            None => return,
        },
        Expr::CompoundIdentifier(parts)
            if parts.len() == 2 && named(clear, &parts[0]).is_some() =>
        {
            parts[1].value.to_lowercase()
        }
        Expr::CompoundFieldAccess { root, access_chain } => match (&**root, access_chain.last()) {
            (Expr::Identifier(ident), Some(AccessExpr::Dot(Expr::Identifier(field))))
                if marked(calls, ident).is_some() =>
            {
                field.value.to_lowercase()
            }
            _ => return,
        },
        _ => return,
    };
    let alias = Ident::new(alias);
    let expr = std::mem::replace(expr, Expr::Identifier(alias.clone()));
    *item = SelectItem::ExprWithAlias { expr, alias };
}
