//! Dates, timestamps and intervals from their parts.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::datetime::{days, micros};
use tidemark_connectors::format::zone::Zone;

use super::{DAY, HOUR, MINUTE, SECOND, WALL, named_zone, overflow, zone};
use crate::plan::functions::define::{Call, Column, Param, function, unexpected};
use crate::plan::sql::types::timestamp_type;

const NUMBERS: &[Param] = &[Param::Int; 7];

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        function("make_date", &[Param::Int; 3], DataType::Date32, make_date).udf(),
        function(
            "make_ym_interval",
            &[Param::Int; 2],
            DataType::Interval(IntervalUnit::YearMonth),
            make_ym_interval,
        )
        .optional(2)
        .udf(),
        function(
            "make_dt_interval",
            &NUMBERS[..4],
            DataType::Duration(TimeUnit::Microsecond),
            make_dt_interval,
        )
        .optional(4)
        .coerced(|name, types| numbers_and_seconds(name, types, 3))
        .udf(),
    ];
    for (name, strict) in [("make_interval", true), ("try_make_interval", false)] {
        let compute = move |call: &Call| make_interval(call, strict);
        all.push(
            function(
                name,
                NUMBERS,
                DataType::Interval(IntervalUnit::MonthDayNano),
                compute,
            )
            .optional(7)
            .coerced(|name, types| numbers_and_seconds(name, types, 6))
            .udf(),
        );
    }
    let timestamps: [(_, &[&str], _, _); 4] = [
        ("make_timestamp", &["make_timestamp_ltz"], true, true),
        (
            "try_make_timestamp",
            &["try_make_timestamp_ltz"],
            true,
            false,
        ),
        ("make_timestamp_ntz", &[], false, true),
        ("try_make_timestamp_ntz", &[], false, false),
    ];
    for (name, aliases, instant, strict) in timestamps {
        let gives = if instant { timestamp_type() } else { WALL };
        let compute = move |call: &Call| make_timestamp(call, strict);
        let params = if instant { NUMBERS } else { &NUMBERS[..6] };
        all.push(
            function(name, params, gives, compute)
                .also(aliases)
                .optional(usize::from(instant))
                .coerced(|name, types| numbers_and_seconds(name, types, 5))
                .udf(),
        );
    }
    all
}

/// Whole numbers, then seconds with a fraction at `seconds`, then text.
fn numbers_and_seconds(name: &str, types: &[DataType], seconds: usize) -> Result<Vec<DataType>> {
    let wanted = |(index, given): (usize, &DataType)| {
        let text = matches!(
            given,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
        );
        if index > seconds && text {
            Ok(DataType::Utf8)
        } else if index <= seconds && (given.is_numeric() || text) {
            Ok(if index == seconds {
                DataType::Decimal128(18, 6)
            } else {
                DataType::Int32
            })
        } else {
            unexpected(name, index, "a number", given)
        }
    };
    types.iter().enumerate().map(wanted).collect()
}

/// The whole numbers of a row: those not given are 0. `None` where one is null.
fn numbers<const N: usize>(call: &Call) -> impl Fn(usize) -> Option<[i64; N]> + '_ {
    let columns: Vec<_> = (0..call.len().min(N))
        .map(|index| call.ints(index))
        .collect();
    move |row| {
        let mut found = [0; N];
        for (found, column) in found.iter_mut().zip(&columns) {
            *found = column.get(row)?.into();
        }
        Some(found)
    }
}

/// The seconds of each row, in microseconds.
fn seconds(call: &Call, index: usize) -> impl Fn(usize) -> Option<i64> + '_ {
    let column: Option<Column<'_, Decimal128Array>> =
        (call.len() > index).then(|| call.primitive::<Decimal128Type>(index));
    move |row| match &column {
        None => Some(0),
        // 18 digits fit.
        Some(column) => column.get(row).map(|micros| micros as i64),
    }
}

fn out_of_bounds(what: std::fmt::Arguments<'_>) -> DataFusionError {
    exec_datafusion_err!(
        "[DATETIME_FIELD_OUT_OF_BOUNDS.WITHOUT_SUGGESTION] {what}; filter such rows before it"
    )
}

fn make_date(call: &Call) -> Result<ArrayRef> {
    let parts = numbers::<3>(call);
    call.values::<Date32Type>(|row| {
        let Some([year, month, day]) = parts(row) else {
            return Ok(None);
        };
        let found = calendar_day(year, month, day)
            .ok_or_else(|| out_of_bounds(format_args!("there is no date {year}-{month}-{day}")))?;
        i32::try_from(found).map_err(|_| overflow()).map(Some)
    })
}

fn calendar_day(year: i64, month: i64, day: i64) -> Option<i64> {
    days(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?)
}

/// What the wall clock shows, in microseconds.
fn wall([year, month, day, hour, minute]: [i64; 5], of_minute: i64) -> Result<i64> {
    let part = |number: i64| u32::try_from(number).ok();
    let (second, fraction) = (of_minute.div_euclid(SECOND), of_minute.rem_euclid(SECOND));
    if second == 60 && fraction != 0 {
        return exec_err!(
            "[INVALID_FRACTION_OF_SECOND] a second of 60 takes no fraction; use 0 to 59.999999, or 60"
        );
    }
    let found = || {
        // Second 60 is the first of the next minute.
        let (second, more) = if second == 60 {
            (0, MINUTE)
        } else {
            (second, 0)
        };
        micros(
            year,
            part(month)?,
            part(day)?,
            part(hour)?,
            part(minute)?,
            part(second)?,
            part(fraction)?,
        )?
        .checked_add(more)
    };
    found().ok_or_else(|| {
        out_of_bounds(format_args!(
            "there is no moment {year}-{month}-{day} {hour}:{minute}:{second}"
        ))
    })
}

fn make_timestamp(call: &Call, strict: bool) -> Result<ArrayRef> {
    let (parts, of_minute) = (numbers::<5>(call), seconds(call, 5));
    let names = (call.len() > 6).then(|| call.text(6));
    let session = match call.returns() {
        DataType::Timestamp(_, Some(_)) => zone(call)?,
        _ => Zone::UTC,
    };
    call.values::<TimestampMicrosecondType>(|row| {
        let (Some(parts), Some(of_minute)) = (parts(row), of_minute(row)) else {
            return Ok(None);
        };
        let zone = match &names {
            None => session,
            Some(names) => match names.get(row) {
                Some(name) => named_zone(name)?,
                None => return Ok(None),
            },
        };
        match wall(parts, of_minute) {
            Ok(wall) => zone.to_utc(wall).ok_or_else(overflow).map(Some),
            Err(_) if !strict => Ok(None),
            Err(error) => Err(error),
        }
    })
}

fn make_interval(call: &Call, strict: bool) -> Result<ArrayRef> {
    let (parts, seconds) = (numbers::<6>(call), seconds(call, 6));
    call.values::<IntervalMonthDayNanoType>(|row| {
        let (Some([years, months, weeks, days, hours, minutes]), Some(seconds)) =
            (parts(row), seconds(row))
        else {
            return Ok(None);
        };
        let found = || {
            let months = i32::try_from(years * 12 + months).ok()?;
            let days = i32::try_from(weeks * 7 + days).ok()?;
            let micros = (hours * HOUR + minutes * MINUTE).checked_add(seconds)?;
            let nanos = micros.checked_mul(1_000)?;
            Some(IntervalMonthDayNano::new(months, days, nanos))
        };
        match found() {
            None if strict => exec_err!(
                "[ARITHMETIC_OVERFLOW] the interval is too long; use try_make_interval where NULL will do"
            ),
            found => Ok(found),
        }
    })
}

fn too_long() -> DataFusionError {
    exec_datafusion_err!(
        "[INTERVAL_ARITHMETIC_OVERFLOW.WITHOUT_SUGGESTION] the interval is too long; use smaller numbers"
    )
}

fn make_dt_interval(call: &Call) -> Result<ArrayRef> {
    let (parts, seconds) = (numbers::<3>(call), seconds(call, 3));
    call.values::<DurationMicrosecondType>(|row| {
        let (Some([days, hours, minutes]), Some(seconds)) = (parts(row), seconds(row)) else {
            return Ok(None);
        };
        let whole = days
            .checked_mul(DAY)
            .and_then(|days| days.checked_add(hours * HOUR + minutes * MINUTE));
        let found = whole.and_then(|whole| whole.checked_add(seconds));
        found.ok_or_else(too_long).map(Some)
    })
}

fn make_ym_interval(call: &Call) -> Result<ArrayRef> {
    let parts = numbers::<2>(call);
    call.values::<IntervalYearMonthType>(|row| {
        let Some([years, months]) = parts(row) else {
            return Ok(None);
        };
        let months = i32::try_from(years * 12 + months);
        months.map_err(|_| too_long()).map(Some)
    })
}
