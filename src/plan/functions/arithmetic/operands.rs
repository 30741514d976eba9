//! Which types an operator takes, and the type of its result.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, plan_err};

use super::Op;
use crate::plan::functions::decimals::{bounded, precision_and_scale};
use crate::plan::sql::type_name;
use crate::plan::sql::types::timestamp_type;

pub(super) const DAY_TIME: DataType = DataType::Duration(TimeUnit::Microsecond);
pub(super) const YEAR_MONTH: DataType = DataType::Interval(IntervalUnit::YearMonth);
const CALENDAR: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// A date, a timestamp or an interval.
pub(super) fn is_temporal(data_type: &DataType) -> bool {
    is_moment(data_type) || is_interval(data_type)
}

fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Timestamp(..))
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

fn is_string(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating() || is_decimal(data_type)
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..))
}

/// The types that operands of these types are computed as.
pub(super) fn coerced(op: Op, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [one] => operand(op, one).map(|one| vec![one]),
        [left, right] => {
            let (left, right) = pair(op, left, right)?;
            Ok(vec![left, right])
        }
        _ => Ok(types.to_vec()),
    }
}

fn operand(op: Op, one: &DataType) -> Result<DataType> {
    match one {
        DataType::Null => Ok(DataType::Float64),
        one if is_string(one) => Ok(DataType::Float64),
        one if is_number(one) || is_interval(one) => Ok(one.clone()),
        one => plan_err!(
            "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] {} takes a number or an interval, not {}; add a CAST",
            op.symbol().unwrap_or("abs"),
            type_name(one)
        ),
    }
}

fn pair(op: Op, left: &DataType, right: &DataType) -> Result<(DataType, DataType)> {
    use DataType::{Float64, Int64, Null};
    match (left, right) {
        (left, right) if is_temporal(left) || is_temporal(right) => temporal(op, left, right),
        (Null, Null) if op == Op::IntegerDivide => Ok((Int64, Int64)),
        (Null, Null) => Ok((Float64, Float64)),
        (Null, other) if is_number(other) => numbers(op, other, other),
        (other, Null) if is_number(other) => numbers(op, other, other),
        (left, right) if is_string(left) && is_number(right) => {
            let read = text_as(right);
            numbers(op, &read, right)
        }
        (left, right) if is_number(left) && is_string(right) => {
            let read = text_as(left);
            numbers(op, left, &read)
        }
        (left, right) if is_number(left) && is_number(right) => numbers(op, left, right),
        (left, right) if left == right || (is_string(left) && right.is_null()) => plan_err!(
            "[DATATYPE_MISMATCH.BINARY_OP_WRONG_TYPE] {} takes numbers, not {}; add a CAST",
            symbol(op),
            type_name(left)
        ),
        (left, right) => mismatch(op, left, right),
    }
}

/// What a text is read as beside a number: a BIGINT beside whole numbers, else a DOUBLE.
fn text_as(number: &DataType) -> DataType {
    if number.is_integer() {
        DataType::Int64
    } else {
        DataType::Float64
    }
}

fn symbol(op: Op) -> &'static str {
    op.symbol().unwrap_or("pmod")
}

fn mismatch<T>(op: Op, left: &DataType, right: &DataType) -> Result<T> {
    plan_err!(
        "[DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES] there is no {} {} {}; add a CAST",
        type_name(left),
        symbol(op),
        type_name(right)
    )
}

fn numbers(op: Op, left: &DataType, right: &DataType) -> Result<(DataType, DataType)> {
    use DataType::{Decimal128, Float32, Float64, Int64};
    let whole = left.is_integer() && right.is_integer();
    if (is_decimal(left) || is_decimal(right))
        && let (Some((p1, s1)), Some((p2, s2))) =
            (precision_and_scale(left), precision_and_scale(right))
    {
        return Ok((Decimal128(p1, s1), Decimal128(p2, s2)));
    }
    match op {
        Op::IntegerDivide if whole => Ok((Int64, Int64)),
        Op::IntegerDivide => plan_err!(
            "[DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES] div takes whole numbers and decimals, not {} and {}; add a CAST",
            type_name(left),
            type_name(right)
        ),
        Op::Divide => Ok((Float64, Float64)),
        _ if whole => {
            let widest = if width(left) >= width(right) { left } else { right };
            Ok((widest.clone(), widest.clone()))
        }
        _ if left == right => Ok((left.clone(), right.clone())),
        _ if *left == Float32 && *right == Float32 => Ok((Float32, Float32)),
        _ => Ok((Float64, Float64)),
    }
}

fn width(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(0)
}

fn temporal(op: Op, left: &DataType, right: &DataType) -> Result<(DataType, DataType)> {
    use DataType::{Date32, Float64, Int8, Int16, Int32, Int64, Null, Timestamp};
    let keep = || Ok((left.clone(), right.clone()));
    match (op, left, right) {
        (Op::Add, interval, moment) if is_interval(interval) && is_moment(moment) => keep(),
        (Op::Add | Op::Subtract, moment, interval)
            if is_moment(moment) && is_interval(interval) =>
        {
            keep()
        }
        (Op::Add | Op::Subtract, text, interval)
            if (is_string(text) || text.is_null()) && is_interval(interval) =>
        {
            Ok((timestamp_type(), interval.clone()))
        }
        (Op::Add, interval, text) if is_interval(interval) && is_string(text) => {
            Ok((interval.clone(), timestamp_type()))
        }
        (Op::Add | Op::Subtract, left, right) if is_interval(left) && left == right => keep(),
        (Op::Add | Op::Subtract, interval, Null) if is_interval(interval) => {
            Ok((interval.clone(), interval.clone()))
        }
        (Op::Add | Op::Subtract, moment @ Timestamp(..), Null) => Ok((moment.clone(), DAY_TIME)),
        (Op::Add | Op::Subtract, Date32, Int8 | Int16 | Int32 | Null) => Ok((Date32, Int32)),
        (Op::Add, Int8 | Int16 | Int32, Date32) => Ok((Int32, Date32)),
        (Op::Subtract, Date32, text) | (Op::Subtract, text, Date32)
            if is_string(text) || text.is_null() =>
        {
            Ok((Date32, Date32))
        }
        (Op::Subtract, instant @ Timestamp(..), text) if is_string(text) => {
            Ok((instant.clone(), instant.clone()))
        }
        (Op::Subtract, text, instant @ Timestamp(..)) if is_string(text) || text.is_null() => {
            Ok((instant.clone(), instant.clone()))
        }
        (Op::Subtract, left, right) if is_moment(left) && is_moment(right) => {
            if left == right {
                return keep();
            }
            // A date counts as the midnight that it begins with.
            let zoned = |t: &DataType| matches!(t, Timestamp(_, Some(_)));
            let common = if zoned(left) || zoned(right) {
                timestamp_type()
            } else {
                Timestamp(TimeUnit::Microsecond, None)
            };
            Ok((common.clone(), common))
        }
        (Op::Multiply | Op::Divide, interval, number)
            if is_fixed(interval) && (is_number(number) || is_string(number)) =>
        {
            let number = if number.is_integer() { Int64 } else { Float64 };
            Ok((interval.clone(), number))
        }
        (Op::Multiply, number, interval)
            if is_fixed(interval) && (is_number(number) || is_string(number)) =>
        {
            let number = if number.is_integer() { Int64 } else { Float64 };
            Ok((number, interval.clone()))
        }
        (_, left, right) if is_moment(left) || is_interval(right) && !is_number(right) => {
            if matches!(right, Timestamp(..)) || matches!(left, Timestamp(..)) {
                return mismatch(op, left, right);
            }
            plan_err!(
                "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] there is no {} {} {}; add a CAST",
                type_name(left),
                symbol(op),
                type_name(right)
            )
        }
        _ => mismatch(op, left, right),
    }
}

/// An interval of one number, which can be multiplied.
fn is_fixed(data_type: &DataType) -> bool {
    *data_type == DAY_TIME || *data_type == YEAR_MONTH
}

/// The type of the result for operands as [`coerced`] gives them.
pub(super) fn result(op: Op, types: &[DataType]) -> Result<DataType> {
    use DataType::{Date32, Decimal128, Float64, Int64, Timestamp};
    let [left, right] = types else {
        return Ok(types[0].clone());
    };
    Ok(match (left, right) {
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            match decimal(op, (*p1, *s1), (*p2, *s2)) {
                Some((precision, scale)) => Decimal128(precision, scale),
                None => Int64,
            }
        }
        (Date32, Date32) | (Timestamp(..), Timestamp(..)) => DAY_TIME,
        // Whole days move a date; hours make it a moment.
        (Date32, interval) | (interval, Date32) if *interval == DAY_TIME => timestamp_type(),
        (moment, _) if is_moment(moment) => moment.clone(),
        (_, moment) if is_moment(moment) => moment.clone(),
        (interval, _) if is_interval(interval) => interval.clone(),
        (_, interval) if is_interval(interval) => interval.clone(),
        _ if op == Op::IntegerDivide => Int64,
        _ if op == Op::Divide => Float64,
        _ => left.clone(),
    })
}

/// Precision and scale of a result; `None`: it is a BIGINT.
fn decimal(op: Op, (p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> Option<(u8, i8)> {
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    let scale = s1.max(s2);
    Some(match op {
        Op::Multiply => bounded(p1 + p2 + 1, s1 + s2),
        Op::Divide => {
            let scale = (s1 + p2 + 1).max(6);
            bounded(p1 - s1 + s2 + scale, scale)
        }
        Op::IntegerDivide => return None,
        Op::Remainder | Op::PositiveRemainder => {
            bounded((p1 - s1).min(p2 - s2) + scale, scale)
        }
        _ => bounded((p1 - s1).max(p2 - s2) + scale + 1, scale),
    })
}

/// The calendar interval's type.
pub(super) fn is_calendar(data_type: &DataType) -> bool {
    *data_type == CALENDAR
}
