//! `sequence`: whole numbers, dates or instants from one to another.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::types::{IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalYearMonthType};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, DurationMicrosecondType, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use chrono::{
    DateTime, Days, LocalResult, Months, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::arrays::check_length;
use super::lists::Shape;
use super::types::{Widening, list_of, widened};
use crate::plan::functions::define::{Call, Param, ResultType, function};
use crate::plan::sql::type_name;

/// `sequence(start, stop[, step])`, both ends included.
pub fn sequence() -> Arc<ScalarUDF> {
    function(
        "sequence",
        &[Param::Any; 3],
        list_type as ResultType,
        compute,
    )
    .optional(1)
    .coerced(|_, types| coerced(types))
    .udf()
}

#[expect(clippy::unnecessary_wraps, reason = "it is a ResultType")]
fn list_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(list_of(types[0].clone()))
}

fn coerced(types: &[DataType]) -> Result<Vec<DataType>> {
    let refuse = || {
        let given: Vec<String> = types.iter().map(type_name).collect();
        plan_err!(
            "[DATATYPE_MISMATCH.SEQUENCE_WRONG_INPUT_TYPES] sequence goes from one whole number, DATE or TIMESTAMP to another, by a whole number or an INTERVAL; it was given {}",
            given.join(", ")
        )
    };
    let Some(mut ends) = widened(&types[0], &types[1], Widening::Tight) else {
        return refuse();
    };
    let step = types.get(2).filter(|step| **step != DataType::Null);
    let whole = |t: &DataType| t.is_signed_integer();
    if ends == DataType::Null {
        ends = DataType::Int32;
    }
    if whole(&ends) {
        let wide = step.map_or(Some(ends.clone()), |step| {
            widened(&ends, step, Widening::Tight)
        });
        return match wide.filter(whole) {
            Some(wide) => Ok(vec![wide; types.len()]),
            None => refuse(),
        };
    }
    let mut wanted = match &ends {
        DataType::Date32 => vec![DataType::Date32; 2],
        DataType::Timestamp(_, zone) => {
            vec![DataType::Timestamp(TimeUnit::Microsecond, zone.clone()); 2]
        }
        _ => return refuse(),
    };
    match (types.get(2), step) {
        (Some(_), None) => wanted.push(DataType::Interval(IntervalUnit::MonthDayNano)),
        (_, Some(DataType::Duration(_))) => wanted.push(DataType::Duration(TimeUnit::Microsecond)),
        (
            _,
            Some(step @ DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano)),
        ) => {
            wanted.push(step.clone());
        }
        (_, Some(_)) => return refuse(),
        (None, None) => {}
    }
    Ok(wanted)
}

fn compute(call: &Call) -> Result<ArrayRef> {
    match call.data_type(0) {
        DataType::Int8 => numbers::<Int8Type>(call),
        DataType::Int16 => numbers::<Int16Type>(call),
        DataType::Int32 => numbers::<Int32Type>(call),
        DataType::Int64 => numbers::<Int64Type>(call),
        DataType::Date32 => dates(call),
        DataType::Timestamp(_, zone) => {
            // TIMESTAMP_NTZ has no zone to follow.
            let zone = if zone.is_some() {
                call.time_zone()
            } else {
                "UTC"
            };
            instants(call, zone)
        }
        other => exec_err!("sequence cannot count {other}"),
    }
}

fn illegal<T>(
    start: impl std::fmt::Display,
    stop: impl std::fmt::Display,
    step: impl std::fmt::Display,
) -> Result<T> {
    exec_err!(
        "sequence cannot go from {start} to {stop} by {step}: the step must lead from one to the other"
    )
}

fn numbers<T: ArrowPrimitiveType>(call: &Call) -> Result<ArrayRef>
where
    T::Native: Into<i64> + TryFrom<i64>,
{
    let (starts, stops) = (call.primitive::<T>(0), call.primitive::<T>(1));
    let steps = (call.len() > 2).then(|| call.primitive::<T>(2));
    let mut all: Vec<T::Native> = Vec::new();
    let mut shape = Shape::new(call.rows());
    for row in 0..call.rows() {
        let (Some(start), Some(stop)) = (starts.get(row), stops.get(row)) else {
            shape.end(all.len(), false)?;
            continue;
        };
        let (start, stop): (i64, i64) = (start.into(), stop.into());
        let step = match &steps {
            None if start <= stop => 1,
            None => -1,
            Some(steps) => {
                if let Some(step) = steps.get(row) {
                    step.into()
                } else {
                    shape.end(all.len(), false)?;
                    continue;
                }
            }
        };
        each(start, stop, step, |number| {
            all.extend(T::Native::try_from(number));
        })?;
        shape.end(all.len(), true)?;
    }
    let all: ArrayRef = Arc::new(PrimitiveArray::<T>::from_iter_values(all));
    shape.list(&all, call.returns())
}

/// The numbers from `start` to `stop`.
fn each(start: i64, stop: i64, step: i64, mut take: impl FnMut(i64)) -> Result<()> {
    if start == stop {
        take(start);
        return Ok(());
    }
    if step == 0 || (step > 0) != (start < stop) {
        return illegal(start, stop, step);
    }
    let count = (i128::from(stop) - i128::from(start)) / i128::from(step);
    check_length("sequence", usize::try_from(count + 1).unwrap_or(usize::MAX))?;
    let mut next = Some(start);
    while let Some(number) = next.filter(|n| if step > 0 { *n <= stop } else { *n >= stop }) {
        take(number);
        next = number.checked_add(step);
    }
    Ok(())
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A step in time: months and days of the calendar, then microseconds.
#[derive(Clone, Copy)]
struct Step {
    months: i32,
    days: i64,
    micros: i64,
}

impl Step {
    /// By months of 28 days: only its sign and rough size count.
    fn micros(self) -> i128 {
        (i128::from(self.months) * 28 + i128::from(self.days)) * i128::from(MICROS_PER_DAY)
            + i128::from(self.micros)
    }
}

/// The steps of each row; `None` where they are null.
fn steps(call: &Call) -> Result<impl Fn(usize, bool) -> Option<Step>> {
    let column = if call.len() > 2 {
        Some(call.array(2)?)
    } else {
        None
    };
    Ok(move |row: usize, forwards: bool| {
        let Some(column) = &column else {
            let days = if forwards { 1 } else { -1 };
            return Some(Step {
                months: 0,
                days,
                micros: 0,
            });
        };
        if column.is_null(row) {
            return None;
        }
        Some(match column.data_type() {
            DataType::Duration(_) => {
                let micros = column.as_primitive::<DurationMicrosecondType>().value(row);
                let (days, micros) = (micros / MICROS_PER_DAY, micros % MICROS_PER_DAY);
                Step {
                    months: 0,
                    days,
                    micros,
                }
            }
            DataType::Interval(IntervalUnit::YearMonth) => {
                let months = column.as_primitive::<IntervalYearMonthType>().value(row);
                Step {
                    months,
                    days: 0,
                    micros: 0,
                }
            }
            _ => {
                let IntervalMonthDayNano {
                    months,
                    days,
                    nanoseconds,
                } = column.as_primitive::<IntervalMonthDayNanoType>().value(row);
                Step {
                    months,
                    days: i64::from(days),
                    micros: nanoseconds / 1_000,
                }
            }
        })
    })
}

fn dates(call: &Call) -> Result<ArrayRef> {
    let (starts, stops, steps) = (
        call.primitive::<Date32Type>(0),
        call.primitive::<Date32Type>(1),
        steps(call)?,
    );
    let utc: Tz = "UTC".parse()?;
    let mut all: Vec<i32> = Vec::new();
    let mut shape = Shape::new(call.rows());
    for row in 0..call.rows() {
        let ends = starts.get(row).zip(stops.get(row));
        let Some(((start, stop), step)) =
            ends.and_then(|(a, b)| Some(((a, b), steps(row, a <= b)?)))
        else {
            shape.end(all.len(), false)?;
            continue;
        };
        if step.micros % MICROS_PER_DAY != 0
            || (step.micros() != 0 && step.months == 0 && step.days == 0)
        {
            return exec_err!("the step of a sequence of DATEs must be whole days or months");
        }
        let micros = |day: i32| i64::from(day) * MICROS_PER_DAY;
        walk(micros(start), micros(stop), step, utc, |at| {
            all.push(at.div_euclid(MICROS_PER_DAY) as i32);
        })?;
        shape.end(all.len(), true)?;
    }
    let all: ArrayRef = Arc::new(PrimitiveArray::<Date32Type>::from_iter_values(all));
    shape.list(&all, call.returns())
}

fn instants(call: &Call, zone: &str) -> Result<ArrayRef> {
    let zone: Tz = zone.parse()?;
    let (starts, stops, steps) = (
        call.primitive::<TimestampMicrosecondType>(0),
        call.primitive::<TimestampMicrosecondType>(1),
        steps(call)?,
    );
    let mut all: Vec<i64> = Vec::new();
    let mut shape = Shape::new(call.rows());
    for row in 0..call.rows() {
        let ends = starts.get(row).zip(stops.get(row));
        let Some(((start, stop), step)) =
            ends.and_then(|(a, b)| Some(((a, b), steps(row, a <= b)?)))
        else {
            shape.end(all.len(), false)?;
            continue;
        };
        walk(start, stop, step, zone, |at| all.push(at))?;
        shape.end(all.len(), true)?;
    }
    let all = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(all);
    let all: ArrayRef = Arc::new(all.with_data_type(call.data_type(0).clone()));
    shape.list(&all, call.returns())
}

/// The instants from `start` to `stop`, each a number of steps from the start by the wall clock of
/// the zone.
fn walk(start: i64, stop: i64, step: Step, zone: Tz, mut take: impl FnMut(i64)) -> Result<()> {
    let size = step.micros();
    if start == stop {
        take(start);
        return Ok(());
    }
    if size == 0 || (size > 0) != (start < stop) {
        return illegal(
            shown(start),
            shown(stop),
            format_args!(
                "{} months {} days {} microseconds",
                step.months, step.days, step.micros
            ),
        );
    }
    let count = (i128::from(stop) - i128::from(start)) / size;
    check_length("sequence", usize::try_from(count + 1).unwrap_or(usize::MAX))?;
    if step.months == 0 && step.days == 0 {
        return each(start, stop, step.micros, take);
    }
    let mut at = start;
    for steps in 1_i64.. {
        if if size > 0 { at > stop } else { at < stop } {
            break;
        }
        take(at);
        at = later(start, step, steps, zone).ok_or_else(|| {
            exec_datafusion_err!("a step of the sequence leaves the range of times")
        })?;
    }
    Ok(())
}

fn shown(micros: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(micros)
        .map_or_else(|| micros.to_string(), |at| at.naive_utc().to_string())
}

/// `count` steps after `start`.
fn later(start: i64, step: Step, count: i64, zone: Tz) -> Option<i64> {
    let local = zone
        .from_utc_datetime(&DateTime::<Utc>::from_timestamp_micros(start)?.naive_utc())
        .naive_local();
    let months = i64::from(step.months).checked_mul(count)?;
    let whole = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    let local = if months < 0 {
        local.checked_sub_months(whole)?
    } else {
        local.checked_add_months(whole)?
    };
    let days = step.days.checked_mul(count)?;
    let whole = Days::new(days.unsigned_abs());
    let local = if days < 0 {
        local.checked_sub_days(whole)?
    } else {
        local.checked_add_days(whole)?
    };
    let micros = step.micros.checked_mul(count)?;
    instant(local, zone)?.checked_add(micros)
}

/// The instant at which clocks of the zone show this; the first of two, and an hour that is left
/// out is read with the offset before it.
fn instant(local: NaiveDateTime, zone: Tz) -> Option<i64> {
    let utc = match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => {
            local.checked_sub_offset(offset.fix())?
        }
        LocalResult::None => {
            let before = local.checked_sub_signed(TimeDelta::days(1))?;
            local.checked_sub_offset(zone.offset_from_utc_datetime(&before).fix())?
        }
    };
    Some(utc.and_utc().timestamp_micros())
}
