//! Timestamps cut down to a unit or a bucket.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{
    DataType, DurationMicrosecondType, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::datetime::civil;
use tidemark_connectors::format::zone::Zone;

use super::dates::first_day;
use super::{
    DAY, HOUR, MINUTE, SECOND, day_of, on_the_wall, overflow, plus_months, timestamp_or_wall, zone,
};
use crate::plan::functions::define::{Call, Gives, Param, ResultType, function, unexpected};
use crate::plan::sql::types::timestamp_type;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let of_time: ResultType = |types, _| Ok(types[1].clone());
    vec![
        function(
            "date_trunc",
            &[Param::Text, Param::Timestamp],
            timestamp_type(),
            date_trunc,
        )
        .udf(),
        function(
            "time_bucket",
            &[Param::Any, Param::Any, Param::Any],
            Gives::Of(of_time),
            time_bucket,
        )
        .optional(1)
        .coerced(|_, types| bucket_types(types))
        .udf(),
    ]
}

/// What a unit cuts off.
enum Cut {
    /// The rest of so many microseconds.
    Micros(i64),
    /// The rest of so many microseconds on the wall clock.
    Wall(i64),
    /// The rest of a calendar unit.
    Days,
}

fn cut(unit: &str) -> Cut {
    match unit.to_ascii_uppercase().as_str() {
        "MICROSECOND" => Cut::Micros(1),
        "MILLISECOND" => Cut::Micros(1_000),
        "SECOND" => Cut::Micros(SECOND),
        "MINUTE" => Cut::Wall(MINUTE),
        "HOUR" => Cut::Wall(HOUR),
        "DAY" | "DD" => Cut::Wall(DAY),
        _ => Cut::Days,
    }
}

fn date_trunc(call: &Call) -> Result<ArrayRef> {
    let zone = zone(call)?;
    let (units, times) = (call.text(0), call.primitive::<TimestampMicrosecondType>(1));
    call.values::<TimestampMicrosecondType>(|row| {
        let (Some(unit), Some(time)) = (units.get(row), times.get(row)) else {
            return Ok(None);
        };
        let found = match cut(unit) {
            Cut::Micros(micros) => Some(time - time.rem_euclid(micros)),
            Cut::Wall(micros) if micros < DAY => {
                on_the_wall(zone, time, |wall| Some(wall - wall.rem_euclid(micros)))
            }
            Cut::Wall(micros) => zone
                .to_local(time)
                .and_then(|wall| zone.to_utc(wall - wall.rem_euclid(micros))),
            Cut::Days => {
                let wall = zone.to_local(time).ok_or_else(overflow)?;
                // A unit that there is none of gives null.
                let Some(first) = first_day(day_of(wall), unit) else {
                    return Ok(None);
                };
                first.checked_mul(DAY).and_then(|wall| zone.to_utc(wall))
            }
        };
        found.ok_or_else(overflow).map(Some)
    })
}

fn bucket_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let size = match &types[0] {
        interval @ DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano) => {
            interval.clone()
        }
        DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        other => return unexpected("time_bucket", 0, "INTERVAL", other),
    };
    let Some(time) = timestamp_or_wall(&types[1]) else {
        return unexpected("time_bucket", 1, "TIMESTAMP", &types[1]);
    };
    let mut wanted = vec![size, time.clone()];
    wanted.resize(types.len(), time);
    Ok(wanted)
}

/// The size of a bucket: months, or microseconds.
fn bucket_size(call: &Call) -> Result<Option<(i64, i64)>> {
    let size = match call.data_type(0) {
        DataType::Duration(_) => {
            (call.primitive::<DurationMicrosecondType>(0).get(0)).map(|micros| (0, micros))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let months = call.primitive::<IntervalYearMonthType>(0).get(0);
            months.map(|months| (months.into(), 0))
        }
        _ => {
            let value = call.primitive::<IntervalMonthDayNanoType>(0).get(0);
            value.map(|value| {
                let micros = i64::from(value.days) * DAY + value.nanoseconds / 1000;
                (value.months.into(), micros)
            })
        }
    };
    match size {
        Some((months @ 1.., 0)) => Ok(Some((months, 0))),
        Some((0, micros @ 1..)) => Ok(Some((0, micros))),
        None => Ok(None),
        Some(_) => Err(exec_datafusion_err!(
            "[DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE] the size of time_bucket must be positive, and either months or a fixed length; use one such as INTERVAL '15' MINUTE"
        )),
    }
}

fn time_bucket(call: &Call) -> Result<ArrayRef> {
    let Some((months, micros)) = bucket_size(call)? else {
        return Ok(arrow::array::new_null_array(call.returns(), call.rows()));
    };
    let zone = match call.data_type(1) {
        DataType::Timestamp(_, Some(_)) => zone(call)?,
        _ => Zone::UTC,
    };
    let times = call.primitive::<TimestampMicrosecondType>(1);
    let origins = (call.len() > 2).then(|| call.primitive::<TimestampMicrosecondType>(2));
    call.values::<TimestampMicrosecondType>(|row| {
        let origin = match &origins {
            Some(origins) => origins.get(row),
            // 1970-01-01 on the wall clock.
            None => zone.to_utc(0),
        };
        let (Some(time), Some(origin)) = (times.get(row), origin) else {
            return Ok(None);
        };
        let found = if months > 0 {
            month_bucket(zone, months, time, origin)
        } else if micros % DAY == 0 {
            let wall = || Some((zone.to_local(time)?, zone.to_local(origin)?));
            wall().and_then(|(wall, origin)| zone.to_utc(floor(wall, origin, micros)?))
        } else {
            floor(time, origin, micros)
        };
        found.ok_or_else(overflow).map(Some)
    })
}

/// The last multiple of `step` from `origin` on that is not after `time`.
fn floor(time: i64, origin: i64, step: i64) -> Option<i64> {
    time.checked_sub(time.checked_sub(origin)?.rem_euclid(step))
}

fn month_bucket(zone: Zone, months: i64, time: i64, origin: i64) -> Option<i64> {
    let (wall, origin) = (zone.to_local(time)?, zone.to_local(origin)?);
    let count = |wall: i64| {
        let (year, month, _) = civil(day_of(wall));
        year * 12 + i64::from(month)
    };
    let start = |buckets: i64| {
        let day = plus_months(day_of(origin), buckets.checked_mul(months)?)?;
        day.checked_mul(DAY)?.checked_add(origin.rem_euclid(DAY))
    };
    let buckets = (count(wall) - count(origin)).div_euclid(months);
    let found = match start(buckets)? {
        after if after > wall => start(buckets - 1)?,
        found => found,
    };
    zone.to_utc(found)
}
