//! One expression, its operands done: what it brings them to.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{Between, Case, InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, binary_expr};

use crate::plan::functions::aggregates;
use crate::plan::functions::arithmetic::{self, Op};
use crate::plan::functions::cast::cast_call;
use crate::plan::functions::common_type::{common_type, common_type_of};
use crate::plan::functions::decimals::MAX_PRECISION;
use crate::plan::sql::type_name;

const DAY: i64 = 86_400_000_000;

/// Functions whose arguments all have one type, from the argument of this index on.
const ALIKE: [(&str, usize); 9] = [
    ("coalesce", 0),
    ("greatest", 0),
    ("least", 0),
    ("nvl", 0),
    ("ifnull", 0),
    ("if", 1),
    ("nvl2", 1),
    ("make_array", 0),
    ("array", 0),
];

/// The expression with its operands as Spark brings them together. `days_are_fixed`: the session's
/// clock never jumps, so that a day is 24 hours.
pub(super) fn coerced(
    expr: Expr,
    schema: &DFSchema,
    days_are_fixed: bool,
) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(binary) => match operation(binary.op) {
            Some(op) => arithmetic_on(op, *binary.left, *binary.right, schema, days_are_fixed)
                .map(Transformed::yes),
            None if is_comparison(binary.op) => comparison(binary, schema).map(Transformed::yes),
            None => Ok(Transformed::no(Expr::BinaryExpr(binary))),
        },
        Expr::Negative(inner) => Ok(Transformed::yes(arithmetic::negate(*inner))),
        Expr::Between(between) => within(between, schema).map(Transformed::yes),
        Expr::InList(list) => among(list, schema).map(Transformed::yes),
        Expr::Case(case) => choice(case, schema).map(Transformed::yes),
        Expr::Like(mut like) => {
            for side in [&mut like.expr, &mut like.pattern] {
                let from = side.get_type(schema)?;
                if !matches!(from, DataType::Utf8 | DataType::Null) {
                    **side = brought((**side).clone(), &from, &DataType::Utf8)?;
                }
            }
            Ok(Transformed::yes(Expr::Like(like)))
        }
        Expr::ScalarFunction(mut call) => {
            arguments_as_spark(&call)?;
            let expr = Expr::ScalarFunction(call.clone());
            if let Some((op, [left, right])) = arithmetic::as_operator(&expr) {
                let (left, right) = (left.clone(), right.clone());
                return arithmetic_on(op, left, right, schema, days_are_fixed)
                    .map(Transformed::yes);
            }
            if let Some([left, right]) = arithmetic::tried(&call) {
                let types = (left.get_type(schema)?, right.get_type(schema)?);
                let (left, right) = beside_decimals(left.clone(), right.clone(), &types);
                call.args = vec![left, right];
                return Ok(Transformed::yes(Expr::ScalarFunction(call)));
            }
            let alike = ALIKE.iter().find(|(name, _)| *name == call.func.name());
            let Some((name, first)) = alike.filter(|(_, first)| *first < call.args.len()) else {
                return Ok(Transformed::no(expr));
            };
            let rest = call.args.split_off(*first);
            call.args.extend(alike_of(name, rest, schema)?);
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        Expr::AggregateFunction(call) => {
            let types = call.params.args.iter().map(|arg| arg.get_type(schema));
            aggregates::check(&call.func, &types.collect::<Result<Vec<_>>>()?)?;
            Ok(Transformed::no(Expr::AggregateFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Refuses a single argument where Spark asks for two or more.
fn arguments_as_spark(call: &ScalarFunction) -> Result<()> {
    match (call.func.name(), &call.args[..]) {
        (name @ ("greatest" | "least"), [_]) => {
            plan_err!("[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {name} takes 2 arguments or more, not 1")
        }
        _ => Ok(()),
    }
}

/// The operation that one of SQL's arithmetic operators stands for.
pub(in crate::plan) fn operation(op: Operator) -> Option<Op> {
    Some(match op {
        Operator::Plus => Op::Add,
        Operator::Minus => Op::Subtract,
        Operator::Multiply => Op::Multiply,
        Operator::Divide => Op::Divide,
        Operator::Modulo => Op::Remainder,
        Operator::IntegerDivide => Op::IntegerDivide,
        _ => return None,
    })
}

/// Whether the operator compares its sides.
pub(in crate::plan) fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(
        op,
        Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
    )
}

fn arithmetic_on(
    op: Op,
    left: Expr,
    right: Expr,
    schema: &DFSchema,
    days_are_fixed: bool,
) -> Result<Expr> {
    let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
    // A moment moved by a fixed length of time is an operation of Arrow's own, and one through
    // which event time is followed.
    let instant = |t: &DataType| matches!(t, DataType::Timestamp(TimeUnit::Microsecond, _));
    let fixed = |expr: &Expr| micros(expr).is_some_and(|m| days_are_fixed || m.abs() < DAY);
    if op == Op::Add && instant(&left_type) && fixed(&right)
        || op == Op::Subtract && instant(&left_type) && fixed(&right)
    {
        let operator = if op == Op::Add {
            Operator::Plus
        } else {
            Operator::Minus
        };
        return Ok(binary_expr(left, operator, right));
    }
    if op == Op::Add && instant(&right_type) && fixed(&left) {
        return Ok(binary_expr(right, Operator::Plus, left));
    }
    // Whole days leave a date a date.
    let (left, right) = match (&left_type, &right_type) {
        (DataType::Date32, _) => (left, whole_days(right)),
        (_, DataType::Date32) => (whole_days(left), right),
        _ => beside_decimals(left, right, &(left_type, right_type)),
    };
    Ok(arithmetic::call(op, left, right))
}

/// A constant whole number that meets a decimal has just its digits.
fn beside_decimals(left: Expr, right: Expr, types: &(DataType, DataType)) -> (Expr, Expr) {
    match types {
        (DataType::Decimal128(..), _) => (left, digits(right)),
        (_, DataType::Decimal128(..)) => (digits(left), right),
        _ => (left, right),
    }
}

/// The microseconds of a constant day-time interval.
fn micros(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::DurationMicrosecond(Some(micros)), _) => Some(*micros),
        _ => None,
    }
}

/// A constant interval of whole days as their number.
fn whole_days(expr: Expr) -> Expr {
    match micros(&expr) {
        Some(micros) if micros % DAY == 0 => match i32::try_from(micros / DAY) {
            Ok(days) => Expr::Literal(ScalarValue::Int32(Some(days)), None),
            Err(_) => expr,
        },
        _ => expr,
    }
}

/// A constant whole number as a decimal of just its digits, which is how it meets a decimal.
fn digits(expr: Expr) -> Expr {
    // `1L` is a constant of its type, too.
    let literal = match &expr {
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Int64 => &*cast.expr,
        other => other,
    };
    let Expr::Literal(value, metadata) = literal else {
        return expr;
    };
    let number = match value {
        ScalarValue::Int8(Some(number)) => i128::from(*number),
        ScalarValue::Int16(Some(number)) => i128::from(*number),
        ScalarValue::Int32(Some(number)) => i128::from(*number),
        ScalarValue::Int64(Some(number)) => i128::from(*number),
        _ => return expr,
    };
    let digits = number.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
    let precision = u8::try_from(digits).unwrap_or(MAX_PRECISION);
    Expr::Literal(
        ScalarValue::Decimal128(Some(number), precision, 0),
        metadata.clone(),
    )
}

/// `expr` of type `from` as a `to`.
fn brought(expr: Expr, from: &DataType, to: &DataType) -> Result<Expr> {
    cast_call(expr, from, to, true)
}

fn comparison(binary: BinaryExpr, schema: &DFSchema) -> Result<Expr> {
    let BinaryExpr { left, op, right } = binary;
    let (from_left, from_right) = (left.get_type(schema)?, right.get_type(schema)?);
    let to = compared_as(op, &from_left, &from_right)?;
    Ok(binary_expr(
        brought(*left, &from_left, &to)?,
        op,
        brought(*right, &from_right, &to)?,
    ))
}

/// The type in which values of two types are compared.
pub(in crate::plan) fn compared_as(
    op: Operator,
    left: &DataType,
    right: &DataType,
) -> Result<DataType> {
    let Some(common) = common_type(left, right) else {
        return plan_err!(
            "[DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES] there is no {} {op} {}; add a CAST",
            type_name(left),
            type_name(right)
        );
    };
    if matches!(common, DataType::Map(..)) {
        return plan_err!(
            "[DATATYPE_MISMATCH.INVALID_ORDERING_TYPE] values of {} have no order and are not compared; compare their keys or entries",
            type_name(&common)
        );
    }
    Ok(common)
}

fn types(exprs: &[&Expr], schema: &DFSchema) -> Result<Vec<DataType>> {
    exprs.iter().map(|expr| expr.get_type(schema)).collect()
}

/// The common type of the arguments of `what`.
fn one_type(what: &str, found: &[DataType]) -> Result<DataType> {
    if let Some(common) = common_type_of(found) {
        Ok(common)
    } else {
        let mut names: Vec<String> = found.iter().map(type_name).collect();
        names.dedup();
        plan_err!(
            "[DATATYPE_MISMATCH.DATA_DIFF_TYPES] {what} takes values of one type, not {}; add a CAST",
            names.join(" and ")
        )
    }
}

fn within(between: Between, schema: &DFSchema) -> Result<Expr> {
    let found = types(&[&between.expr, &between.low, &between.high], schema)?;
    let to = one_type("BETWEEN", &found)?;
    let brought = |expr: Box<Expr>, from| brought(*expr, from, &to).map(Box::new);
    Ok(Expr::Between(Between {
        expr: brought(between.expr, &found[0])?,
        negated: between.negated,
        low: brought(between.low, &found[1])?,
        high: brought(between.high, &found[2])?,
    }))
}

fn among(list: InList, schema: &DFSchema) -> Result<Expr> {
    let mut all = vec![*list.expr];
    all.extend(list.list);
    let mut all = alike_of("IN", all, schema)?.into_iter();
    let Some(expr) = all.next() else {
        return plan_err!("IN without a value");
    };
    Ok(Expr::InList(InList {
        expr: Box::new(expr),
        list: all.collect(),
        negated: list.negated,
    }))
}

fn alike_of(what: &str, exprs: Vec<Expr>, schema: &DFSchema) -> Result<Vec<Expr>> {
    let found = types(&exprs.iter().collect::<Vec<_>>(), schema)?;
    let to = one_type(what, &found)?;
    (exprs.into_iter().zip(&found))
        .map(|(expr, from)| brought(expr, from, &to))
        .collect()
}

fn choice(case: Case, schema: &DFSchema) -> Result<Expr> {
    let (whens, thens): (Vec<Expr>, Vec<Expr>) = (case.when_then_expr.into_iter())
        .map(|(when, then)| (*when, *then))
        .unzip();
    // `CASE a WHEN b`: all that is compared meets in one type.
    let (subject, whens) = match case.expr {
        None => {
            for when in &whens {
                let found = when.get_type(schema)?;
                if !matches!(found, DataType::Boolean | DataType::Null) {
                    return plan_err!(
                        "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] a condition must be BOOLEAN, not {}",
                        type_name(&found)
                    );
                }
            }
            (None, whens)
        }
        Some(subject) => {
            let mut compared = vec![*subject];
            compared.extend(whens);
            let mut compared = alike_of("CASE", compared, schema)?;
            let whens = compared.split_off(1);
            (compared.pop().map(Box::new), whens)
        }
    };
    let count = thens.len();
    let mut results = thens;
    results.extend(case.else_expr.map(|expr| *expr));
    let mut results = alike_of("CASE WHEN", results, schema)?;
    let otherwise = (results.len() > count)
        .then(|| results.pop())
        .flatten()
        .map(Box::new);
    let branches = (whens.into_iter().map(Box::new))
        .zip(results.into_iter().map(Box::new))
        .collect();
    Ok(Expr::Case(Case::new(subject, branches, otherwise)))
}
