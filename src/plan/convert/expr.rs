//! Expressions on their way into a plan: the clock becomes a column, what has no place is refused.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, Operator, Volatility};

use super::super::functions::random;
use super::super::{Node, Supplied, text};
use super::error::{ConvertError, Result, unsupported};
use super::nodes::Scope;

/// Makes an expression over `input` fit for a plan (invariant 1): `current_timestamp()` and its like
/// become the column that operators supply, and random values functions of where a row was read;
/// sub-queries and window functions are refused.
pub(super) fn resolve(expr: Expr, input: &Node, scope: Scope<'_>) -> Result<Expr> {
    let salt = || (Supplied::Salt.column(), scope.draw());
    let replace = |expr: &Expr| random::drawn(expr, Supplied::Position.column(), salt);
    resolve_with(expr, &input.schema, input.positioned(), replace)
}

/// The same for an expression over pairs of rows, which were read nowhere.
pub(super) fn resolve_over(expr: Expr, schema: &DFSchema, scope: Scope<'_>) -> Result<Expr> {
    let salt = || (Supplied::Salt.column(), scope.draw());
    let replace = |expr: &Expr| random::drawn(expr, Supplied::Position.column(), salt);
    resolve_with(expr, schema, false, replace)
}

/// The same for an expression over no rows.
pub(super) fn resolve_constant(expr: Expr) -> Result<Expr> {
    resolve_with(expr, &DFSchema::empty(), false, |_| Ok(None))
}

fn resolve_with(
    expr: Expr,
    schema: &DFSchema,
    positioned: bool,
    replace: impl Fn(&Expr) -> Result<Option<Expr>, DataFusionError>,
) -> Result<Expr> {
    refuse_unfit(&expr, positioned)?;
    let what = text::expression(&expr);
    expr.transform_up(|expr| {
        if let Some(data_type) = clock_type(&expr, schema)? {
            return Ok(Transformed::yes(clock_column(data_type)));
        }
        Ok(match replace(&expr)? {
            Some(replacement) => Transformed::yes(replacement),
            None => Transformed::no(expr),
        })
    })
    .map(|resolved| resolved.data.unalias_nested().data)
    .map_err(|source| ConvertError::Expression { what, source })
}

/// The type of a call that tells the time, `None` for anything else.
fn clock_type(expr: &Expr, schema: &DFSchema) -> Result<Option<DataType>, DataFusionError> {
    match expr {
        Expr::ScalarFunction(call)
            if call.args.is_empty()
                && matches!(
                    call.func.name(),
                    "current_timestamp" | "now" | "current_date"
                ) =>
        {
            expr.get_type(schema).map(Some)
        }
        _ => Ok(None),
    }
}

fn clock_column(data_type: DataType) -> Expr {
    let column = Supplied::CurrentTimestamp.column();
    match &data_type {
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if text::is_utc(zone) => column,
        _ => Expr::Cast(Cast::new(Box::new(column), data_type)),
    }
}

/// Whether the expression tells the time.
pub(in super::super) fn uses_clock(expr: &Expr) -> bool {
    Supplied::CurrentTimestamp.is_in(expr)
}

fn exists(expr: &Expr, test: impl Fn(&Expr) -> bool) -> bool {
    let mut found = false;
    // The visitor never fails.
    let _ = expr.apply(|expr| {
        found |= test(expr);
        Ok(if found {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    found
}

/// The first part of the expression that no plan can hold.
fn refuse_unfit(expr: &Expr, positioned: bool) -> Result<()> {
    let mut refusal = None;
    // The visitor never fails.
    let _ = expr.apply(|expr| {
        refusal = unfit(expr, positioned);
        Ok(if refusal.is_some() {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    refusal.map_or(Ok(()), Err)
}

fn unfit(expr: &Expr, positioned: bool) -> Option<ConvertError> {
    let sub_query =
        "write it as a view of its own and run it as a second query, or compute the value before";
    Some(match expr {
        Expr::Exists(_) => unsupported(
            "EXISTS (sub-query)",
            "it is a join of two streams, and joins are not there yet",
            sub_query,
        ),
        Expr::InSubquery(inner) => unsupported(
            format!("{} IN (sub-query)", text::expression(&inner.expr)),
            "it is a join of two streams, and joins are not there yet",
            "list the values, or run the sub-query as a second query",
        ),
        Expr::SetComparison(_) | Expr::ScalarSubquery(_) | Expr::OuterReferenceColumn(..) => {
            unsupported(
                "a sub-query as a value",
                "it is a join of two streams, and joins are not there yet",
                sub_query,
            )
        }
        Expr::WindowFunction(call) => unsupported(
            format!("the window function {}", call.fun.name()),
            "it stands where no window function can",
            "compute it in a sub-query in FROM",
        ),
        Expr::Placeholder(placeholder) => unsupported(
            format!("the parameter {}", placeholder.id),
            "nothing gives it a value",
            "write the value itself, or ${ENV:NAME} in an option",
        ),
        Expr::Unnest(_) => unsupported(
            "unnest inside an expression",
            "it makes rows, not a value",
            "write SELECT unnest(...) AS x in a sub-query in FROM and use x above it",
        ),
        Expr::ScalarFunction(call) if random::is_asked(expr) => {
            if positioned {
                return None;
            }
            unsupported(
                format!(
                    "{}() over rows that were not read from a source",
                    call.func.name()
                ),
                "its value is derived from where a row was read, and the rows of an aggregation or of constants were read nowhere",
                "compute it below the aggregation, in a sub-query in FROM",
            )
        }
        Expr::ScalarFunction(call)
            if call.func.signature().volatility == Volatility::Volatile
                && !matches!(
                    call.func.name(),
                    "current_timestamp" | "now" | "current_date"
                ) =>
        {
            unsupported(
                format!("the function {}()", call.func.name()),
                "its value differs each time, so a replay after a crash would not give the same rows",
                "derive the value from the row, such as a hash of its columns",
            )
        }
        _ => return None,
    })
}

/// Cheap enough to be computed twice: a column, a constant, a field of a struct.
pub(super) fn is_cheap(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Alias(alias) => is_cheap(&alias.expr),
        Expr::ScalarFunction(call) => {
            call.func.name() == "get_field" && call.args.iter().all(is_cheap)
        }
        _ => false,
    }
}

/// No value of any row makes it fail: it may be evaluated for rows that another filter leaves out.
pub(super) fn cannot_fail(expr: &Expr) -> bool {
    !exists(expr, |expr| match expr {
        Expr::BinaryExpr(binary) => !matches!(
            binary.op,
            Operator::And
                | Operator::Or
                | Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom
        ),
        Expr::ScalarFunction(call) => call.func.name() != "get_field",
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::Literal(..)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::Like(_)
        | Expr::Case(_)
        | Expr::TryCast(_) => false,
        _ => true,
    })
}
