//! `format_string`, also `printf`: the formats of Java's `Formatter`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, IntervalUnit};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use crate::plan::functions::aggregates::total::whole;
use crate::plan::functions::define::{Call, Param, function, unexpected};
use crate::plan::functions::digits::fixed;

/// All of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = function(
        "format_string",
        &[Param::Text, Param::Any],
        DataType::Utf8,
        format_string,
    );
    let all = all.also(&["printf"]).optional(1).repeated();
    let all = all.coerced(|name, types| {
        let mut all = vec![Param::Text.coerce(name, 0, &types[0])?];
        for given in &types[1..] {
            all.push(match given {
                // As Java finds them: numbers of days, months or microseconds.
                DataType::Date32
                | DataType::Timestamp(..)
                | DataType::Duration(_)
                | DataType::Interval(_) => given.clone(),
                float if float.is_floating() => DataType::Float64,
                DataType::Boolean | DataType::Int32 | DataType::Int64 => given.clone(),
                DataType::Int8 | DataType::Int16 => DataType::Int32,
                _ => DataType::Utf8,
            });
        }
        Ok(all)
    });
    vec![all.udf()]
}

/// An argument.
#[derive(Clone, Copy)]
enum Value<'a> {
    Null,
    Truth(bool),
    /// With its size in bits.
    Whole(i64, u32),
    Float(f64),
    Text(&'a str),
}

/// A part of a format.
enum Piece {
    Literal(String),
    Argument(Spec),
}

/// `%[index$][flags][width][.precision]conversion`.
#[expect(clippy::struct_excessive_bools, reason = "printf has as many flags")]
struct Spec {
    /// Which argument, from 0.
    index: usize,
    left: bool,
    plus: bool,
    space: bool,
    zeros: bool,
    groups: bool,
    parentheses: bool,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

fn format_string(call: &Call) -> Result<ArrayRef> {
    let arrays: Vec<ArrayRef> = (1..call.len())
        .map(|index| {
            let array = call.array(index)?;
            // All that is a whole number is read as BIGINT.
            match array.data_type() {
                DataType::Boolean | DataType::Float64 | DataType::Utf8 => Ok(array),
                mixed @ DataType::Interval(IntervalUnit::MonthDayNano) => {
                    unexpected("format_string", index, "a number or a STRING", mixed)
                }
                _ => Ok(Arc::new(whole(&array)?) as ArrayRef),
            }
        })
        .collect::<Result<_>>()?;
    let value = |index: usize, row: usize| -> Value<'_> {
        let array = &arrays[index];
        if array.is_null(row) {
            return Value::Null;
        }
        match array.data_type() {
            DataType::Boolean => Value::Truth(array.as_boolean().value(row)),
            DataType::Int64 => {
                let bits = match call.data_type(index + 1) {
                    DataType::Int32 | DataType::Date32 | DataType::Interval(_) => 32,
                    _ => 64,
                };
                Value::Whole(array.as_primitive::<Int64Type>().value(row), bits)
            }
            DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
            _ => Value::Text(array.as_string::<i32>().value(row)),
        }
    };
    let format = call.text(0);
    let mut parsed: Option<(&str, Vec<Piece>)> = None;
    call.texts(|row, out| {
        let Some(written) = format.get(row) else {
            return Ok(None);
        };
        if parsed.as_ref().is_none_or(|(of, _)| *of != written) {
            parsed = Some((written, pieces(written)?));
        }
        for piece in parsed.iter().flat_map(|(_, pieces)| pieces) {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Argument(spec) if spec.index >= arrays.len() => {
                    return exec_err!(
                        "format_string: '{written}' asks for argument {}, and there are {}",
                        spec.index + 1,
                        arrays.len()
                    );
                }
                Piece::Argument(spec) => spec.write(value(spec.index, row), out)?,
            }
        }
        Ok(Some(()))
    })
}

fn pieces(format: &str) -> Result<Vec<Piece>> {
    let mut pieces = vec![];
    let mut literal = String::new();
    let (mut next, mut last) = (0, 0);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let number = |rest: &mut &str| {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let number = rest[..end].parse::<usize>().ok();
            *rest = &rest[end..];
            number
        };
        let mut index = None;
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        if digits > 0 && rest[digits..].starts_with('$') {
            index = number(&mut rest).and_then(|n| n.checked_sub(1));
            rest = &rest[1..];
        } else if let Some(tail) = rest.strip_prefix('<') {
            index = Some(last);
            rest = tail;
        }
        let flags_end = rest.find(|c| !"-#+ 0,(".contains(c)).unwrap_or(rest.len());
        let (flags, tail) = rest.split_at(flags_end);
        rest = tail;
        let width = number(&mut rest).unwrap_or(0);
        let mut precision = None;
        if let Some(tail) = rest.strip_prefix('.') {
            rest = tail;
            precision = number(&mut rest);
        }
        let Some(conversion) = rest.chars().next() else {
            return exec_err!("format_string: '{format}' ends within a conversion; use %% for a %");
        };
        rest = &rest[conversion.len_utf8()..];
        match conversion {
            '%' => literal.push_str(&format!("{:>width$}", "%")),
            'n' => literal.push('\n'),
            'b' | 'B' | 's' | 'S' | 'd' | 'x' | 'X' | 'o' | 'c' | 'e' | 'E' | 'f' | 'g' | 'G' => {
                last = index.unwrap_or(next);
                next += usize::from(index.is_none());
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                pieces.push(Piece::Argument(Spec {
                    index: last,
                    left: flags.contains('-'),
                    plus: flags.contains('+'),
                    space: flags.contains(' '),
                    zeros: flags.contains('0'),
                    groups: flags.contains(','),
                    parentheses: flags.contains('('),
                    width,
                    precision,
                    conversion,
                }));
            }
            other => {
                return exec_err!(
                    "format_string: '%{other}' is no conversion; use one of b s d x o c e f g, or %% for a %"
                );
            }
        }
    }
    literal.push_str(rest);
    pieces.push(Piece::Literal(literal));
    Ok(pieces)
}

impl Spec {
    fn write(&self, value: Value<'_>, out: &mut String) -> Result<()> {
        let text = match (self.conversion.to_ascii_lowercase(), value) {
            ('b', Value::Null) => self.cut("false"),
            ('b', Value::Truth(truth)) => self.cut(if truth { "true" } else { "false" }),
            ('b', _) => self.cut("true"),
            (_, Value::Null) => self.cut("null"),
            ('s', Value::Truth(truth)) => self.cut(&truth.to_string()),
            ('s', Value::Whole(number, _)) => self.cut(&number.to_string()),
            ('s', Value::Float(number)) => self.cut(&java_double(number)),
            ('s', Value::Text(text)) => self.cut(text),
            ('d', Value::Whole(number, _)) => {
                self.number(number < 0, number.unsigned_abs().to_string())
            }
            ('x', Value::Whole(number, 32)) => self.padded(format!("{:x}", number as u32)),
            ('x', Value::Whole(number, _)) => self.padded(format!("{number:x}")),
            ('o', Value::Whole(number, 32)) => self.padded(format!("{:o}", number as u32)),
            ('o', Value::Whole(number, _)) => self.padded(format!("{number:o}")),
            ('c', Value::Whole(number, _)) => {
                match u32::try_from(number).ok().and_then(char::from_u32) {
                    Some(c) => c.to_string(),
                    None => return exec_err!("format_string: {number} is no character"),
                }
            }
            ('e' | 'f' | 'g', Value::Float(number)) => self.float(number),
            (conversion, value) => {
                let kind = match value {
                    Value::Truth(_) => "a BOOLEAN",
                    Value::Whole(..) => "a whole number",
                    Value::Float(_) => "a DOUBLE",
                    Value::Text(_) | Value::Null => "a STRING",
                };
                return exec_err!(
                    "format_string: %{conversion} does not take {kind}; use %s, or CAST the argument"
                );
            }
        };
        let text = if self.conversion.is_ascii_uppercase() {
            text.to_uppercase()
        } else {
            text
        };
        let blanks = " ".repeat(self.width.saturating_sub(text.chars().count()));
        if self.left {
            out.push_str(&text);
            out.push_str(&blanks);
        } else {
            out.push_str(&blanks);
            out.push_str(&text);
        }
        Ok(())
    }

    /// The first characters, as many as the precision says.
    fn cut(&self, text: &str) -> String {
        text.chars()
            .take(self.precision.unwrap_or(usize::MAX))
            .collect()
    }

    fn padded(&self, digits: String) -> String {
        if self.zeros {
            format!("{digits:0>width$}", width = self.width)
        } else {
            digits
        }
    }

    /// A number of these digits with its sign, commas and zeros.
    fn number(&self, negative: bool, mut digits: String) -> String {
        if self.groups {
            let end = digits.find('.').unwrap_or(digits.len());
            let commas = (1..end)
                .filter(|place| (end - place).is_multiple_of(3))
                .rev();
            for place in commas.collect::<Vec<_>>() {
                digits.insert(place, ',');
            }
        }
        let (before, after) = match negative {
            true if self.parentheses => ("(", ")"),
            true => ("-", ""),
            false if self.plus => ("+", ""),
            false if self.space => (" ", ""),
            false => ("", ""),
        };
        if self.zeros {
            let width = self.width.saturating_sub(before.len() + after.len());
            digits = format!("{digits:0>width$}");
        }
        format!("{before}{digits}{after}")
    }

    fn float(&self, number: f64) -> String {
        if !number.is_finite() {
            return match number {
                _ if number.is_nan() => "NaN".into(),
                _ if number < 0.0 => "-Infinity".into(),
                _ if self.plus => "+Infinity".into(),
                _ => "Infinity".into(),
            };
        }
        let places = self.precision.unwrap_or(6);
        let digits = match self.conversion.to_ascii_lowercase() {
            'f' => fixed(number, places),
            'e' => scientific(number, places),
            _ => {
                let precision = places.max(1);
                let text = scientific(number, precision - 1);
                let exponent = text.rsplit('e').next().and_then(|e| e.parse::<i32>().ok());
                match exponent {
                    Some(exponent)
                        if number == 0.0 || (-4..precision as i32).contains(&exponent) =>
                    {
                        fixed(number, (precision as i32 - 1 - exponent) as usize)
                    }
                    _ => text,
                }
            }
        };
        self.number(number.is_sign_negative(), digits)
    }
}

/// `1.234568e+04`, without the sign of the number.
fn scientific(number: f64, places: usize) -> String {
    let text = format!("{:.places$e}", number.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>2}")
}

/// A double as Java prints it.
fn java_double(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() || size == 0.0 || (1e-3..1e7).contains(&size) {
        return match number {
            _ if number.is_nan() => "NaN".into(),
            _ if number.is_infinite() && number > 0.0 => "Infinity".into(),
            _ if number.is_infinite() => "-Infinity".into(),
            _ => format!("{number:?}"),
        };
    }
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{point}E{exponent}")
}
