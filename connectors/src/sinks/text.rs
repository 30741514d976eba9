//! The text forms of values, as Spark writes them: what `show`, JSON and CSV have in common.
//!
//! A column is looked at once: [`scalar`] turns it into a closure that appends the text of one row,
//! so that no type is matched per value. The forms differ in two places only, which [`Style`]
//! names: how a moment is written and how bytes are.
//!
//! Doubles are written as Java's `Double.toString` does (`1.0`, `1.0E10`, `NaN`, `Infinity`),
//! with the shortest digits that read back as the same number. Decimals are always plain.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::types::{
    Date32Type, Date64Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use chrono::{DateTime, Offset, TimeZone};

use crate::{ConnectorError, Options, Result};

/// The session time zone: how a TIMESTAMP is read off the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Zone(Option<Tz>);

impl Zone {
    /// UTC.
    pub const UTC: Self = Self(None);

    /// The zone of this name: `UTC`, `Europe/Berlin`, `+02:00`; `None` where there is none such.
    pub fn named(name: &str) -> Option<Self> {
        match name.trim() {
            "" => None,
            name if ["utc", "z", "gmt", "etc/utc"].contains(&name.to_ascii_lowercase().as_str()) => {
                Some(Self::UTC)
            }
            name => name.parse().ok().map(|zone| Self(Some(zone))),
        }
    }

    /// The zone that the option `timeZone` names; UTC where it is not given.
    pub fn from_options(options: &Options) -> Result<Self> {
        match options.get("timeZone") {
            None => Ok(Self::UTC),
            Some(name) => Self::named(name).ok_or_else(|| {
                options.bad("timeZone", "a zone such as 'UTC', 'Europe/Berlin' or '+02:00'".into())
            }),
        }
    }

    /// Seconds that the zone's clock is ahead of UTC at this moment.
    fn offset(self, seconds: i64) -> i64 {
        let Some(zone) = self.0 else { return 0 };
        DateTime::from_timestamp(seconds, 0).map_or(0, |moment| {
            i64::from(
                zone.offset_from_utc_datetime(&moment.naive_utc())
                    .fix()
                    .local_minus_utc(),
            )
        })
    }
}

/// How a TIMESTAMP is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moments {
    /// `2026-01-01 12:00:00.5`: the fraction without its trailing zeros.
    Sql,
    /// `2026-01-01T12:00:00.500Z`: milliseconds; microseconds where there are any.
    Iso,
}

/// How BINARY is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// `[41 42]`
    Hex,
    /// `QUI=`
    Base64,
}

/// The choices that are left to the place where a value is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) zone: Zone,
    pub(crate) moments: Moments,
    pub(crate) bytes: Bytes,
}

/// Whether JSON needs quotes around a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text from the user: quotes and escapes.
    Text,
    /// Text of ours, free of anything to escape: quotes.
    Plain,
    /// A number or boolean.
    Bare,
    /// A number that may be NaN or infinite: quotes for those.
    Float,
}

/// Which rows of a column are null.
pub(crate) struct Nulls {
    all: bool,
    some: Option<NullBuffer>,
}

impl Nulls {
    pub(crate) fn of(array: &ArrayRef) -> Self {
        Self { all: matches!(array.data_type(), DataType::Null), some: array.nulls().cloned() }
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.all || self.some.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}

/// Appends the text of one row. Asked only of rows that are not null.
pub(crate) type CellWriter = Box<dyn Fn(usize, &mut String) + Send>;

/// The writer for a column of scalars; `None` where the column is nested.
pub(crate) fn scalar(array: &ArrayRef, style: Style) -> Option<(Kind, CellWriter)> {
    use DataType as D;
    Some(match array.data_type() {
        D::Null => (Kind::Bare, Box::new(|_, _| {})),
        D::Boolean => {
            let values = array.as_boolean().clone();
            let write = move |row, out: &mut String| {
                out.push_str(if values.value(row) { "true" } else { "false" });
            };
            (Kind::Bare, Box::new(write))
        }
        D::Int8 => (Kind::Bare, integers::<Int8Type>(array)),
        D::Int16 => (Kind::Bare, integers::<Int16Type>(array)),
        D::Int32 => (Kind::Bare, integers::<Int32Type>(array)),
        D::Int64 => (Kind::Bare, integers::<Int64Type>(array)),
        D::UInt8 => (Kind::Bare, integers::<UInt8Type>(array)),
        D::UInt16 => (Kind::Bare, integers::<UInt16Type>(array)),
        D::UInt32 => (Kind::Bare, integers::<UInt32Type>(array)),
        D::UInt64 => (Kind::Bare, integers::<UInt64Type>(array)),
        D::Float16 => {
            (Kind::Float, each::<Float16Type>(array, |v, out| float(out, f32::from(v))))
        }
        D::Float32 => (Kind::Float, each::<Float32Type>(array, |v, out| float(out, v))),
        D::Float64 => (Kind::Float, each::<Float64Type>(array, |v, out| double(out, v))),
        D::Utf8 | D::LargeUtf8 | D::Utf8View => (Kind::Text, strings(array)?),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => {
            (Kind::Plain, binaries(array, style.bytes)?)
        }
        D::Date32 => (Kind::Plain, each::<Date32Type>(array, |v, out| date(out, i64::from(v)))),
        D::Date64 => {
            (Kind::Plain, each::<Date64Type>(array, |v, out| date(out, v.div_euclid(86_400_000))))
        }
        D::Timestamp(unit, zone) => {
            let zone = zone.as_ref().map(|_| style.zone);
            let form = style.moments;
            let write: CellWriter = match unit {
                TimeUnit::Second => {
                    each::<TimestampSecondType>(array, move |v, out| moment(out, v, 0, zone, form))
                }
                TimeUnit::Millisecond => moments::<TimestampMillisecondType>(array, 1_000, zone, form),
                TimeUnit::Microsecond => {
                    moments::<TimestampMicrosecondType>(array, 1_000_000, zone, form)
                }
                TimeUnit::Nanosecond => {
                    moments::<TimestampNanosecondType>(array, 1_000_000_000, zone, form)
                }
            };
            (Kind::Plain, write)
        }
        D::Time32(TimeUnit::Second) => {
            (Kind::Plain, each::<Time32SecondType>(array, |v, out| time(out, i64::from(v), 0)))
        }
        D::Time32(_) => (
            Kind::Plain,
            each::<Time32MillisecondType>(array, |v, out| {
                time(out, i64::from(v / 1000), i64::from(v % 1000) * 1_000_000);
            }),
        ),
        D::Time64(TimeUnit::Microsecond) => (
            Kind::Plain,
            each::<Time64MicrosecondType>(array, |v, out| {
                time(out, v / 1_000_000, v % 1_000_000 * 1000);
            }),
        ),
        D::Time64(_) => (
            Kind::Plain,
            each::<Time64NanosecondType>(array, |v, out| {
                time(out, v / 1_000_000_000, v % 1_000_000_000);
            }),
        ),
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => {
            (Kind::Bare, decimals(array)?)
        }
        D::Duration(unit) => {
            let write: CellWriter = match unit {
                TimeUnit::Second => {
                    each::<DurationSecondType>(array, |v, out| day_time(out, i128::from(v) * 1_000_000_000))
                }
                TimeUnit::Millisecond => {
                    each::<DurationMillisecondType>(array, |v, out| day_time(out, i128::from(v) * 1_000_000))
                }
                TimeUnit::Microsecond => {
                    each::<DurationMicrosecondType>(array, |v, out| day_time(out, i128::from(v) * 1_000))
                }
                TimeUnit::Nanosecond => {
                    each::<DurationNanosecondType>(array, |v, out| day_time(out, i128::from(v)))
                }
            };
            (Kind::Plain, write)
        }
        D::Interval(IntervalUnit::YearMonth) => (
            Kind::Plain,
            each::<IntervalYearMonthType>(array, |v, out| {
                let sign = if v < 0 { "-" } else { "" };
                let months = v.unsigned_abs();
                let _ = write!(out, "INTERVAL '{sign}{}-{}' YEAR TO MONTH", months / 12, months % 12);
            }),
        ),
        D::Interval(IntervalUnit::DayTime) => (
            Kind::Plain,
            each::<IntervalDayTimeType>(array, |v, out| {
                calendar(out, 0, v.days, i64::from(v.milliseconds) * 1_000_000);
            }),
        ),
        D::Interval(IntervalUnit::MonthDayNano) => (
            Kind::Plain,
            each::<IntervalMonthDayNanoType>(array, |v, out| {
                calendar(out, v.months, v.days, v.nanoseconds);
            }),
        ),
        _ => return None,
    })
}

/// Dictionaries and runs as the values that they stand for; everything else as it is.
pub(crate) fn plain_values(name: &str, array: &ArrayRef) -> Result<ArrayRef> {
    let target = match array.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::RunEndEncoded(_, values) => values.data_type().clone(),
        _ => return Ok(Arc::clone(array)),
    };
    arrow::compute::cast(array, &target).map_err(|source| ConnectorError::Arrow {
        context: format!("cannot unpack column '{name}'"),
        source,
    })
}

/// Where the elements of each row of a list column lie.
type Elements = Box<dyn Fn(usize) -> Range<usize> + Send>;

/// The elements of a list column and where those of each row lie; `None` for other types.
pub(crate) fn elements(array: &ArrayRef) -> Option<(ArrayRef, Elements)> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>().clone();
            let values = Arc::clone(list.values());
            let range = move |row| {
                let offsets = list.value_offsets();
                offsets[row] as usize..offsets[row + 1] as usize
            };
            Some((values, Box::new(range)))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>().clone();
            let values = Arc::clone(list.values());
            let range = move |row| {
                let offsets = list.value_offsets();
                offsets[row] as usize..offsets[row + 1] as usize
            };
            Some((values, Box::new(range)))
        }
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).ok()?;
            let values = Arc::clone(array.as_fixed_size_list().values());
            Some((values, Box::new(move |row| row * size..(row + 1) * size)))
        }
        _ => None,
    }
}

/// The error for a type that has no text form.
pub(crate) fn no_text_form(name: &str, data_type: &DataType) -> ConnectorError {
    ConnectorError::Schema(format!(
        "column '{name}' of type {data_type} cannot be written as text; cast it in the query, or write parquet"
    ))
}

fn each<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    write: impl Fn(T::Native, &mut String) + Send + 'static,
) -> CellWriter {
    let values = array.as_primitive::<T>().clone();
    Box::new(move |row, out| write(values.value(row), out))
}

fn integers<T: ArrowPrimitiveType<Native: std::fmt::Display>>(array: &ArrayRef) -> CellWriter {
    each::<T>(array, |value, out| {
        let _ = write!(out, "{value}");
    })
}

fn moments<T: ArrowPrimitiveType<Native = i64>>(
    array: &ArrayRef,
    per_second: i64,
    zone: Option<Zone>,
    form: Moments,
) -> CellWriter {
    let nanos = 1_000_000_000 / per_second;
    each::<T>(array, move |value, out| {
        moment(out, value.div_euclid(per_second), value.rem_euclid(per_second) * nanos, zone, form);
    })
}

fn strings(array: &ArrayRef) -> Option<CellWriter> {
    if let Some(values) = array.as_string_opt::<i32>().cloned() {
        return Some(Box::new(move |row, out| out.push_str(values.value(row))));
    }
    if let Some(values) = array.as_string_opt::<i64>().cloned() {
        return Some(Box::new(move |row, out| out.push_str(values.value(row))));
    }
    let values = array.as_string_view_opt()?.clone();
    Some(Box::new(move |row, out| out.push_str(values.value(row))))
}

fn binaries(array: &ArrayRef, form: Bytes) -> Option<CellWriter> {
    let write = match form {
        Bytes::Hex => hex,
        Bytes::Base64 => base64,
    };
    if let Some(values) = array.as_binary_opt::<i32>().cloned() {
        return Some(Box::new(move |row, out| write(out, values.value(row))));
    }
    if let Some(values) = array.as_binary_opt::<i64>().cloned() {
        return Some(Box::new(move |row, out| write(out, values.value(row))));
    }
    if let Some(values) = array.as_binary_view_opt().cloned() {
        return Some(Box::new(move |row, out| write(out, values.value(row))));
    }
    let values = array.as_fixed_size_binary_opt()?.clone();
    Some(Box::new(move |row, out| write(out, values.value(row))))
}

fn decimals(array: &ArrayRef) -> Option<CellWriter> {
    use arrow::array::types::{Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};
    macro_rules! plain {
        ($type:ty) => {
            if let Some(values) = array.as_primitive_opt::<$type>().cloned() {
                return Some(Box::new(move |row, out| out.push_str(&values.value_as_string(row))));
            }
        };
    }
    plain!(Decimal32Type);
    plain!(Decimal64Type);
    plain!(Decimal128Type);
    plain!(Decimal256Type);
    None
}

fn hex(out: &mut String, bytes: &[u8]) {
    out.push('[');
    for (index, byte) in bytes.iter().enumerate() {
        let space = if index > 0 { " " } else { "" };
        let _ = write!(out, "{space}{byte:02X}");
    }
    out.push(']');
}

fn base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for digit in 0..4 {
            if digit <= group.len() {
                out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
}

/// A DOUBLE as Java writes it.
pub(crate) fn double(out: &mut String, value: f64) {
    let size = value.abs();
    java_number(out, value.is_nan(), size.is_infinite(), value < 0.0, size == 0.0 || (1e-3..1e7).contains(&size), &value);
}

fn float(out: &mut String, value: f32) {
    let size = value.abs();
    java_number(out, value.is_nan(), size.is_infinite(), value < 0.0, size == 0.0 || (1e-3..1e7).contains(&size), &value);
}

fn java_number<F: std::fmt::Display + std::fmt::LowerExp>(
    out: &mut String,
    nan: bool,
    infinite: bool,
    negative: bool,
    plain: bool,
    value: &F,
) {
    if nan {
        out.push_str("NaN");
    } else if infinite {
        out.push_str(if negative { "-Infinity" } else { "Infinity" });
    } else if plain {
        let start = out.len();
        let _ = write!(out, "{value}");
        if !out[start..].contains('.') {
            out.push_str(".0");
        }
    } else {
        let start = out.len();
        let _ = write!(out, "{value:e}");
        if let Some(at) = out[start..].find('e').map(|at| start + at) {
            let mark = if out[start..at].contains('.') { "E" } else { ".0E" };
            out.replace_range(at..=at, mark);
        }
    }
}

/// Days since 1970-01-01 as `yyyy-MM-dd`.
fn date(out: &mut String, days: i64) {
    // Civil from days, http://howardhinnant.github.io/date_algorithms.html
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year > 9999 {
        out.push('+');
    } else if year < 0 {
        out.push('-');
    }
    let _ = write!(out, "{:04}-{month:02}-{day:02}", year.abs());
}

fn clock(out: &mut String, second_of_day: i64) {
    let (hours, minutes, seconds) =
        (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let _ = write!(out, "{hours:02}:{minutes:02}:{seconds:02}");
}

/// `.5` for half a second, nothing for none.
fn trimmed_fraction(out: &mut String, nanos: i64) {
    if nanos > 0 {
        let _ = write!(out, ".{nanos:09}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

fn time(out: &mut String, second_of_day: i64, nanos: i64) {
    clock(out, second_of_day);
    trimmed_fraction(out, nanos);
}

/// A moment; `zone` is `None` for a TIMESTAMP_NTZ.
fn moment(out: &mut String, seconds: i64, nanos: i64, zone: Option<Zone>, form: Moments) {
    let offset = zone.map_or(0, |zone| zone.offset(seconds));
    let local = seconds.saturating_add(offset);
    date(out, local.div_euclid(86_400));
    out.push(if form == Moments::Iso { 'T' } else { ' ' });
    clock(out, local.rem_euclid(86_400));
    match form {
        Moments::Sql => trimmed_fraction(out, nanos),
        Moments::Iso => {
            let _ = if nanos % 1_000_000 == 0 {
                write!(out, ".{:03}", nanos / 1_000_000)
            } else if nanos % 1_000 == 0 {
                write!(out, ".{:06}", nanos / 1_000)
            } else {
                write!(out, ".{nanos:09}")
            };
            if zone.is_some() && offset == 0 {
                out.push('Z');
            } else if zone.is_some() {
                let minutes = offset.abs() / 60;
                let sign = if offset < 0 { '-' } else { '+' };
                let _ = write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            }
        }
    }
}

fn day_time(out: &mut String, nanos: i128) {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let seconds = (nanos / 1_000_000_000) as i64;
    let _ = write!(out, "INTERVAL '{sign}{} ", seconds / 86_400);
    clock(out, seconds % 86_400);
    trimmed_fraction(out, (nanos % 1_000_000_000) as i64);
    out.push_str("' DAY TO SECOND");
}

/// Spark's `CalendarInterval`: `1 years 2 months 3 days 4 hours 5 minutes 6.7 seconds`.
fn calendar(out: &mut String, months: i32, days: i32, nanos: i64) {
    let start = out.len();
    let seconds = nanos / 1_000_000_000;
    let parts = [
        (i64::from(months / 12), "years"),
        (i64::from(months % 12), "months"),
        (i64::from(days), "days"),
        (seconds / 3600, "hours"),
        (seconds / 60 % 60, "minutes"),
    ];
    for (count, unit) in parts {
        if count != 0 {
            let _ = write!(out, "{count} {unit} ");
        }
    }
    let rest = nanos % 60_000_000_000;
    if rest != 0 || out.len() == start {
        let sign = if rest < 0 { "-" } else { "" };
        let _ = write!(out, "{sign}{}", rest.abs() / 1_000_000_000);
        trimmed_fraction(out, rest.abs() % 1_000_000_000);
        out.push_str(" seconds");
    } else {
        out.truncate(out.trim_end().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(value: f64) -> String {
        let mut out = String::new();
        double(&mut out, value);
        out
    }

    #[test]
    fn doubles_read_as_java_writes_them() {
        let expected = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1_234_567.0, "1234567.0"),
            (12_345_678.0, "1.2345678E7"),
            (1e10, "1.0E10"),
            (0.001, "0.001"),
            (0.000_12, "1.2E-4"),
            (-1e7, "-1.0E7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::MAX, "1.7976931348623157E308"),
        ];
        for (value, text) in expected {
            assert_eq!(doubled(value), text);
        }
        let mut out = String::new();
        float(&mut out, 0.1);
        assert_eq!(out, "0.1");
    }

    fn at(micros: i64, zone: Option<Zone>, form: Moments) -> String {
        let mut out = String::new();
        let nanos = micros.rem_euclid(1_000_000) * 1000;
        moment(&mut out, micros.div_euclid(1_000_000), nanos, zone, form);
        out
    }

    #[test]
    fn moments_follow_the_zone() {
        let noon = 1_767_268_800_000_000;
        let berlin = Zone::named("Europe/Berlin");
        assert!(berlin.is_some());
        assert_eq!(at(noon, Some(Zone::UTC), Moments::Sql), "2026-01-01 12:00:00");
        assert_eq!(at(noon + 120_000, Some(Zone::UTC), Moments::Sql), "2026-01-01 12:00:00.12");
        assert_eq!(at(noon, berlin, Moments::Sql), "2026-01-01 13:00:00");
        assert_eq!(at(noon, Some(Zone::UTC), Moments::Iso), "2026-01-01T12:00:00.000Z");
        assert_eq!(at(noon + 1, Some(Zone::UTC), Moments::Iso), "2026-01-01T12:00:00.000001Z");
        assert_eq!(at(noon, berlin, Moments::Iso), "2026-01-01T13:00:00.000+01:00");
        assert_eq!(at(noon, None, Moments::Iso), "2026-01-01T12:00:00.000");
        assert_eq!(at(-1, None, Moments::Sql), "1969-12-31 23:59:59.999999");
        assert!(Zone::named("+02:00").is_some() && Zone::named("Nowhere/Land").is_none());
    }

    #[test]
    fn dates_intervals_and_bytes() {
        let text = |write: &dyn Fn(&mut String)| {
            let mut out = String::new();
            write(&mut out);
            out
        };
        assert_eq!(text(&|out| date(out, 0)), "1970-01-01");
        assert_eq!(text(&|out| date(out, 11_016)), "2000-02-29");
        assert_eq!(text(&|out| date(out, -719_529)), "-0001-12-31");
        assert_eq!(text(&|out| date(out, 2_932_897)), "+10000-01-01");
        assert_eq!(
            text(&|out| day_time(out, 93_784_500_000_000)),
            "INTERVAL '1 02:03:04.5' DAY TO SECOND"
        );
        assert_eq!(text(&|out| calendar(out, 14, 3, 0)), "1 years 2 months 3 days");
        assert_eq!(text(&|out| calendar(out, 0, 0, -1_500_000_000)), "-1.5 seconds");
        assert_eq!(text(&|out| calendar(out, 0, 0, 0)), "0 seconds");
        assert_eq!(text(&|out| base64(out, b"AB")), "QUI=");
        assert_eq!(text(&|out| base64(out, b"ABC")), "QUJD");
        assert_eq!(text(&|out| hex(out, b"AB")), "[41 42]");
    }
}
