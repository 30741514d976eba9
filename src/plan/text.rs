//! Expressions as SQL a user would write, for explanations, errors and fingerprints.

use std::fmt::Write;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::event_time::literal_micros;
use super::functions::aggregates::name_of;
use super::functions::arithmetic::{Op, as_operator};
use super::functions::cast::as_cast;
use super::functions::random;
use super::sql::type_name;
use super::{AggregateCall, AggregateFunction as Function, Supplied};

/// The expression as SQL; columns by their bare names.
pub fn expression(expr: &Expr) -> String {
    render(expr, &|column| column.name.clone())
}

/// Several expressions, parted by commas.
pub fn list<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> String {
    exprs
        .into_iter()
        .map(expression)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The expression as SQL; what a column is called is for `name` to say.
pub fn render(expr: &Expr, name: &dyn Fn(&Column) -> String) -> String {
    let go = |expr: &Expr| render(expr, name);
    let all = |exprs: &[Expr]| exprs.iter().map(go).collect::<Vec<_>>().join(", ");
    // Operands that are operations themselves get parentheses.
    let operand = |expr: &Expr| match expr {
        _ if as_operation(expr).is_some() => format!("({})", go(expr)),
        Expr::BinaryExpr(_) | Expr::Between(_) | Expr::Like(_) | Expr::InList(_) | Expr::Not(_) => {
            format!("({})", go(expr))
        }
        _ => go(expr),
    };
    let negated = |yes: bool| if yes { "NOT " } else { "" };
    if let Some((inner, to, strict)) = as_cast(expr) {
        let name = if strict { "CAST" } else { "TRY_CAST" };
        return format!("{name}({} AS {})", go(inner), type_name(to));
    }
    if let Some(operation) = as_operation(expr) {
        return render_operation(&operation, name);
    }
    if let Some((Op::Negate, [one])) = as_operator(expr) {
        return format!("-{}", operand(one));
    }
    match expr {
        Expr::Alias(alias) => go(&alias.expr),
        Expr::Column(column) => match Supplied::of(column) {
            Some(Supplied::CurrentTimestamp) => "current_timestamp()".into(),
            Some(Supplied::Salt) => "the query's salt".into(),
            Some(Supplied::Position) => "the source's order".into(),
            None => name(column),
        },
        Expr::Literal(value, _) => literal(value),
        Expr::Not(inner) => format!("NOT {}", operand(inner)),
        Expr::Negative(inner) => format!("-{}", operand(inner)),
        Expr::IsNull(inner) => format!("{} IS NULL", operand(inner)),
        Expr::IsNotNull(inner) => format!("{} IS NOT NULL", operand(inner)),
        Expr::IsTrue(inner) => format!("{} IS TRUE", operand(inner)),
        Expr::IsFalse(inner) => format!("{} IS FALSE", operand(inner)),
        Expr::IsUnknown(inner) => format!("{} IS UNKNOWN", operand(inner)),
        Expr::IsNotTrue(inner) => format!("{} IS NOT TRUE", operand(inner)),
        Expr::IsNotFalse(inner) => format!("{} IS NOT FALSE", operand(inner)),
        Expr::IsNotUnknown(inner) => format!("{} IS NOT UNKNOWN", operand(inner)),
        Expr::Between(between) => format!(
            "{} {}BETWEEN {} AND {}",
            operand(&between.expr),
            negated(between.negated),
            operand(&between.low),
            operand(&between.high)
        ),
        Expr::Like(like) => format!(
            "{} {}{} {}",
            operand(&like.expr),
            negated(like.negated),
            if like.case_insensitive {
                "ILIKE"
            } else {
                "LIKE"
            },
            operand(&like.pattern)
        ),
        Expr::InList(list) => format!(
            "{} {}IN ({})",
            operand(&list.expr),
            negated(list.negated),
            all(&list.list)
        ),
        Expr::Case(case) => {
            let mut text = String::from("CASE");
            if let Some(subject) = &case.expr {
                let _ = write!(text, " {}", go(subject));
            }
            for (when, then) in &case.when_then_expr {
                let _ = write!(text, " WHEN {} THEN {}", go(when), go(then));
            }
            if let Some(otherwise) = &case.else_expr {
                let _ = write!(text, " ELSE {}", go(otherwise));
            }
            text + " END"
        }
        Expr::ScalarFunction(call) => render_call(call, name),
        Expr::AggregateFunction(call) => aggregate(call, name),
        Expr::WindowFunction(call) => {
            format!("{}({}) OVER (...)", call.fun.name(), all(&call.params.args))
        }
        Expr::HigherOrderFunction(call) => format!("{}({})", call.name(), all(&call.args)),
        Expr::Lambda(lambda) => {
            let body = render(&lambda.body, name);
            match &lambda.params[..] {
                [one] => format!("{one} -> {body}"),
                many => format!("({}) -> {body}", many.join(", ")),
            }
        }
        other => other.human_display().to_string(),
    }
}

/// An operator between two operands.
struct Operation<'a> {
    symbol: String,
    /// Binds the stronger, the greater it is.
    precedence: u8,
    left: &'a Expr,
    right: &'a Expr,
}

/// The expression as an operator between its operands, whichever way it is computed.
fn as_operation(expr: &Expr) -> Option<Operation<'_>> {
    if let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr {
        return Some(Operation {
            symbol: op.to_string(),
            precedence: op.precedence(),
            left,
            right,
        });
    }
    let (op, [left, right]) = as_operator(expr)? else {
        return None;
    };
    let like = match op {
        Op::Add | Op::Subtract => Operator::Plus,
        _ => Operator::Multiply,
    };
    Some(Operation {
        symbol: op.symbol()?.to_owned(),
        precedence: like.precedence(),
        left,
        right,
    })
}

fn render_operation(operation: &Operation, name: &dyn Fn(&Column) -> String) -> String {
    let side = |expr: &Expr, left: bool| {
        let text = render(expr, name);
        match as_operation(expr) {
            Some(inner)
                if inner.precedence < operation.precedence
                    || (inner.precedence == operation.precedence && !left) =>
            {
                format!("({text})")
            }
            _ => text,
        }
    };
    format!(
        "{} {} {}",
        side(operation.left, true),
        operation.symbol,
        side(operation.right, false)
    )
}

/// A function call; windows with their sizes in words.
fn render_call(call: &ScalarFunction, name: &dyn Fn(&Column) -> String) -> String {
    let hidden = |arg: &Expr| {
        random::is_drawn(call)
            && matches!(arg, Expr::Column(column) if Supplied::of(column).is_some())
    };
    let args = call.args.iter().filter(|arg| !hidden(arg));
    let args: Vec<String> = args.map(|arg| render(arg, name)).collect();
    let micros = |index: usize| call.args.get(index).and_then(literal_micros);
    match (call.func.name(), args.as_slice()) {
        ("get_field", [base, path @ ..]) if !path.is_empty() => {
            let fields: Vec<&str> = path.iter().map(|field| field.trim_matches('\'')).collect();
            format!("{base}.{}", fields.join("."))
        }
        ("window" | "__tumbling_window", [ts, ..]) => window("window", ts, &[micros(1)], micros(2)),
        ("__sliding_windows", [ts, ..]) => window("window", ts, &[micros(1), micros(2)], micros(3)),
        ("__cumulate_windows", [ts, ..]) => {
            window("cumulate", ts, &[micros(1), micros(2)], micros(3))
        }
        ("__item", [container, key]) => format!("{container}[{key}]"),
        (function, _) => {
            let function = function.strip_prefix("__").unwrap_or(function);
            format!("{function}({})", args.join(", "))
        }
    }
}

fn window(function: &str, ts: &str, sizes: &[Option<i64>], start: Option<i64>) -> String {
    let mut text = format!("{function}({ts}");
    for size in sizes.iter().flatten() {
        let _ = write!(text, ", '{}'", duration(*size));
    }
    if let Some(start) = start.filter(|start| *start != 0) {
        let _ = write!(text, ", start '{}'", duration(start));
    }
    text + ")"
}

/// An aggregate call as SQL.
fn aggregate(call: &AggregateFunction, name: &dyn Fn(&Column) -> String) -> String {
    let args: Vec<String> = call
        .params
        .args
        .iter()
        .map(|arg| render(arg, name))
        .collect();
    let distinct = if call.params.distinct {
        "DISTINCT "
    } else {
        ""
    };
    let filter = (call.params.filter.as_ref())
        .map(|filter| format!(" FILTER (WHERE {})", render(filter, name)))
        .unwrap_or_default();
    format!(
        "{}({distinct}{}){filter}",
        call.func.name(),
        args.join(", ")
    )
}

/// A planned aggregate as SQL, its arguments written by `expr`.
pub(super) fn aggregate_call(call: &AggregateCall, expr: &dyn Fn(&Expr) -> String) -> String {
    let name = match call.function {
        Function::Count | Function::CountDistinct => "count",
        Function::Sum => "sum",
        Function::Avg => "avg",
        Function::Min => "min",
        Function::Max => "max",
        Function::ApproxCountDistinct { .. } => "approx_count_distinct",
        other => name_of(other).unwrap_or("aggregate"),
    };
    let mut args = call.args.iter().map(expr).collect::<Vec<_>>().join(", ");
    if call.function == Function::Count && call.args.is_empty() {
        args.push('*');
    }
    let distinct = call.distinct || call.function == Function::CountDistinct;
    let each = if distinct { "DISTINCT " } else { "" };
    let mut shown = format!("{name}({each}{args}");
    for (index, by) in call.order.iter().enumerate() {
        shown.push_str(if index == 0 { " ORDER BY " } else { ", " });
        shown.push_str(&expr(&by.expr));
        shown.push_str(if by.asc { "" } else { " DESC" });
        // Nulls come first in ascending order and last in descending.
        if by.nulls_first != by.asc {
            let place = if by.nulls_first { "FIRST" } else { "LAST" };
            let _ = write!(shown, " NULLS {place}");
        }
    }
    shown.push(')');
    if call.ignore_nulls {
        shown.push_str(" IGNORE NULLS");
    }
    if let Some(filter) = &call.filter {
        let _ = write!(shown, " FILTER (WHERE {})", expr(filter));
    }
    shown
}

fn literal(value: &ScalarValue) -> String {
    if value.is_null() {
        return "NULL".into();
    }
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => format!("'{}'", text.replace('\'', "''")),
        ScalarValue::Boolean(Some(truth)) => truth.to_string().to_uppercase(),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => {
            format!("TIMESTAMP '{}'", timestamp(*micros))
        }
        ScalarValue::Date32(Some(_)) => format!("DATE '{value}'"),
        _ => match literal_micros(&Expr::Literal(value.clone(), None)) {
            Some(micros) if is_interval(&value.data_type()) => {
                format!("INTERVAL '{}'", duration(micros))
            }
            _ => value.to_string(),
        },
    }
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// A moment as `2026-01-31 12:00:00`.
fn timestamp(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| format!("{micros} us"), |at| at.naive_utc().to_string())
}

/// A length of time in words: `5 minutes`, `1 hour 30 seconds`, `-2 days`.
pub fn duration(micros: i64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (86_400_000_000, "day"),
        (3_600_000_000, "hour"),
        (60_000_000, "minute"),
        (1_000_000, "second"),
        (1_000, "millisecond"),
        (1, "microsecond"),
    ];
    let mut rest = micros.unsigned_abs();
    let mut words = Vec::new();
    for (unit, word) in UNITS {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            words.push(format!(
                "{count} {word}{}",
                if count == 1 { "" } else { "s" }
            ));
        }
    }
    match (words.is_empty(), micros < 0) {
        (true, _) => "0 seconds".into(),
        (false, true) => format!("-{}", words.join(" ")),
        (false, false) => words.join(" "),
    }
}

pub(crate) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z" | "Etc/UTC")
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn durations_read_as_words() {
        assert_eq!(duration(300_000_000), "5 minutes");
        assert_eq!(duration(3_630_000_000), "1 hour 30 seconds");
        assert_eq!(duration(-172_800_000_000), "-2 days");
        assert_eq!(duration(0), "0 seconds");
        assert!(duration(i64::MIN).starts_with('-'));
    }

    #[test]
    fn parentheses_stand_where_they_are_needed() {
        let sum = col("a") + col("b");
        assert_eq!(expression(&(sum.clone() * lit(2))), "(a + b) * 2");
        assert_eq!(
            expression(&(col("a") - (col("b") - col("c")))),
            "a - (b - c)"
        );
        assert_eq!(
            expression(&sum.gt(lit(1)).and(col("t.x").eq(lit("o'c")))),
            "a + b > 1 AND x = 'o''c'"
        );
    }
}
