//! The text forms of values, as Spark writes them: what `show`, JSON and CSV have in common.
//!
//! A column is looked at once: [`scalar`] turns it into a closure that appends the text of one row,
//! so that no type is matched per value. The forms differ in two places only, which [`Style`]
//! names: how a moment is written and how bytes are.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

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

pub(crate) use super::forms::Moments;
pub use super::forms::Zone;
use super::forms::{base64, calendar, date, day_time, double, float, hex, moment, time};
use crate::{ConnectorError, Result};

/// How BINARY is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// `[41 42]`
    Hex,
    /// `QUI=`
    Base64,
    /// `AB`: what they say as UTF-8.
    Text,
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
        Self {
            all: matches!(array.data_type(), DataType::Null),
            some: array.nulls().cloned(),
        }
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
        D::Float16 => (
            Kind::Float,
            each::<Float16Type>(array, |v, out| float(out, f32::from(v))),
        ),
        D::Float32 => (
            Kind::Float,
            each::<Float32Type>(array, |v, out| float(out, v)),
        ),
        D::Float64 => (
            Kind::Float,
            each::<Float64Type>(array, |v, out| double(out, v)),
        ),
        D::Utf8 | D::LargeUtf8 | D::Utf8View => (Kind::Text, strings(array)?),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => {
            (Kind::Plain, binaries(array, style.bytes)?)
        }
        D::Date32 => (
            Kind::Plain,
            each::<Date32Type>(array, |v, out| date(out, i64::from(v))),
        ),
        D::Date64 => (
            Kind::Plain,
            each::<Date64Type>(array, |v, out| date(out, v.div_euclid(86_400_000))),
        ),
        D::Timestamp(unit, zone) => {
            let zone = zone.as_ref().map(|_| style.zone);
            let form = style.moments;
            let write: CellWriter = match unit {
                TimeUnit::Second => {
                    each::<TimestampSecondType>(array, move |v, out| moment(out, v, 0, zone, form))
                }
                TimeUnit::Millisecond => {
                    moments::<TimestampMillisecondType>(array, 1_000, zone, form)
                }
                TimeUnit::Microsecond => {
                    moments::<TimestampMicrosecondType>(array, 1_000_000, zone, form)
                }
                TimeUnit::Nanosecond => {
                    moments::<TimestampNanosecondType>(array, 1_000_000_000, zone, form)
                }
            };
            (Kind::Plain, write)
        }
        D::Time32(TimeUnit::Second) => (
            Kind::Plain,
            each::<Time32SecondType>(array, |v, out| time(out, i64::from(v), 0)),
        ),
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
                TimeUnit::Second => each::<DurationSecondType>(array, |v, out| {
                    day_time(out, i128::from(v) * 1_000_000_000);
                }),
                TimeUnit::Millisecond => each::<DurationMillisecondType>(array, |v, out| {
                    day_time(out, i128::from(v) * 1_000_000);
                }),
                TimeUnit::Microsecond => each::<DurationMicrosecondType>(array, |v, out| {
                    day_time(out, i128::from(v) * 1_000);
                }),
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
                let _ = write!(
                    out,
                    "INTERVAL '{sign}{}-{}' YEAR TO MONTH",
                    months / 12,
                    months % 12
                );
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
        moment(
            out,
            value.div_euclid(per_second),
            value.rem_euclid(per_second) * nanos,
            zone,
            form,
        );
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
        Bytes::Text => |out: &mut String, bytes: &[u8]| out.push_str(&String::from_utf8_lossy(bytes)),
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
                return Some(Box::new(move |row, out| {
                    out.push_str(&values.value_as_string(row))
                }));
            }
        };
    }
    plain!(Decimal32Type);
    plain!(Decimal64Type);
    plain!(Decimal128Type);
    plain!(Decimal256Type);
    None
}
