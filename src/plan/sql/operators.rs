//! Spark's operators that are a function, or several operators, here; and literals that name their
//! type, which are checked where they stand.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType as SqlType, Expr, FunctionArguments, Spanned, TypedString,
    UnaryOperator, Value, ValueWithSpan,
};
use tidemark_connectors::format::casts::Casts;

use super::ast::{arguments, call, function_name, string};
use crate::plan::error::PlanErrorKind;

/// The expression that stands for `expr`, if it is another.
pub(super) fn rewritten(expr: &Expr) -> Result<Option<Expr>, PlanErrorKind> {
    let span = expr.span();
    let to = |name: &str, args: Vec<Expr>| Ok(Some(call(name, args, span)));
    match expr {
        Expr::UnaryOp { op, expr } => match (op, &**expr) {
            (UnaryOperator::BitwiseNot, operand) => to("bitwise_not", vec![operand.clone()]),
            // The planner makes one constant of it.
            (
                UnaryOperator::Minus,
                Expr::Value(ValueWithSpan {
                    value: Value::Number(..),
                    ..
                }),
            ) => Ok(None),
            (UnaryOperator::Minus, operand) => to("__negate", vec![operand.clone()]),
            _ => Ok(None),
        },
        Expr::BinaryOp { left, op, right } => {
            let args = || vec![(**left).clone(), (**right).clone()];
            match op {
                BinaryOperator::PGBitwiseShiftLeft => to("shiftleft", args()),
                BinaryOperator::PGBitwiseShiftRight => to("shiftright", args()),
                _ => Ok(None),
            }
        }
        Expr::Like { .. } | Expr::ILike { .. } => like(expr),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let named = |access: &AccessExpr| match access {
                AccessExpr::Dot(Expr::Identifier(field)) => {
                    Some(AccessExpr::Dot(string(&field.value, field.span)))
                }
                _ => None,
            };
            if !access_chain.iter().any(|access| named(access).is_some()) {
                return Ok(None);
            }
            let access_chain = (access_chain.iter())
                .map(|access| named(access).unwrap_or_else(|| access.clone()))
                .collect();
            Ok(Some(Expr::CompoundFieldAccess {
                root: root.clone(),
                access_chain,
            }))
        }
        Expr::TypedString(literal) => typed(literal).map(|()| None),
        _ => Ok(None),
    }
}

/// `DATE '...'` and its relatives must say one.
fn typed(literal: &TypedString) -> Result<(), PlanErrorKind> {
    let Value::SingleQuotedString(text) = &literal.value.value else {
        return Ok(());
    };
    let bytes = text.as_bytes();
    let (name, valid) = match &literal.data_type {
        SqlType::Date => ("DATE", Casts::default().date(bytes).is_some()),
        SqlType::Timestamp(..) => ("TIMESTAMP", Casts::wall_clock(bytes).is_some()),
        SqlType::TimestampNtz(_) => ("TIMESTAMP_NTZ", Casts::wall_clock(bytes).is_some()),
        _ => return Ok(()),
    };
    if valid || text.trim() == "epoch" {
        return Ok(());
    }
    Err(PlanErrorKind::Query {
        message: format!(
            "[INVALID_TYPED_LITERAL] '{text}' is no {name}; write for example DATE '2026-01-31' or TIMESTAMP '2026-01-31 12:00:00'"
        ),
    })
}

/// The parts of a LIKE.
struct Like<'a> {
    negated: bool,
    any: bool,
    expr: &'a Expr,
    pattern: &'a Expr,
    escape: Option<&'a ValueWithSpan>,
    insensitive: bool,
}

impl Like<'_> {
    fn with(&self, pattern: &Expr) -> Expr {
        let (expr, pattern) = (Box::new(self.expr.clone()), Box::new(pattern.clone()));
        let (negated, any, escape_char) = (self.negated, false, self.escape.cloned());
        if self.insensitive {
            Expr::ILike {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            }
        } else {
            Expr::Like {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            }
        }
    }
}

/// `LIKE ANY (a, b)` and `LIKE ALL (a, b)` one by one; an escape character of the query's own as
/// the backslash that the kernel knows.
fn like(expr: &Expr) -> Result<Option<Expr>, PlanErrorKind> {
    let (Expr::Like {
        negated,
        any,
        expr: subject,
        pattern,
        escape_char,
    }
    | Expr::ILike {
        negated,
        any,
        expr: subject,
        pattern,
        escape_char,
    }) = expr
    else {
        return Ok(None);
    };
    let like = Like {
        negated: *negated,
        any: *any,
        expr: subject,
        pattern,
        escape: escape_char.as_ref(),
        insensitive: matches!(expr, Expr::ILike { .. }),
    };
    if let Some((all, patterns)) = quantified(&like) {
        let op = if all {
            BinaryOperator::And
        } else {
            BinaryOperator::Or
        };
        let joined = patterns
            .into_iter()
            .map(|pattern| like.with(pattern))
            .reduce(|left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: op.clone(),
                right: Box::new(right),
            });
        return Ok(joined.map(|all| Expr::Nested(Box::new(all))));
    }
    let Some(escape) = like.escape else {
        return Ok(None);
    };
    let (Value::SingleQuotedString(escape), Expr::Value(pattern)) = (&escape.value, like.pattern)
    else {
        return Err(PlanErrorKind::Unsupported {
            what: "LIKE with ESCAPE and a pattern that is no constant".into(),
            instead: Some("a backslash escapes without being named".into()),
        });
    };
    let (mut chars, Value::SingleQuotedString(text)) = (escape.chars(), &pattern.value) else {
        return Ok(None);
    };
    let (Some(escape), None) = (chars.next(), chars.next()) else {
        return Err(PlanErrorKind::Query {
            message: format!("[INVALID_ESCAPE_CHAR] ESCAPE takes one character, not '{escape}'"),
        });
    };
    let pattern = string(&backslashed(text, escape), pattern.span);
    let plain = Like {
        escape: None,
        ..like
    };
    Ok(Some(plain.with(&pattern)))
}

/// Whether all patterns must match, and the patterns; `None` for one pattern.
fn quantified<'a>(like: &Like<'a>) -> Option<(bool, Vec<&'a Expr>)> {
    match like.pattern {
        Expr::Tuple(patterns) if like.any => Some((false, patterns.iter().collect())),
        Expr::Nested(pattern) if like.any => Some((false, vec![&**pattern])),
        Expr::Function(function) if matches!(function.args, FunctionArguments::List(_)) => {
            let all = match function_name(function).as_str() {
                "all" => true,
                "any" | "some" => false,
                _ => return None,
            };
            Some((all, arguments(function)))
        }
        _ => None,
    }
}

/// A pattern escaped by `escape` as one escaped by backslashes.
fn backslashed(pattern: &str, escape: char) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == escape {
            if let Some(literal) = chars.next() {
                text.push('\\');
                text.push(literal);
            }
        } else {
            if c == '\\' {
                text.push('\\');
            }
            text.push(c);
        }
    }
    text
}
