//! Parts of dates, timestamps and intervals.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Int8Type, Int32Type,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::datetime::{civil, days};
use tidemark_connectors::format::pattern::{short_day, short_month};

use super::{DAY, HOUR, MINUTE, Moments, SECOND, day_of, moment_type};
use crate::plan::functions::define::{Call, Gives, Param, ResultType, function, unexpected};

/// A part that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    YearOfWeek,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    DayOfWeekIso,
    DayOfYear,
    Hour,
    Minute,
    Second,
}

impl Part {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "YEAR" | "Y" | "YEARS" | "YR" | "YRS" => Self::Year,
            "YEAROFWEEK" => Self::YearOfWeek,
            "QUARTER" | "QTR" => Self::Quarter,
            "MONTH" | "MON" | "MONS" | "MONTHS" => Self::Month,
            "WEEK" | "W" | "WEEKS" => Self::Week,
            "DAY" | "D" | "DAYS" => Self::Day,
            "DAYOFWEEK" | "DOW" => Self::DayOfWeek,
            "DAYOFWEEK_ISO" | "DOW_ISO" => Self::DayOfWeekIso,
            "DOY" => Self::DayOfYear,
            "HOUR" | "H" | "HOURS" | "HR" | "HRS" => Self::Hour,
            "MINUTE" | "M" | "MIN" | "MINS" | "MINUTES" => Self::Minute,
            "SECOND" | "S" | "SEC" | "SECONDS" | "SECS" => Self::Second,
            _ => return None,
        })
    }

    /// Of a wall clock, in whole numbers.
    fn of(self, wall: i64) -> i32 {
        let day = day_of(wall);
        let (year, month, of_month) = civil(day);
        let found = match self {
            Self::Year => year,
            Self::YearOfWeek => week(day).0,
            Self::Quarter => i64::from(month.div_ceil(3)),
            Self::Month => month.into(),
            Self::Week => week(day).1,
            Self::Day => of_month.into(),
            Self::DayOfWeek => (day + 4).rem_euclid(7) + 1,
            Self::DayOfWeekIso => weekday(day) + 1,
            Self::DayOfYear => day - days(year, 1, 1).unwrap_or(day) + 1,
            Self::Hour => wall.rem_euclid(DAY) / HOUR,
            Self::Minute => wall.rem_euclid(HOUR) / MINUTE,
            Self::Second => wall.rem_euclid(MINUTE) / SECOND,
        };
        found as i32
    }
}

/// 0 for Monday: 1970-01-01 was a Thursday.
fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

/// The ISO week of a day, and the year that it belongs to: that of its Thursday.
fn week(day: i64) -> (i64, i64) {
    let thursday = day - weekday(day) + 3;
    let (year, _, _) = civil(thursday);
    let first = days(year, 1, 1).unwrap_or(thursday);
    (year, (thursday - first) / 7 + 1)
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        date_part(),
        function("dayname", &[Param::Date], DataType::Utf8, |call| {
            names(call, |day| short_day(weekday(day) as u32))
        })
        .udf(),
        function("monthname", &[Param::Date], DataType::Utf8, |call| {
            names(call, |day| short_month(civil(day).1))
        })
        .udf(),
        function("weekday", &[Param::Date], DataType::Int32, |call| {
            whole(call, |wall| weekday(day_of(wall)) as i32)
        })
        .udf(),
    ];
    let of_date = [
        ("year", Part::Year),
        ("quarter", Part::Quarter),
        ("month", Part::Month),
        ("day", Part::Day),
        ("dayofweek", Part::DayOfWeek),
        ("dayofyear", Part::DayOfYear),
        ("weekofyear", Part::Week),
    ];
    for (name, part) in of_date {
        let aliases: &[&str] = if name == "day" { &["dayofmonth"] } else { &[] };
        let compute = move |call: &Call| whole(call, |wall| part.of(wall));
        let defined = function(name, &[Param::Date], DataType::Int32, compute);
        all.push(defined.also(aliases).udf());
    }
    let of_time = [
        ("hour", Part::Hour),
        ("minute", Part::Minute),
        ("second", Part::Second),
    ];
    for (name, part) in of_time {
        let compute = move |call: &Call| whole(call, |wall| part.of(wall));
        let defined = function(name, &[Param::Timestamp], DataType::Int32, compute);
        let defined = defined.coerced(|_, types| match moment_type(&types[0]) {
            Some(found) => Ok(vec![found]),
            None => unexpected("hour, minute and second", 0, "TIMESTAMP", &types[0]),
        });
        all.push(defined.udf());
    }
    all
}

fn whole(call: &Call, of: impl Fn(i64) -> i32) -> Result<ArrayRef> {
    let moments = Moments::of(call, 0)?;
    call.values::<Int32Type>(|row| Ok(moments.wall(row)?.map(&of)))
}

fn names(call: &Call, of: impl Fn(i64) -> &'static str) -> Result<ArrayRef> {
    let moments = Moments::of(call, 0)?;
    call.texts(|row, out| {
        let Some(wall) = moments.wall(row)? else {
            return Ok(None);
        };
        out.push_str(of(day_of(wall)));
        Ok(Some(()))
    })
}

/// `date_part(name, from)`, which `extract(name FROM from)` is written as.
fn date_part() -> Arc<ScalarUDF> {
    let params = &[Param::Text, Param::Any];
    function(
        "date_part",
        params,
        Gives::Of(part_type as ResultType),
        |call| {
            let name = match call.data_type(0) {
                DataType::Null => None,
                _ => call.text(0).get(0),
            };
            let Some(name) = name else {
                return Ok(arrow::array::new_null_array(call.returns(), call.rows()));
            };
            let part = part_of(name, call.data_type(1))?;
            match call.data_type(1) {
                DataType::Duration(_) | DataType::Interval(_) => of_intervals(call, part),
                _ if part == Part::Second => {
                    let moments = Moments::of(call, 1)?;
                    call.values::<Decimal128Type>(|row| {
                        Ok(moments
                            .wall(row)?
                            .map(|wall| wall.rem_euclid(MINUTE).into()))
                    })
                }
                _ => {
                    let moments = Moments::of(call, 1)?;
                    call.values::<Int32Type>(|row| Ok(moments.wall(row)?.map(|wall| part.of(wall))))
                }
            }
        },
    )
    .also(&["datepart", "extract"])
    .coerced(|_, types| {
        let from = match &types[1] {
            interval @ DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano) => {
                Some(interval.clone())
            }
            DataType::Duration(_) => Some(DataType::Duration(TimeUnit::Microsecond)),
            other => moment_type(other),
        };
        match from {
            // A field that is null makes the result DOUBLE, so it must stay in sight.
            Some(from) if types[0] == DataType::Null => Ok(vec![DataType::Null, from]),
            Some(from) => Ok(vec![DataType::Utf8, from]),
            None => unexpected("date_part", 1, "DATE, TIMESTAMP or INTERVAL", &types[1]),
        }
    })
    .udf()
}

/// The part that values of this type have under that name.
fn part_of(name: &str, from: &DataType) -> Result<Part> {
    let part = Part::named(name);
    let has = |part: Part| match from {
        DataType::Interval(IntervalUnit::YearMonth) => matches!(part, Part::Year | Part::Month),
        DataType::Duration(_) => {
            matches!(part, Part::Day | Part::Hour | Part::Minute | Part::Second)
        }
        DataType::Interval(_) => matches!(
            part,
            Part::Year | Part::Month | Part::Day | Part::Hour | Part::Minute | Part::Second
        ),
        _ => true,
    };
    part.filter(|part| has(*part)).ok_or_else(|| {
        plan_datafusion_err!(
            "[INVALID_EXTRACT_FIELD] there is no field '{name}' in {}; use one such as YEAR, MONTH, DAY, HOUR, MINUTE or SECOND",
            crate::plan::sql::type_name(from)
        )
    })
}

const SECONDS: DataType = DataType::Decimal128(8, 6);

fn part_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let name = match constants[0] {
        Some(
            ScalarValue::Utf8(name) | ScalarValue::LargeUtf8(name) | ScalarValue::Utf8View(name),
        ) => name,
        Some(ScalarValue::Null) => &None,
        _ => {
            return plan_err!(
                "[NON_FOLDABLE_ARGUMENT] the field of date_part must be a constant; use CASE to choose between several"
            );
        }
    };
    let Some(name) = name else {
        return Ok(DataType::Float64);
    };
    let interval = matches!(types[1], DataType::Duration(_) | DataType::Interval(_));
    Ok(match part_of(name, &types[1])? {
        Part::Second => SECONDS,
        Part::Month | Part::Hour | Part::Minute if interval => DataType::Int8,
        _ => DataType::Int32,
    })
}

/// Months, days and microseconds of each row, from an interval of any kind.
fn interval_parts(call: &Call) -> impl Fn(usize) -> Option<(i32, i64, i64)> + '_ {
    enum Intervals<'a> {
        Duration(super::Column<'a, arrow::array::DurationMicrosecondArray>),
        Months(super::Column<'a, arrow::array::IntervalYearMonthArray>),
        Calendar(super::Column<'a, arrow::array::IntervalMonthDayNanoArray>),
    }
    let intervals = match call.data_type(1) {
        DataType::Duration(_) => Intervals::Duration(call.primitive::<DurationMicrosecondType>(1)),
        DataType::Interval(IntervalUnit::YearMonth) => {
            Intervals::Months(call.primitive::<IntervalYearMonthType>(1))
        }
        _ => Intervals::Calendar(call.primitive::<IntervalMonthDayNanoType>(1)),
    };
    move |row| match &intervals {
        Intervals::Duration(column) => {
            let micros = column.get(row)?;
            Some((0, micros / DAY, micros % DAY))
        }
        Intervals::Months(column) => Some((column.get(row)?, 0, 0)),
        Intervals::Calendar(column) => {
            let value = column.get(row)?;
            Some((value.months, value.days.into(), value.nanoseconds / 1000))
        }
    }
}

fn of_intervals(call: &Call, part: Part) -> Result<ArrayRef> {
    let parts = interval_parts(call);
    let narrow = |row| {
        let (months, _, micros) = parts(row)?;
        Some(match part {
            Part::Month => (months % 12) as i8,
            Part::Hour => (micros / HOUR) as i8,
            _ => (micros / MINUTE % 60) as i8,
        })
    };
    match part {
        Part::Second => call.values::<Decimal128Type>(|row| {
            Ok(parts(row).map(|(_, _, micros)| (micros % MINUTE).into()))
        }),
        Part::Year => call.values::<Int32Type>(|row| Ok(parts(row).map(|found| found.0 / 12))),
        Part::Day => call.values::<Int32Type>(|row| Ok(parts(row).map(|found| found.1 as i32))),
        _ => call.values::<Int8Type>(|row| Ok(narrow(row))),
    }
}
