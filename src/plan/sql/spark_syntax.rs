//! Functions that Spark writes in a syntax of their own (`TRIM(BOTH .. FROM ..)`), and those that
//! are a `CASE` or an operator.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, Spanned, TrimWhereField, UnaryOperator, Value,
    ValueWithSpan,
};

use super::ast::{arguments, call, function_name, name_span, number};

/// The expression that stands for `expr`, if it is another.
pub(super) fn rewritten(expr: &Expr) -> Option<Expr> {
    let span = expr.span();
    let to = |name: &str, args: Vec<Expr>| Some(call(name, args, span));
    match expr {
        Expr::Function(function) => rewritten_call(function),
        Expr::Trim {
            expr,
            trim_where,
            trim_what,
            trim_characters,
        } => {
            // In `trim(characters, text)` the text comes last.
            if let Some([text]) = trim_characters.as_deref() {
                return to("__trim", vec![text.clone(), (**expr).clone()]);
            }
            let name = match trim_where {
                None | Some(TrimWhereField::Both) => "__trim",
                Some(TrimWhereField::Leading) => "__trim_leading",
                Some(TrimWhereField::Trailing) => "__trim_trailing",
            };
            let mut args = vec![(**expr).clone()];
            args.extend(trim_what.as_deref().cloned());
            to(name, args)
        }
        Expr::Substring {
            expr,
            substring_from,
            substring_for,
            ..
        } => {
            let mut args = vec![(**expr).clone()];
            match substring_from {
                Some(from) => args.push((**from).clone()),
                None => args.push(number(1, span)),
            }
            args.extend(substring_for.as_deref().cloned());
            to("substring", args)
        }
        Expr::Position { expr, r#in } => to("locate", vec![(**expr).clone(), (**r#in).clone()]),
        Expr::Overlay {
            expr,
            overlay_what,
            overlay_from,
            overlay_for,
        } => {
            let mut args = vec![(**expr).clone(), (**overlay_what).clone()];
            args.push((**overlay_from).clone());
            args.extend(overlay_for.as_deref().cloned());
            to("overlay", args)
        }
        _ => None,
    }
}

fn rewritten_call(function: &Function) -> Option<Expr> {
    let name = function_name(function);
    let args = arguments(function);
    let span = name_span(function);
    let own = |n: usize| args[n].clone();
    let zero = || number(0, span);
    let equal = |left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::Eq,
        right: Box::new(right),
    };
    let null = || Expr::Value(Value::Null.with_span(span));
    Some(match (name.as_str(), args.len()) {
        ("if", 3) => case(vec![(own(0), own(1))], Some(own(2))),
        ("nvl" | "ifnull", 2) => call("coalesce", vec![own(0), own(1)], span),
        ("nvl2", 3) => {
            let given = Expr::IsNotNull(Box::new(own(0)));
            case(vec![(given, own(1))], Some(own(2)))
        }
        ("nullif", 2) => case(vec![(equal(own(0), own(1)), null())], Some(own(0))),
        ("nullifzero", 1) => case(vec![(equal(own(0), zero()), null())], Some(own(0))),
        ("zeroifnull", 1) => call("coalesce", vec![own(0), zero()], span),
        ("like", 2 | 3) => Expr::Like {
            negated: false,
            any: false,
            expr: Box::new(own(0)),
            pattern: Box::new(own(1)),
            escape_char: escape(args.get(2))?,
        },
        ("ilike", 2 | 3) => Expr::ILike {
            negated: false,
            any: false,
            expr: Box::new(own(0)),
            pattern: Box::new(own(1)),
            escape_char: escape(args.get(2))?,
        },
        ("equal_null", 2) => Expr::IsNotDistinctFrom(Box::new(own(0)), Box::new(own(1))),
        ("negative", 1) => Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(Expr::Nested(Box::new(own(0)))),
        },
        ("decode", 2) => call("__decode", vec![own(0), own(1)], span),
        ("decode", 3..) => {
            let pairs = args[1..].chunks_exact(2);
            let rest = pairs.remainder().first().map(|expr| (*expr).clone());
            let branches = pairs.map(|pair| {
                let (value, pair) = (Box::new(own(0)), (pair[0].clone(), pair[1].clone()));
                (Expr::IsNotDistinctFrom(value, Box::new(pair.0)), pair.1)
            });
            case(branches.collect(), rest)
        }
        _ => return None,
    })
}

/// The character of an ESCAPE, where there is an argument for it; `None` if that is no text.
fn escape(given: Option<&&Expr>) -> Option<Option<ValueWithSpan>> {
    match given {
        None => Some(None),
        Some(Expr::Value(value)) if matches!(value.value, Value::SingleQuotedString(_)) => {
            Some(Some(value.clone()))
        }
        Some(_) => None,
    }
}

/// `CASE WHEN condition THEN result .. ELSE otherwise END`.
fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    let when = |(condition, result)| CaseWhen { condition, result };
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: branches.into_iter().map(when).collect(),
        else_result: otherwise.map(Box::new),
    }
}
