//! Rewrites on the syntax tree, one `SELECT` at a time.
//!
//! `window(ts, size[, slide[, start]])` becomes `__tumbling_window(..)`, or, where windows overlap,
//! `unnest(__sliding_windows(..))`: `DataFusion` multiplies the rows below the grouping. As in
//! Spark, `window` names the result in the same block (`window.start`), and rows without event
//! time are in no window. `current_date()` becomes the date of `current_timestamp()`, and `*`
//! leaves `_metadata` out.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, ExceptSelectItem, Expr, Function, Ident, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Spanned, TableFactor, UnaryOperator, Value, ValueWithSpan,
    VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use tidemark_connectors::METADATA_COLUMN;

use super::ast::{arguments, call, function_name, name_span, number, string};
use super::{generators, grouping, lambdas, spark_functions};
use crate::plan::error::PlanErrorKind;
use crate::plan::functions::interval::parse_micros;

/// What a rewrite needs to know.
pub(super) struct Rewriter<'a> {
    /// `spark.sql.session.timeZone`.
    pub(super) time_zone: &'a str,
    /// The tables, in lower case, that show `_metadata` in this query.
    pub(super) with_metadata: &'a dyn Fn(&str) -> bool,
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
                "session_window" => {
                    let kind = PlanErrorKind::Unsupported {
                        what: "session_window".into(),
                        instead: Some(
                            "not yet: there is window(ts, size[, slide[, start]])".into(),
                        ),
                    };
                    return ControlFlow::Break(Box::new((name_span(function), kind)));
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
        let rewritten = grouping::rewrite(select)
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

/// One call of `window(..)`.
#[derive(Debug)]
struct WindowCall {
    ts: Expr,
    size: i64,
    slide: i64,
    start: i64,
    span: Span,
}

impl WindowCall {
    fn same(&self, other: &Self) -> bool {
        (&self.ts, self.size, self.slide, self.start)
            == (&other.ts, other.size, other.slide, other.start)
    }

    fn sliding(&self) -> bool {
        self.slide != self.size
    }

    fn expr(&self) -> Expr {
        let lengths = |all: &[i64]| {
            all.iter()
                .map(|n| number(*n, self.span))
                .collect::<Vec<_>>()
        };
        let mut args = vec![self.ts.clone()];
        if self.sliding() {
            args.extend(lengths(&[self.size, self.slide, self.start]));
            call(
                "unnest",
                vec![call("__sliding_windows", args, self.span)],
                self.span,
            )
        } else {
            args.extend(lengths(&[self.size, self.start]));
            call("__tumbling_window", args, self.span)
        }
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
    let mut calls = finder.calls;
    if calls.is_empty() {
        return Ok(());
    }
    if let Some(call) = calls[..before].iter().find(|c| c.sliding()) {
        return Err(bad(
            call.span,
            "a sliding window cannot stand in WHERE; put it into a sub-query",
        ));
    }
    let first_sliding = calls.iter().find(|c| c.sliding());
    if let Some(first) = first_sliding
        && let Some(other) = calls.iter().find(|c| c.sliding() && !c.same(first))
    {
        return Err(bad(
            other.span,
            "a SELECT can have one sliding window; put the other into a sub-query",
        ));
    }
    // What `window` means is clear where all calls are the same.
    let only = calls.iter().all(|c| c.same(&calls[0]));
    for item in &mut select.projection {
        name_item(item, only);
    }
    let mut substitute = Substitute {
        calls: &calls,
        names: only,
    };
    if let Some(expr) = select.selection.as_mut() {
        let _ = expr.visit(&mut substitute);
    }
    each_expr(select, |expr| {
        let _ = expr.visit(&mut substitute);
        Ok(())
    })?;
    calls.dedup_by(|a, b| a.ts == b.ts);
    for call in calls {
        let known = Expr::IsNotNull(Box::new(Expr::Nested(Box::new(call.ts))));
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
        if function_name(function) != "window" || function.over.is_some() {
            return ControlFlow::Continue(());
        }
        match parse_call(function) {
            Ok(call) => {
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
            Err(error) => {
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
    names: bool,
}

impl Substitute<'_> {
    fn meant(&self, ident: &Ident) -> Option<&WindowCall> {
        match ident.value.strip_prefix(MARK) {
            Some(index) => self.calls.get(index.parse::<usize>().ok()?),
            None if self.names && ident.value.eq_ignore_ascii_case("window") => self.calls.first(),
            None => None,
        }
    }
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

fn is_window_function(function: &Function) -> bool {
    matches!(
        function_name(function).as_str(),
        "__tumbling_window" | "unnest"
    )
}

/// `SELECT window(..)`, `SELECT window` and `SELECT window.start` keep their names.
fn name_item(item: &mut SelectItem, only: bool) {
    let SelectItem::UnnamedExpr(expr) = item else {
        return;
    };
    let alias = match expr {
        Expr::Identifier(ident) if ident.value.starts_with(MARK) => "window".to_owned(),
        Expr::Identifier(ident) if only && ident.value.eq_ignore_ascii_case("window") => {
            "window".into()
        }
        Expr::CompoundIdentifier(parts)
            if only && parts.len() == 2 && parts[0].value.eq_ignore_ascii_case("window") =>
        {
            parts[1].value.to_lowercase()
        }
        Expr::CompoundFieldAccess { root, access_chain } => match (&**root, access_chain.last()) {
            (Expr::Identifier(ident), Some(AccessExpr::Dot(Expr::Identifier(field))))
                if ident.value.starts_with(MARK) =>
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

fn parse_call(function: &Function) -> Result<WindowCall, Failure> {
    let span = name_span(function);
    let (ts, lengths) = match &arguments(function)[..] {
        [ts, lengths @ ..] if (1..=3).contains(&lengths.len()) => ((*ts).clone(), lengths.to_vec()),
        _ => {
            return Err(bad(
                span,
                "it takes a timestamp, a size and, if you like, a slide and a start: window(ts, '10 minutes', '5 minutes', '1 minute')",
            ));
        }
    };
    let micros: Vec<i64> = lengths
        .iter()
        .map(|expr| constant(expr, span))
        .collect::<Result<_, _>>()?;
    let size = micros[0];
    let slide = micros.get(1).copied().unwrap_or(size);
    let start = micros.get(2).copied().unwrap_or(0);
    if size <= 0 || slide <= 0 {
        return Err(bad(
            span,
            "the size and the slide must be greater than zero",
        ));
    }
    if slide > size {
        return Err(bad(
            span,
            "the slide must not be greater than the size: rows between windows would be lost",
        ));
    }
    Ok(WindowCall {
        ts,
        size,
        slide,
        start,
        span,
    })
}

/// The length that a constant argument says, in microseconds.
fn constant(expr: &Expr, call: Span) -> Result<i64, Failure> {
    let text = match expr {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }) => text.clone(),
        Expr::Interval(interval) => {
            let unit = interval
                .leading_field
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let (sign, value) = match &*interval.value {
                Expr::UnaryOp {
                    op: UnaryOperator::Minus,
                    expr,
                } => ("-", &**expr),
                other => ("", other),
            };
            match value {
                Expr::Value(ValueWithSpan {
                    value: Value::SingleQuotedString(v) | Value::Number(v, _),
                    ..
                }) => {
                    format!("{sign}{v} {unit}")
                }
                other => other.to_string(),
            }
        }
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => return constant(expr, call).map(|m| -m),
        Expr::Nested(inner) => return constant(inner, call),
        _ => {
            return Err(bad(
                call,
                "its lengths must be constants, such as '5 minutes' or INTERVAL '5' MINUTE",
            ));
        }
    };
    parse_micros(&text).map_err(|why| {
        Box::new((
            call,
            PlanErrorKind::BadInterval {
                text: text.trim().into(),
                why,
            },
        ))
    })
}

fn bad(span: Span, reason: &str) -> Failure {
    Box::new((
        span,
        PlanErrorKind::BadWindow {
            call: "window".into(),
            reason: reason.into(),
        },
    ))
}
