//! Spark's functions that are another function, a cast or an operator here.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, CastKind, DataType as SqlType, ExactNumberInfo, Expr, Function, Ident, Spanned,
    TimezoneInfo, UnaryOperator,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::ast::{arguments, call, function_name, name_span, string};
use super::{format_functions, operators, spark_syntax};
use crate::plan::error::PlanErrorKind;

/// The expression that stands for `expr`, if it is another.
pub(super) fn rewritten(expr: &Expr) -> Result<Option<Expr>, PlanErrorKind> {
    if let Some(other) = spark_syntax::rewritten(expr) {
        // `like(a, b, '/')` is an operator that is another.
        let other = operators::rewritten(&other)?.unwrap_or(other);
        return Ok(Some(other));
    }
    if let Some(other) = operators::rewritten(expr)? {
        return Ok(Some(other));
    }
    match expr {
        Expr::Function(function) => rewritten_call(function),
        Expr::UnaryOp {
            op: UnaryOperator::BangNot,
            expr,
        } => Ok(Some(Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: expr.clone(),
        })),
        Expr::RLike {
            negated,
            expr,
            pattern,
            ..
        } => {
            let span = expr.span();
            let like = call(
                "regexp_like",
                vec![(**expr).clone(), (**pattern).clone()],
                span,
            );
            Ok(Some(if *negated {
                Expr::UnaryOp {
                    op: UnaryOperator::Not,
                    expr: Box::new(like),
                }
            } else {
                like
            }))
        }
        Expr::Extract {
            field, expr: from, ..
        } => {
            let field = string(&field.to_string(), from.span());
            let args = vec![field, (**from).clone()];
            Ok(Some(call("date_part", args, from.span())))
        }
        // A field of what a call gives: the planner takes its name as text.
        Expr::CompoundFieldAccess { root, access_chain }
            if access_chain
                .iter()
                .any(|access| named_field(access).is_some()) =>
        {
            let as_text = |access: &AccessExpr| match named_field(access) {
                Some(name) => AccessExpr::Dot(string(&name.value, name.span)),
                None => access.clone(),
            };
            Ok(Some(Expr::CompoundFieldAccess {
                root: root.clone(),
                access_chain: access_chain.iter().map(as_text).collect(),
            }))
        }
        Expr::Struct { values, fields } if fields.is_empty() => Ok(Some(named_struct(values))),
        _ => Ok(None),
    }
}

fn named_field(access: &AccessExpr) -> Option<&Ident> {
    match access {
        AccessExpr::Dot(Expr::Identifier(name)) => Some(name),
        _ => None,
    }
}

/// `struct(a, b + 1)`: fields are called as their columns, or `col2` by their place.
fn named_struct(values: &[Expr]) -> Expr {
    let span = values.first().map_or_else(Span::empty, Spanned::span);
    let pairs = values.iter().enumerate().flat_map(|(index, value)| {
        let (name, value) = match value {
            Expr::Named { expr, name } => (name.value.clone(), &**expr),
            Expr::Identifier(ident) => (ident.value.clone(), value),
            Expr::CompoundIdentifier(parts) => (
                parts.last().map(|p| p.value.clone()).unwrap_or_default(),
                value,
            ),
            _ => (format!("col{}", index + 1), value),
        };
        [string(&name, span), value.clone()]
    });
    call("named_struct", pairs.collect(), span)
}

fn rewritten_call(function: &Function) -> Result<Option<Expr>, PlanErrorKind> {
    let name = function_name(function);
    let args = arguments(function);
    let span = name_span(function);
    let own = |n: usize| args[n].clone();
    let to = |data_type| Some(cast(own(0), data_type));
    let attempt = |data_type| Some(cast_as(CastKind::TryCast, own(0), data_type));
    Ok(match (name.as_str(), args.len()) {
        // The planner has syntax of its own under this name.
        ("map", _) => Some(call("__map", args.into_iter().cloned().collect(), span)),
        ("to_timestamp" | "timestamp", 1) => to(SqlType::Timestamp(None, TimezoneInfo::None)),
        ("to_date" | "date", 1) => to(SqlType::Date),
        ("string", 1) => to(SqlType::String(None)),
        ("boolean", 1) => to(SqlType::Boolean),
        ("tinyint", 1) => to(SqlType::TinyInt(None)),
        ("smallint", 1) => to(SqlType::SmallInt(None)),
        ("int", 1) => to(SqlType::Int(None)),
        ("bigint", 1) => to(SqlType::BigInt(None)),
        ("float", 1) => to(SqlType::Float(ExactNumberInfo::None)),
        ("double", 1) => to(SqlType::Double(ExactNumberInfo::None)),
        ("decimal", 1) => to(SqlType::Decimal(ExactNumberInfo::None)),
        ("binary", 1) => to(SqlType::Binary(None)),
        ("isnull", 1) => Some(Expr::IsNull(Box::new(own(0)))),
        ("isnotnull", 1) => Some(Expr::IsNotNull(Box::new(own(0)))),
        ("curtimestamp", 0) => Some(call("current_timestamp", vec![], span)),
        ("localtimestamp", 0) => Some(cast(
            call("current_timestamp", vec![], span),
            SqlType::TimestampNtz(None),
        )),
        ("unix_timestamp", 0) => {
            let now = call("current_timestamp", vec![], span);
            Some(call("unix_seconds", vec![now], span))
        }
        ("to_timestamp_ltz", 1) => to(SqlType::Timestamp(None, TimezoneInfo::None)),
        ("to_timestamp_ntz", 1) => to(SqlType::TimestampNtz(None)),
        ("try_to_timestamp", 1) => attempt(SqlType::Timestamp(None, TimezoneInfo::None)),
        ("try_to_date", 1) => attempt(SqlType::Date),
        ("date_add" | "dateadd" | "timestampadd", 3) => {
            Some(call("timestampadd", with_unit(&args), span))
        }
        ("date_diff" | "datediff" | "timestampdiff" | "timediff", 3) => {
            Some(call("timestampdiff", with_unit(&args), span))
        }
        _ => return format_functions::rewritten(function),
    })
}

/// The arguments of `timestampadd(MONTH, ...)`: the unit is a word there, and text for the function.
fn with_unit(args: &[&Expr]) -> Vec<Expr> {
    let mut args: Vec<Expr> = args.iter().map(|arg| (*arg).clone()).collect();
    if let Some(unit) = args.first_mut()
        && let Expr::Identifier(name) = unit
    {
        *unit = string(&name.value, name.span);
    }
    args
}

fn cast(expr: Expr, data_type: SqlType) -> Expr {
    cast_as(CastKind::Cast, expr, data_type)
}

fn cast_as(kind: CastKind, expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast {
        kind,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}
