//! Spark's functions of dates, timestamps and intervals.
//!
//! | module | what it holds |
//! |---|---|
//! | `dates` | days added, counted and found: `date_add`, `add_months`, `next_day`, `trunc`, ... |
//! | `parts` | `year` to `second`, `extract`, `dayname` |
//! | `shift` | `timestampadd`, `timestampdiff`, `months_between` |
//! | `truncate` | `date_trunc`, `time_bucket` |
//! | `text` | what reads and writes by a pattern: `to_timestamp`, `date_format`, ... |
//! | `epoch` | timestamps from and to counts since 1970 |
//! | `make` | timestamps, dates and intervals from their parts |
//! | `zones` | `from_utc_timestamp`, `convert_timezone`, ... |
//!
//! A TIMESTAMP is an instant, and the session's zone says what a clock shows at it. An hour that
//! spring leaves out reads as one hour later; of an hour that autumn repeats the first is taken,
//! but a timestamp that is moved or cut stays in the one it was in.

mod dates;
mod epoch;
mod make;
mod parts;
mod shift;
pub(super) mod text;
mod truncate;
mod zones;

use std::sync::Arc;

use arrow::array::{Date32Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::datetime::{civil, days, days_in_month};
use tidemark_connectors::format::zone::Zone;

use super::define::{Call, Column};
use crate::plan::sql::types::timestamp_type;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `TIMESTAMP_NTZ`: microseconds on a wall clock.
const WALL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// All of them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = dates::functions();
    all.extend(parts::functions());
    all.extend(shift::functions());
    all.extend(truncate::functions());
    all.extend(text::functions());
    all.extend(epoch::functions());
    all.extend(make::functions());
    all.extend(zones::functions());
    all
}

/// The session's zone.
fn zone(call: &Call) -> Result<Zone> {
    named_zone(call.time_zone())
}

/// The zone of this name.
fn named_zone(name: &str) -> Result<Zone> {
    Zone::parse(name).ok_or_else(|| {
        exec_datafusion_err!(
            "[INVALID_TIMEZONE] there is no time zone '{name}'; use one such as 'UTC', '+02:00' or 'Europe/Paris'"
        )
    })
}

/// The error of a moment beyond what a timestamp or date holds.
fn overflow() -> DataFusionError {
    exec_datafusion_err!(
        "[DATETIME_OVERFLOW] the result is out of the range of its type; use smaller numbers"
    )
}

/// The type that a moment of type `given` is taken as: `TIMESTAMP_NTZ` and DATE stay, a STRING is a
/// TIMESTAMP. `None` if it is no moment.
fn moment_type(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Date32 => Some(DataType::Date32),
        DataType::Timestamp(_, None) => Some(WALL),
        DataType::Timestamp(_, Some(_))
        | DataType::Null
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View => Some(timestamp_type()),
        _ => None,
    }
}

/// The type that a timestamp of type `given` is taken as: like [`moment_type`], but a DATE is a
/// TIMESTAMP.
fn timestamp_or_wall(given: &DataType) -> Option<DataType> {
    moment_type(given).map(|found| match found {
        DataType::Date32 => timestamp_type(),
        other => other,
    })
}

/// An argument of one of the types of [`moment_type`].
enum Moments<'a> {
    Dates(Column<'a, Date32Array>),
    Instants(Column<'a, TimestampMicrosecondArray>, Zone),
    Walls(Column<'a, TimestampMicrosecondArray>),
}

impl<'a> Moments<'a> {
    fn of(call: &'a Call, index: usize) -> Result<Self> {
        Ok(match call.data_type(index) {
            DataType::Date32 => Self::Dates(call.primitive(index)),
            DataType::Timestamp(_, Some(_)) => Self::Instants(call.primitive(index), zone(call)?),
            _ => Self::Walls(call.primitive(index)),
        })
    }

    /// What the wall clock shows, in microseconds since 1970.
    fn wall(&self, row: usize) -> Result<Option<i64>> {
        match self {
            Self::Dates(column) => Ok(column.get(row).map(|day| i64::from(day) * DAY)),
            Self::Walls(column) => Ok(column.get(row)),
            Self::Instants(column, zone) => column
                .get(row)
                .map(|instant| zone.to_local(instant).ok_or_else(overflow))
                .transpose(),
        }
    }
}

/// The day of a wall clock.
fn day_of(wall: i64) -> i64 {
    wall.div_euclid(DAY)
}

/// `months` after a day, in the last days of a month at most that.
fn plus_months(day: i64, months: i64) -> Option<i64> {
    let (year, month, day) = civil(day);
    let count = (year * 12 + i64::from(month) - 1).checked_add(months)?;
    let (year, month) = (count.div_euclid(12), count.rem_euclid(12) as u32 + 1);
    // Beyond this no date reaches.
    if !(-6_000_000..=6_000_000).contains(&year) {
        return None;
    }
    days(year, month, day.min(days_in_month(year, month)))
}

/// The instant of a wall clock that was reached from one whose distance to UTC was `before`: of
/// a repeated hour the occurrence with that distance.
fn settle(zone: Zone, wall: i64, before: i32) -> Option<i64> {
    let same = wall.checked_sub(i64::from(before) * SECOND)?;
    if zone.offset(same) == Some(before) {
        Some(same)
    } else {
        zone.to_utc(wall)
    }
}

/// Moves an instant by what `change` does to its wall clock.
fn on_the_wall(zone: Zone, instant: i64, change: impl FnOnce(i64) -> Option<i64>) -> Option<i64> {
    let before = zone.offset(instant)?;
    let wall = instant.checked_add(i64::from(before) * SECOND)?;
    settle(zone, change(wall)?, before)
}
