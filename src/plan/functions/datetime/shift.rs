//! Timestamps moved, and the time between two.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::datetime::{civil, days_in_month};
use tidemark_connectors::format::zone::Zone;

use super::{
    DAY, HOUR, MINUTE, Moments, SECOND, day_of, on_the_wall, overflow, plus_months,
    timestamp_or_wall, zone,
};
use crate::plan::functions::define::{Call, Gives, Param, ResultType, function, unexpected};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let shifted: ResultType = |types, _| Ok(types[2].clone());
    vec![
        function(
            "timestampadd",
            &[Param::Text, Param::Long, Param::Any],
            Gives::Of(shifted),
            timestampadd,
        )
        .coerced(|_, types| match timestamp_or_wall(&types[2]) {
            Some(found) => Ok(vec![DataType::Utf8, DataType::Int64, found]),
            None => unexpected("timestampadd", 2, "TIMESTAMP", &types[2]),
        })
        .udf(),
        function(
            "timestampdiff",
            &[Param::Text, Param::Timestamp, Param::Timestamp],
            DataType::Int64,
            timestampdiff,
        )
        .udf(),
        function(
            "months_between",
            &[Param::Timestamp, Param::Timestamp, Param::Boolean],
            DataType::Float64,
            months_between,
        )
        .optional(1)
        .udf(),
    ]
}

/// A unit of `timestampadd`.
#[derive(Clone, Copy)]
enum Unit {
    /// So many microseconds that pass.
    Micros(i64),
    /// So many days of the wall clock.
    Days(i64),
    Months(i64),
}

fn unit(name: &str) -> Result<Unit> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "MICROSECOND" => Unit::Micros(1),
        "MILLISECOND" => Unit::Micros(1_000),
        "SECOND" => Unit::Micros(SECOND),
        "MINUTE" => Unit::Micros(MINUTE),
        "HOUR" => Unit::Micros(HOUR),
        "DAY" | "DAYOFYEAR" => Unit::Days(1),
        "WEEK" => Unit::Days(7),
        "MONTH" => Unit::Months(1),
        "QUARTER" => Unit::Months(3),
        "YEAR" => Unit::Months(12),
        _ => {
            return Err(exec_datafusion_err!(
                "[INVALID_PARAMETER_VALUE.DATETIME_UNIT] '{name}' is no unit of time; use YEAR, QUARTER, MONTH, WEEK, DAY, DAYOFYEAR, HOUR, MINUTE, SECOND, MILLISECOND or MICROSECOND"
            ));
        }
    })
}

fn timestampadd(call: &Call) -> Result<ArrayRef> {
    let (units, numbers) = (call.text(0), call.longs(1));
    let times = call.primitive::<TimestampMicrosecondType>(2);
    let zone = match call.data_type(2) {
        DataType::Timestamp(_, Some(_)) => zone(call)?,
        _ => Zone::UTC,
    };
    call.values::<TimestampMicrosecondType>(|row| {
        let (Some(name), Some(number), Some(time)) =
            (units.get(row), numbers.get(row), times.get(row))
        else {
            return Ok(None);
        };
        let moved = match unit(name)? {
            Unit::Micros(micros) => number
                .checked_mul(micros)
                .and_then(|shift| time.checked_add(shift)),
            Unit::Days(days) => number
                .checked_mul(days)
                .and_then(|days| days.checked_mul(DAY))
                .and_then(|shift| on_the_wall(zone, time, |wall| wall.checked_add(shift))),
            Unit::Months(months) => number.checked_mul(months).and_then(|months| {
                on_the_wall(zone, time, |wall| {
                    let day = plus_months(day_of(wall), months)?;
                    day.checked_mul(DAY)?.checked_add(wall.rem_euclid(DAY))
                })
            }),
        };
        moved.ok_or_else(overflow).map(Some)
    })
}

fn timestampdiff(call: &Call) -> Result<ArrayRef> {
    let units = call.text(0);
    let (starts, ends) = (Moments::of(call, 1)?, Moments::of(call, 2)?);
    call.values::<Int64Type>(|row| {
        let (Some(name), Some(start), Some(end)) =
            (units.get(row), starts.wall(row)?, ends.wall(row)?)
        else {
            return Ok(None);
        };
        Ok(Some(match unit(name)? {
            Unit::Micros(micros) => end.checked_sub(start).ok_or_else(overflow)? / micros,
            Unit::Days(days) => end.checked_sub(start).ok_or_else(overflow)? / (days * DAY),
            Unit::Months(months) => whole_months(start, end) / months,
        }))
    })
}

/// Whole months from one wall clock to the other.
fn whole_months(start: i64, end: i64) -> i64 {
    let count = |wall: i64| {
        let (year, month, day) = civil(day_of(wall));
        // The place within the month: its day and the time of that.
        let within = i64::from(day) * DAY + wall.rem_euclid(DAY);
        (year * 12 + i64::from(month), within)
    };
    let ((from, from_within), (to, to_within)) = (count(start), count(end));
    let months = to - from;
    if months > 0 && to_within < from_within {
        months - 1
    } else if months < 0 && to_within > from_within {
        months + 1
    } else {
        months
    }
}

fn months_between(call: &Call) -> Result<ArrayRef> {
    let (ends, starts) = (Moments::of(call, 0)?, Moments::of(call, 1)?);
    let rounded = (call.len() > 2).then(|| call.boolean(2));
    call.values::<Float64Type>(|row| {
        let rounding = match &rounded {
            None => Some(true),
            Some(column) => column.get(row),
        };
        let (Some(end), Some(start), Some(rounding)) =
            (ends.wall(row)?, starts.wall(row)?, rounding)
        else {
            return Ok(None);
        };
        let months = fractional_months(start, end);
        Ok(Some(if rounding {
            (months * 1e8).round() / 1e8
        } else {
            months
        }))
    })
}

/// Months from one wall clock to the other: whole ones between equal days and between last days of
/// months, else the rest counts as part of a month of 31 days.
fn fractional_months(start: i64, end: i64) -> f64 {
    const MONTH_SECONDS: f64 = 31.0 * 86_400.0;
    let count = |wall: i64| {
        let (year, month, day) = civil(day_of(wall));
        let last = day == days_in_month(year, month);
        (year * 12 + i64::from(month), day, last)
    };
    let ((to, to_day, to_last), (from, from_day, from_last)) = (count(end), count(start));
    let months = (to - from) as f64;
    if to_day == from_day || (to_last && from_last) {
        return months;
    }
    let seconds = |wall: i64| wall.rem_euclid(DAY) / SECOND;
    let days = i64::from(to_day) - i64::from(from_day);
    let rest = days * 86_400 + seconds(end) - seconds(start);
    months + rest as f64 / MONTH_SECONDS
}
