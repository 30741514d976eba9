//! `format_number`: numbers by the patterns of Java's `DecimalFormat`, rounded half to even.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use crate::plan::functions::define::{Call, Param, function, unexpected};

/// All of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    const PARAMS: &[Param] = &[Param::Number, Param::Any];
    let all = function("format_number", PARAMS, DataType::Utf8, format_number);
    let all = all.coerced(|name, types| {
        let number = match &types[0] {
            decimal @ DataType::Decimal128(..) => decimal.clone(),
            float if float.is_floating() || *float == DataType::Null => DataType::Float64,
            whole if whole.is_integer() => DataType::Int64,
            other => return unexpected(name, 0, "a number", other),
        };
        let format = match &types[1] {
            text if text.is_string() => DataType::Utf8,
            other => Param::Int.coerce(name, 1, other)?,
        };
        Ok(vec![number, format])
    });
    vec![all.udf()]
}

fn format_number(call: &Call) -> Result<ArrayRef> {
    let number = call.array(0)?;
    let digits = |row: usize, places: usize| -> Option<(bool, String)> {
        Some(match number.data_type() {
            DataType::Int64 => whole(
                i128::from(number.as_primitive::<Int64Type>().value(row)),
                0,
                places,
            ),
            DataType::Decimal128(_, scale) => whole(
                number.as_primitive::<Decimal128Type>().value(row),
                *scale,
                places,
            ),
            _ => {
                let value = number.as_primitive::<Float64Type>().value(row);
                (
                    value.is_sign_negative(),
                    format!("{:.places$}", value.abs()),
                )
            }
        })
    };
    let special = |row: usize| match number.data_type() {
        DataType::Float64 => match number.as_primitive::<Float64Type>().value(row) {
            value if value.is_nan() => Some("NaN"),
            value if value.is_infinite() => Some(if value > 0.0 { "∞" } else { "-∞" }),
            _ => None,
        },
        _ => None,
    };
    if *call.data_type(1) == DataType::Utf8 {
        let format = call.text(1);
        return call.texts(|row, out| {
            let Some(format) = format.get(row).filter(|_| number.is_valid(row)) else {
                return Ok(None);
            };
            let pattern = Pattern::of(format)?;
            match special(row) {
                Some(special) => out.push_str(special),
                None => pattern.write(|places| digits(row, places), out),
            }
            Ok(Some(()))
        });
    }
    let places = call.ints(1);
    call.texts(|row, out| {
        let Some(places) = places.get(row).filter(|n| *n >= 0 && number.is_valid(row)) else {
            return Ok(None);
        };
        let places = places as usize;
        let pattern = Pattern {
            grouping: 3,
            fraction: (places, places),
            ..Pattern::default()
        };
        match special(row) {
            Some(special) => out.push_str(special),
            None => pattern.write(|places| digits(row, places), out),
        }
        Ok(Some(()))
    })
}

/// `value / 10^scale` with `places` behind the point, half to even, and whether it is negative.
fn whole(value: i128, scale: i8, places: usize) -> (bool, String) {
    let mut digits = value.unsigned_abs();
    let scale = scale.max(0) as usize;
    if places < scale {
        let unit = 10u128.pow((scale - places) as u32);
        let (quotient, rest) = (digits / unit, digits % unit);
        let up = rest * 2 > unit || (rest * 2 == unit && quotient % 2 == 1);
        digits = quotient + u128::from(up);
    }
    let shown = places.min(scale);
    let mut text = format!("{digits:0>width$}", width = shown + 1);
    if places > 0 {
        text.insert(text.len() - shown, '.');
        text.extend(std::iter::repeat_n('0', places - shown));
    }
    (value < 0, text)
}

/// A pattern of `DecimalFormat` without exponents.
struct Pattern {
    prefix: String,
    suffix: String,
    /// Prefix and suffix of negative numbers; else `-` and the prefix.
    negative: Option<(String, String)>,
    /// Digits between two commas; 0 for none.
    grouping: usize,
    /// The least number of digits before the point.
    integer: usize,
    /// The least and the greatest number of digits behind it.
    fraction: (usize, usize),
    /// By how many places the point is moved to the right: 2 for per cent.
    shift: usize,
}

impl Default for Pattern {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            suffix: String::new(),
            negative: None,
            grouping: 0,
            integer: 1,
            fraction: (0, 0),
            shift: 0,
        }
    }
}

impl Pattern {
    fn of(text: &str) -> Result<Self> {
        let mut pattern = Self::default();
        if text.is_empty() {
            pattern.grouping = 3;
            return Ok(pattern);
        }
        let (positive, negative) = text.split_once(';').unwrap_or((text, ""));
        let (prefix, body, suffix) = parts(positive);
        if body.is_empty() || body.contains('E') || suffix.starts_with('E') {
            return exec_err!(
                "[INVALID_PARAMETER_VALUE.PATTERN] format_number does not know the pattern '{text}'; use #, 0, a comma and a point"
            );
        }
        let (left, right) = match body.split_once('.') {
            Some((left, right)) => (left, Some(right)),
            None => (body, None),
        };
        let zeros = |part: &str| part.bytes().filter(|b| *b == b'0').count();
        let grouped = left.rsplit_once(',');
        pattern.grouping = grouped.map_or(0, |(_, last)| last.len());
        pattern.integer = zeros(left);
        if let Some(right) = right {
            pattern.fraction = (zeros(right), right.len());
            // A digit must be shown next to the point.
            if zeros(body) == 0 {
                if left.is_empty() {
                    pattern.fraction.0 = right.len().min(1);
                } else {
                    pattern.integer = 1;
                }
            }
        }
        pattern.shift = match () {
            () if positive.contains('%') => 2,
            () if positive.contains('‰') => 3,
            () => 0,
        };
        if !negative.is_empty() {
            let (prefix, _, suffix) = parts(negative);
            pattern.negative = Some((prefix.replace('\'', ""), suffix.replace('\'', "")));
        }
        pattern.prefix = prefix.replace('\'', "");
        pattern.suffix = suffix.replace('\'', "");
        Ok(pattern)
    }

    /// Writes the number of which `digits` gives the sign and the decimal digits with so many
    /// places.
    fn write(&self, digits: impl Fn(usize) -> Option<(bool, String)>, out: &mut String) {
        let Some((negative, mut text)) = digits(self.fraction.1 + self.shift) else {
            return;
        };
        if self.shift > 0 {
            let point = text.find('.').unwrap_or(text.len());
            text.remove(point);
            text.insert(point + self.shift, '.');
        }
        let (integer, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let integer = integer.trim_start_matches('0');
        let missing = self.integer.saturating_sub(integer.len());
        let mut integer = format!("{}{integer}", "0".repeat(missing));
        let kept = fraction.trim_end_matches('0').len().max(self.fraction.0);
        let fraction = &fraction[..kept.min(fraction.len())];
        if integer.is_empty() && fraction.is_empty() {
            integer.push('0');
        }
        let (prefix, suffix) = match &self.negative {
            Some((prefix, suffix)) if negative => (prefix, suffix),
            _ => {
                if negative {
                    out.push('-');
                }
                (&self.prefix, &self.suffix)
            }
        };
        out.push_str(prefix);
        for (index, digit) in integer.bytes().enumerate() {
            let rest = integer.len() - index;
            if index > 0 && self.grouping > 0 && rest % self.grouping == 0 {
                out.push(',');
            }
            out.push(char::from(digit));
        }
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(fraction);
        }
        out.push_str(suffix);
    }
}

/// What stands before the digits of a pattern, the digits, and what stands behind them.
fn parts(pattern: &str) -> (&str, &str, &str) {
    let of_number = |c: char| matches!(c, '#' | '0' | ',' | '.');
    let start = pattern.find(of_number).unwrap_or(pattern.len());
    let length = pattern[start..].find(|c| !of_number(c));
    let end = length.map_or(pattern.len(), |length| start + length);
    (&pattern[..start], &pattern[start..end], &pattern[end..])
}
