//! Dates, timestamps and intervals.
//!
//! A timestamp moves by days and months on the clock of the session's zone, by less in time.

use std::sync::Arc;

use arrow::array::types::{
    Date32Type, DurationMicrosecondType, Float64Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalYearMonthType, TimestampMicrosecondType,
};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use chrono::{Datelike, Months, NaiveDate};
use datafusion::common::{DataFusionError, Result, internal_err};
use tidemark_connectors::format::zone::Zone;

use super::numbers::pairs;
use super::operands::{DAY_TIME, is_calendar};
use super::{Op, overflow};
use crate::plan::functions::cast::{Casting, cast_array};
use crate::plan::sql::type_name;

const DAY: i64 = 86_400_000_000;

pub(super) fn compute(
    op: Op,
    args: &[ArrayRef],
    to: &DataType,
    casting: &Casting,
) -> Result<ArrayRef> {
    use DataType as D;
    let (left, right) = match args {
        [one] => return negated(op, one),
        [left, right] => (left, right),
        _ => return internal_err!("an operator has one operand or two"),
    };
    let subtract = op == Op::Subtract;
    match (left.data_type(), right.data_type()) {
        (D::Date32, D::Int32) => days(left, right, subtract, casting),
        (D::Int32, D::Date32) => days(right, left, false, casting),
        (D::Date32 | D::Timestamp(..), D::Duration(_) | D::Interval(_)) => {
            shifted(left, right, to, subtract, casting)
        }
        (D::Duration(_) | D::Interval(_), D::Date32 | D::Timestamp(..)) => {
            shifted(right, left, to, false, casting)
        }
        (D::Date32, D::Date32) => {
            let (a, b) = (left.as_primitive::<Date32Type>(), right.as_primitive());
            Ok(Arc::new(pairs::<_, Date32Type, DurationMicrosecondType>(
                a,
                b,
                casting,
                |a, b| (i64::from(a) - i64::from(b)).checked_mul(DAY),
                |_, _| failed(op),
            )?))
        }
        (D::Timestamp(_, zone), D::Timestamp(..)) => {
            let zone = zone.as_ref().map_or(Zone::UTC, |_| casting.zone);
            let (a, b) = (
                left.as_primitive::<TimestampMicrosecondType>(),
                right.as_primitive(),
            );
            Ok(Arc::new(
                pairs::<_, TimestampMicrosecondType, DurationMicrosecondType>(
                    a,
                    b,
                    casting,
                    |a, b| zone.to_local(a)?.checked_sub(zone.to_local(b)?),
                    |_, _| failed(op),
                )?,
            ))
        }
        (a, b) if a == b => sum(op, left, right, casting),
        (D::Duration(_) | D::Interval(_), _) => scaled(op, left, right, casting),
        (_, D::Duration(_) | D::Interval(_)) => scaled(op, right, left, casting),
        (a, b) => internal_err!("no {op:?} of {} and {}", type_name(a), type_name(b)),
    }
}

fn failed(op: Op) -> DataFusionError {
    overflow(&format!("a time or an interval in {}", op.symbol().unwrap_or("abs")))
}

fn days(dates: &ArrayRef, days: &ArrayRef, subtract: bool, casting: &Casting) -> Result<ArrayRef> {
    let (dates, days) = (
        dates.as_primitive::<Date32Type>(),
        days.as_primitive::<Int32Type>(),
    );
    let f = |date: i32, days: i32| {
        if subtract {
            date.checked_sub(days)
        } else {
            date.checked_add(days)
        }
    };
    let moved = pairs::<Date32Type, Int32Type, Date32Type>(dates, days, casting, f, |_, _| {
        failed(Op::Add)
    })?;
    Ok(Arc::new(moved))
}

/// A length of time: months, days and microseconds.
type Length = (i32, i64, i64);

/// Dates or timestamps moved by intervals.
fn shifted(
    moments: &ArrayRef,
    intervals: &ArrayRef,
    to: &DataType,
    back: bool,
    casting: &Casting,
) -> Result<ArrayRef> {
    let sign = if back { -1 } else { 1 };
    if *to == DataType::Date32 {
        let dates = moments.as_primitive::<Date32Type>();
        return with_lengths(dates, intervals, casting, move |date, (months, days, rest)| {
            if rest != 0 {
                return None;
            }
            let moved = plus_months(i64::from(date), sign * months)?;
            i32::try_from(moved + i64::from(sign) * days).ok()
        });
    }
    let zoned = matches!(to, DataType::Timestamp(_, Some(_)));
    let zone = if zoned { casting.zone } else { Zone::UTC };
    let moments = cast_array(moments, to, casting)?;
    let instants = moments.as_primitive::<TimestampMicrosecondType>();
    let moved = with_lengths(instants, intervals, casting, move |at, (months, days, rest)| {
        let mut at: i64 = at;
        if months != 0 || days != 0 {
            let local = zone.to_local(at)?;
            let date = plus_months(local.div_euclid(DAY), sign * months)?;
            let date = date.checked_add(i64::from(sign) * days)?;
            let moved = date.checked_mul(DAY)?.checked_add(local.rem_euclid(DAY))?;
            // The same reading of the clock keeps the offset that it had, also in a doubled hour.
            at = if moved == local { at } else { zone.to_utc(moved)? };
        }
        at.checked_add(i64::from(sign).checked_mul(rest)?)
    })?;
    let moved = moved.as_primitive::<TimestampMicrosecondType>().clone();
    Ok(Arc::new(moved.with_data_type(to.clone())))
}

/// `f` over moments and the lengths of intervals of any kind.
fn with_lengths<T>(
    moments: &PrimitiveArray<T>,
    intervals: &ArrayRef,
    casting: &Casting,
    f: impl Fn(T::Native, Length) -> Option<T::Native>,
) -> Result<ArrayRef>
where
    T: arrow::array::types::ArrowPrimitiveType,
{
    let fail = || failed(Op::Add);
    Ok(Arc::new(match intervals.data_type() {
        DataType::Duration(TimeUnit::Microsecond) => {
            let intervals = intervals.as_primitive::<DurationMicrosecondType>();
            pairs::<T, _, T>(
                moments,
                intervals,
                casting,
                |at, micros| f(at, (0, micros / DAY, micros % DAY)),
                |_, _| fail(),
            )?
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let intervals = intervals.as_primitive::<IntervalYearMonthType>();
            pairs::<T, _, T>(
                moments,
                intervals,
                casting,
                |at, months| f(at, (months, 0, 0)),
                |_, _| fail(),
            )?
        }
        other if is_calendar(other) => {
            let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
            pairs::<T, _, T>(
                moments,
                intervals,
                casting,
                |at, interval| {
                    let rest = interval.nanoseconds.div_euclid(1_000);
                    f(at, (interval.months, i64::from(interval.days), rest))
                },
                |_, _| fail(),
            )?
        }
        other => return internal_err!("{} is no interval", type_name(other)),
    }))
}

/// So many months later on the calendar; the last day of a month where there is no such day.
fn plus_months(days: i64, months: i32) -> Option<i64> {
    if months == 0 {
        return Some(days);
    }
    let epoch = i64::from(NaiveDate::default().num_days_from_ce());
    let date = NaiveDate::from_num_days_from_ce_opt(i32::try_from(days + epoch).ok()?)?;
    let moved = if months >= 0 {
        date.checked_add_months(Months::new(months.unsigned_abs()))
    } else {
        date.checked_sub_months(Months::new(months.unsigned_abs()))
    }?;
    Some(i64::from(moved.num_days_from_ce()) - epoch)
}

/// Two intervals of one kind.
fn sum(op: Op, left: &ArrayRef, right: &ArrayRef, casting: &Casting) -> Result<ArrayRef> {
    let subtract = op == Op::Subtract;
    let long = |a: i64, b: i64| if subtract { a.checked_sub(b) } else { a.checked_add(b) };
    let int = |a: i32, b: i32| if subtract { a.checked_sub(b) } else { a.checked_add(b) };
    Ok(match left.data_type() {
        DataType::Duration(_) => Arc::new(pairs::<_, _, DurationMicrosecondType>(
            left.as_primitive::<DurationMicrosecondType>(),
            right.as_primitive::<DurationMicrosecondType>(),
            casting,
            long,
            |_, _| failed(op),
        )?),
        DataType::Interval(IntervalUnit::YearMonth) => {
            Arc::new(pairs::<_, _, IntervalYearMonthType>(
                left.as_primitive::<IntervalYearMonthType>(),
                right.as_primitive::<IntervalYearMonthType>(),
                casting,
                int,
                |_, _| failed(op),
            )?)
        }
        _ => Arc::new(pairs::<_, _, IntervalMonthDayNanoType>(
            left.as_primitive::<IntervalMonthDayNanoType>(),
            right.as_primitive::<IntervalMonthDayNanoType>(),
            casting,
            |a, b| {
                Some(IntervalMonthDayNano::new(
                    int(a.months, b.months)?,
                    int(a.days, b.days)?,
                    long(a.nanoseconds, b.nanoseconds)?,
                ))
            },
            |_, _| failed(op),
        )?),
    })
}

/// An interval times a number, or divided by one; rounded half away from zero.
fn scaled(op: Op, interval: &ArrayRef, number: &ArrayRef, casting: &Casting) -> Result<ArrayRef> {
    let fail = |zero: bool| {
        if zero && op == Op::Divide {
            DataFusionError::Execution(
                "[INTERVAL_DIVIDED_BY_ZERO] division by zero; use try_divide or nullif(divisor, 0) where NULL will do".into(),
            )
        } else {
            failed(op)
        }
    };
    let by_whole = |a: i64, b: i64| -> Option<i64> {
        if op == Op::Multiply {
            return a.checked_mul(b);
        }
        let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
        let up = rest.unsigned_abs() >= b.unsigned_abs().div_ceil(2);
        Some(quotient + if up { a.signum() * b.signum() } else { 0 })
    };
    let by_double = |a: i64, b: f64| -> Option<i64> {
        let exact = if op == Op::Multiply {
            a as f64 * b
        } else if b == 0.0 {
            return None;
        } else {
            a as f64 / b
        };
        let rounded = exact.round();
        (rounded.abs() < i64::MAX as f64).then_some(rounded as i64)
    };
    let whole = number.data_type().is_integer();
    Ok(if *interval.data_type() == DAY_TIME {
        let lengths = interval.as_primitive::<DurationMicrosecondType>();
        Arc::new(if whole {
            let numbers = number.as_primitive::<Int64Type>();
            pairs::<_, _, DurationMicrosecondType>(lengths, numbers, casting, by_whole, |_, b| {
                fail(b == 0)
            })?
        } else {
            let numbers = number.as_primitive::<Float64Type>();
            pairs::<_, _, DurationMicrosecondType>(lengths, numbers, casting, by_double, |_, b| {
                fail(b == 0.0)
            })?
        })
    } else {
        let lengths = interval.as_primitive::<IntervalYearMonthType>();
        let months = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
        Arc::new(if whole {
            let numbers = number.as_primitive::<Int64Type>();
            pairs::<_, _, IntervalYearMonthType>(
                lengths,
                numbers,
                casting,
                |a, b| months(by_whole(i64::from(a), b)),
                |_, b| fail(b == 0),
            )?
        } else {
            let numbers = number.as_primitive::<Float64Type>();
            pairs::<_, _, IntervalYearMonthType>(
                lengths,
                numbers,
                casting,
                |a, b| months(by_double(i64::from(a), b)),
                |_, b| fail(b == 0.0),
            )?
        })
    })
}

fn negated(op: Op, interval: &ArrayRef) -> Result<ArrayRef> {
    let fail = || failed(op);
    let absolute = op == Op::Absolute;
    Ok(match interval.data_type() {
        DataType::Duration(_) => Arc::new(
            interval
                .as_primitive::<DurationMicrosecondType>()
                .try_unary::<_, DurationMicrosecondType, DataFusionError>(|value| {
                    let value = if absolute { value.checked_abs() } else { value.checked_neg() };
                    value.ok_or_else(fail)
                })?,
        ),
        DataType::Interval(IntervalUnit::YearMonth) => Arc::new(
            interval
                .as_primitive::<IntervalYearMonthType>()
                .try_unary::<_, IntervalYearMonthType, DataFusionError>(|value| {
                    let value = if absolute { value.checked_abs() } else { value.checked_neg() };
                    value.ok_or_else(fail)
                })?,
        ),
        _ => Arc::new(
            interval
                .as_primitive::<IntervalMonthDayNanoType>()
                .try_unary::<_, IntervalMonthDayNanoType, DataFusionError>(|value| {
                    let negated = || {
                        Some(IntervalMonthDayNano::new(
                            value.months.checked_neg()?,
                            value.days.checked_neg()?,
                            value.nanoseconds.checked_neg()?,
                        ))
                    };
                    negated().ok_or_else(fail)
                })?,
        ),
    })
}
