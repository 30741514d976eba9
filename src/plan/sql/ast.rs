//! Small makers and readers of syntax trees.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, UnaryOperator, Value,
    ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// The arguments that are plain expressions.
pub(super) fn arguments(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return vec![];
    };
    let plain = |arg| match arg {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().filter_map(plain).collect()
}

pub(super) fn function_name(function: &Function) -> String {
    match &function.name.0[..] {
        [part] => part
            .as_ident()
            .map(|i| i.value.to_lowercase())
            .unwrap_or_default(),
        _ => String::new(),
    }
}

pub(super) fn name_span(function: &Function) -> Span {
    function
        .name
        .0
        .first()
        .and_then(|p| p.as_ident())
        .map_or_else(Span::empty, |i| i.span)
}

pub(super) fn string(text: &str, span: Span) -> Expr {
    Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(text.into()),
        span,
    })
}

pub(super) fn number(value: i64, span: Span) -> Expr {
    let digits = Value::Number(value.unsigned_abs().to_string(), false);
    let digits = Expr::Value(ValueWithSpan {
        value: digits,
        span,
    });
    if value < 0 {
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(digits),
        }
    } else {
        digits
    }
}

pub(super) fn call(name: &str, args: Vec<Expr>, span: Span) -> Expr {
    let args = args
        .into_iter()
        .map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a)))
        .collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_span(span, name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// `expr` alone, selected from what `select`, a block of `query`, selects from.
pub(super) fn alone(query: &Query, select: &Select, expr: Expr) -> Query {
    let select = Select {
        distinct: None,
        projection: vec![SelectItem::UnnamedExpr(expr)],
        selection: None,
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        having: None,
        sort_by: vec![],
        ..select.clone()
    };
    Query {
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        ..query.clone()
    }
}
