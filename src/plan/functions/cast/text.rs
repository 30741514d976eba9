//! From text, and to it.

use std::sync::Arc;

use arrow::array::types::{
    Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalYearMonthType,
    TimestampMicrosecondType,
};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanBuilder, PrimitiveArray,
    PrimitiveBuilder, StringArray, StringBuilder,
};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use tidemark_connectors::format::casts::{Casts, parse_decimal, parse_integer};
use tidemark_connectors::sinks::show::cast_text;

use super::{Casting, malformed, nulls_like, out_of_range};
use crate::plan::functions::intervals;
use crate::plan::sql::type_name;

/// Each value as text.
pub(super) fn write(array: &ArrayRef, casting: &Casting) -> Result<ArrayRef> {
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 8);
    cast_text(array, casting.zone, |text| texts.append_option(text))
        .map_err(|error| exec_datafusion_err!("{error}"))?;
    Ok(Arc::new(texts.finish()))
}

/// Each text as the value that it says.
pub(super) fn read(texts: &StringArray, to: &DataType, casting: &Casting) -> Result<ArrayRef> {
    use DataType as D;
    let zone = Casts {
        zone: casting.zone,
        ..Casts::default()
    };
    Ok(match to {
        D::Boolean => {
            let mut values = BooleanBuilder::with_capacity(texts.len());
            for text in texts {
                let value = text.and_then(|text| truth(trimmed(text)));
                if let (Some(text), None, true) = (text, value, casting.strict) {
                    return Err(malformed(text, &D::Utf8, to));
                }
                values.append_option(value);
            }
            Arc::new(values.finish())
        }
        D::Int8 => whole::<Int8Type>(texts, casting)?,
        D::Int16 => whole::<Int16Type>(texts, casting)?,
        D::Int32 => whole::<Int32Type>(texts, casting)?,
        D::Int64 => whole::<Int64Type>(texts, casting)?,
        D::Float32 => values::<Float32Type>(texts, to, casting, float)?,
        D::Float64 => values::<Float64Type>(texts, to, casting, float)?,
        D::Decimal128(precision, scale) => {
            let read = |text: &str| parse_decimal(trimmed(text).as_bytes(), *precision, *scale);
            let fail = |text: &str| match float::<f64>(text) {
                // A number, then, with too many digits.
                Some(value) if value.is_finite() && value.abs() < 1e38 => out_of_range(text, to),
                Some(_) if !trimmed(text).contains(['n', 'N']) => exec_datafusion_err!(
                    "[NUMERIC_OUT_OF_SUPPORTED_RANGE] {text} has more than 38 digits; use try_cast where NULL will do, or cast to DOUBLE"
                ),
                _ => malformed(text, &D::Utf8, to),
            };
            let decimals = values_or::<Decimal128Type>(texts, casting, read, fail)?;
            Arc::new(decimals.with_data_type(to.clone()))
        }
        D::Date32 => values::<Date32Type>(texts, to, casting, |text| match trimmed(text) {
            "epoch" => Some(0),
            text => zone.date(text.as_bytes()),
        })?,
        D::Timestamp(TimeUnit::Microsecond, name) => {
            let read = |text: &str| match (trimmed(text), name) {
                ("epoch", _) => Some(0),
                (text, Some(_)) => zone.timestamp(text.as_bytes()),
                (text, None) => Casts::wall_clock(text.as_bytes()),
            };
            let fail = |text: &str| malformed(text, &D::Utf8, to);
            let moments = values_or::<TimestampMicrosecondType>(texts, casting, read, fail)?;
            Arc::new(moments.with_data_type(to.clone()))
        }
        D::Timestamp(_, name) => {
            let micros = read(
                texts,
                &D::Timestamp(TimeUnit::Microsecond, name.clone()),
                casting,
            )?;
            arrow_cast(&micros, to)?
        }
        D::Binary => arrow_cast(texts, to)?,
        D::LargeBinary | D::BinaryView => arrow_cast(&read(texts, &D::Binary, casting)?, to)?,
        D::Duration(TimeUnit::Microsecond) => {
            values::<DurationMicrosecondType>(texts, to, casting, intervals::day_time)?
        }
        D::Interval(IntervalUnit::YearMonth) => {
            values::<IntervalYearMonthType>(texts, to, casting, intervals::year_month)?
        }
        D::Interval(IntervalUnit::MonthDayNano) => {
            values::<IntervalMonthDayNanoType>(texts, to, casting, intervals::calendar)?
        }
        D::Null => nulls_like(texts, to),
        other => {
            return Err(exec_datafusion_err!(
                "no text is read as {}",
                type_name(other)
            ));
        }
    })
}

fn values<T: ArrowPrimitiveType>(
    texts: &StringArray,
    to: &DataType,
    casting: &Casting,
    read: impl Fn(&str) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let fail = |text: &str| malformed(text, &DataType::Utf8, to);
    Ok(Arc::new(values_or::<T>(texts, casting, read, fail)?))
}

fn values_or<T: ArrowPrimitiveType>(
    texts: &StringArray,
    casting: &Casting,
    read: impl Fn(&str) -> Option<T::Native>,
    fail: impl Fn(&str) -> DataFusionError,
) -> Result<PrimitiveArray<T>> {
    let mut values = PrimitiveBuilder::<T>::with_capacity(texts.len());
    for text in texts {
        match text.map(|text| (text, read(text))) {
            Some((_, Some(value))) => values.append_value(value),
            Some((text, None)) if casting.strict => return Err(fail(text)),
            _ => values.append_null(),
        }
    }
    Ok(values.finish())
}

fn whole<T>(texts: &StringArray, casting: &Casting) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: TryFrom<i64>>,
{
    values::<T>(texts, &T::DATA_TYPE, casting, |text| {
        let value = parse_integer(trimmed(text).as_bytes())?;
        T::Native::try_from(value).ok()
    })
}

/// Spark takes spaces and control characters off both ends.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

fn truth(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["t", "true", "y", "yes", "1"]) {
        Some(true)
    } else if is(&["f", "false", "n", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// As Java reads it: a type may stand behind the digits; also `inf`, `Infinity` and `NaN`.
fn float<T: std::str::FromStr>(text: &str) -> Option<T> {
    let text = trimmed(text);
    let digits = match text.strip_suffix(['d', 'D', 'f', 'F']) {
        Some(digits) if digits.ends_with(|c: char| c.is_ascii_digit() || c == '.') => digits,
        _ => text,
    };
    digits.parse().ok()
}
