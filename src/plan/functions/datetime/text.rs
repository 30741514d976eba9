//! Dates and timestamps read and written by a pattern.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType};
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::pattern::{Pattern, PatternError};
use tidemark_connectors::format::zone::Zone;

use super::{DAY, SECOND, WALL, day_of, overflow, zone};
use crate::plan::functions::define::{Call, Param, function, unexpected};
use crate::plan::sql::types::timestamp_type;

/// The pattern of `unix_timestamp` and `from_unixtime` where none is given.
const USUAL: &str = "yyyy-MM-dd HH:mm:ss";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        function(
            "date_format",
            &[Param::Timestamp, Param::Text],
            DataType::Utf8,
            date_format,
        )
        .udf(),
        function(
            "from_unixtime",
            &[Param::Long, Param::Text],
            DataType::Utf8,
            |call| {
                let seconds = call.longs(0);
                written(call, |row| {
                    let micros = seconds.get(row).map(|seconds| seconds.checked_mul(SECOND));
                    micros.map(|micros| micros.ok_or_else(overflow)).transpose()
                })
            },
        )
        .optional(1)
        .udf(),
        function(
            "to_unix_timestamp",
            &[Param::Any, Param::Text],
            DataType::Int64,
            unix_timestamp,
        )
        .optional(1)
        .coerced(|_, types| {
            let mut wanted = vec![read_type(&types[0], None)?];
            wanted.resize(types.len(), DataType::Utf8);
            Ok(wanted)
        })
        .also(&["unix_timestamp"])
        .udf(),
    ];
    let of_timestamp: [(_, &[&str], _); 2] = [
        ("to_timestamp", &["to_timestamp_ltz"], true),
        ("try_to_timestamp", &[], false),
    ];
    for (name, aliases, strict) in of_timestamp {
        let compute = move |call: &Call| {
            let zone = zone(call)?;
            read::<TimestampMicrosecondType>(call, strict, |pattern, text| {
                pattern.timestamp(text, zone)
            })
        };
        all.push(
            function(name, &[Param::Any, Param::Text], timestamp_type(), compute)
                .also(aliases)
                .coerced(|_, types| {
                    let from = read_type(&types[0], Some(timestamp_type()))?;
                    Ok(vec![from, DataType::Utf8])
                })
                .udf(),
        );
    }
    all.push(
        function(
            "to_timestamp_ntz",
            &[Param::Any, Param::Text],
            WALL,
            |call| {
                read::<TimestampMicrosecondType>(call, true, |pattern, text| {
                    pattern.timestamp_ntz(text)
                })
            },
        )
        .coerced(|_, types| Ok(vec![read_type(&types[0], Some(WALL))?, DataType::Utf8]))
        .udf(),
    );
    for (name, strict) in [("to_date", true), ("try_to_date", false)] {
        let compute = move |call: &Call| {
            let zone = zone(call)?;
            read::<Date32Type>(call, strict, |pattern, text| {
                let wall = zone.to_local(pattern.timestamp(text, zone)?)?;
                i32::try_from(day_of(wall)).ok()
            })
        };
        all.push(
            function(name, &[Param::Any, Param::Text], DataType::Date32, compute)
                .coerced(|_, types| {
                    let from = read_type(&types[0], Some(DataType::Date32))?;
                    Ok(vec![from, DataType::Utf8])
                })
                .udf(),
        );
    }
    all
}

/// The timestamps of the first argument by the pattern of the second.
pub(in crate::plan::functions) fn date_format(call: &Call) -> Result<ArrayRef> {
    let times = call.primitive::<TimestampMicrosecondType>(0);
    written(call, |row| Ok(times.get(row)))
}

/// The type that a value to be read is taken as: text stays text, moments become `wanted`, or stay
/// what they are where that is `None`.
fn read_type(given: &DataType, wanted: Option<DataType>) -> Result<DataType> {
    match (given, wanted) {
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null, _) => {
            Ok(DataType::Utf8)
        }
        (DataType::Date32 | DataType::Timestamp(..), Some(wanted)) => Ok(wanted),
        (DataType::Date32, None) => Ok(DataType::Date32),
        (DataType::Timestamp(_, None), None) => Ok(WALL),
        (DataType::Timestamp(..), None) => Ok(timestamp_type()),
        (other, _) => unexpected(
            "a function of dates and times",
            0,
            "STRING, DATE or TIMESTAMP",
            other,
        ),
    }
}

/// Patterns by their text, of which rows mostly have the same.
struct Patterns {
    parse: fn(&str) -> Result<Pattern, PatternError>,
    last: Option<(String, Pattern)>,
}

impl Patterns {
    fn new(parse: fn(&str) -> Result<Pattern, PatternError>) -> Self {
        Self { parse, last: None }
    }

    fn get(&mut self, text: &str) -> Result<&Pattern> {
        let known = matches!(&self.last, Some((known, _)) if known == text);
        if !known {
            let pattern = (self.parse)(text).map_err(|error| exec_datafusion_err!("{error}"))?;
            self.last = Some((text.to_owned(), pattern));
        }
        let (_, pattern) = self.last.as_ref().expect("it was put there just now");
        Ok(pattern)
    }
}

/// The pattern of each row: that of argument 1, or the usual one where there is none.
fn pattern_texts<'a>(call: &'a Call) -> impl Fn(usize) -> Option<&'a str> {
    let given = (call.len() > 1).then(|| call.text(1));
    move |row| match &given {
        None => Some(USUAL),
        Some(texts) => texts.get(row),
    }
}

/// Writes the instant of each row, in microseconds.
fn written(call: &Call, instant: impl Fn(usize) -> Result<Option<i64>>) -> Result<ArrayRef> {
    let zone = zone(call)?;
    let texts = pattern_texts(call);
    let mut patterns = Patterns::new(Pattern::for_writing);
    call.texts(|row, out| {
        let (Some(instant), Some(text)) = (instant(row)?, texts(row)) else {
            return Ok(None);
        };
        let pattern = patterns.get(text)?;
        pattern
            .write(instant, zone, out)
            .ok_or_else(overflow)
            .map(Some)
    })
}

fn unparsed(text: &str, pattern: &str) -> DataFusionError {
    exec_datafusion_err!(
        "[CANNOT_PARSE_TIMESTAMP] '{text}' does not follow the pattern '{pattern}', or is no date; use try_to_timestamp or try_to_date where NULL will do"
    )
}

/// Reads the text of each row. What is no text has the result's type already. Text that cannot be
/// read is an error where `strict` says so, else null.
fn read<T: ArrowPrimitiveType>(
    call: &Call,
    strict: bool,
    read: impl Fn(&Pattern, &str) -> Option<T::Native>,
) -> Result<ArrayRef> {
    if call.data_type(0) != &DataType::Utf8 {
        return call.array(0);
    }
    let (texts, pattern_texts) = (call.text(0), pattern_texts(call));
    let mut patterns = Patterns::new(Pattern::for_reading);
    call.values::<T>(|row| {
        let (Some(text), Some(pattern)) = (texts.get(row), pattern_texts(row)) else {
            return Ok(None);
        };
        match read(patterns.get(pattern)?, text) {
            None if strict => Err(unparsed(text, pattern)),
            found => Ok(found),
        }
    })
}

/// Seconds since 1970, cut towards it.
fn unix_timestamp(call: &Call) -> Result<ArrayRef> {
    let zone = zone(call)?;
    match call.data_type(0) {
        DataType::Utf8 => read::<Int64Type>(call, true, |pattern, text| {
            Some(pattern.timestamp(text, zone)? / SECOND)
        }),
        DataType::Date32 => {
            let dates = call.primitive::<Date32Type>(0);
            call.values::<Int64Type>(|row| seconds_of_date(dates.get(row), zone))
        }
        _ => {
            let times = call.primitive::<TimestampMicrosecondType>(0);
            call.values::<Int64Type>(|row| Ok(times.get(row).map(|time| time / SECOND)))
        }
    }
}

fn seconds_of_date(day: Option<i32>, zone: Zone) -> Result<Option<i64>> {
    let Some(day) = day else {
        return Ok(None);
    };
    let instant = i64::from(day)
        .checked_mul(DAY)
        .and_then(|wall| zone.to_utc(wall));
    instant
        .map(|instant| Some(instant / SECOND))
        .ok_or_else(overflow)
}
