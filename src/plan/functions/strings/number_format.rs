//! `to_number`, `try_to_number` and `to_char` of numbers by Spark's number formats: `$`, `S`, `MI`,
//! `PR`, `0` and `9`, `,` or `G`, `.` or `D`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::codec::bytes_to_char;
use super::is_bytes;
use crate::plan::functions::datetime::text::date_format;
use crate::plan::functions::define::{Call, Function, Gives, Param, function};
use crate::plan::sql::types::timestamp_type;

use Param::{Any, Text};

/// All of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        to_number("to_number", true),
        to_number("try_to_number", false),
        function("to_char", &[Any, Text], DataType::Utf8, |call| {
            match call.data_type(0) {
                DataType::Binary => bytes_to_char(call),
                DataType::Timestamp(..) => date_format(call),
                _ => to_char(call),
            }
        })
        .also(&["to_varchar"])
        .coerced(|name, types| {
            let number = match &types[0] {
                bytes if is_bytes(bytes) => DataType::Binary,
                DataType::Date32 | DataType::Timestamp(..) => timestamp_type(),
                decimal @ DataType::Decimal128(..) => decimal.clone(),
                DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Decimal128(10, 0),
                DataType::Int64 => DataType::Decimal128(20, 0),
                DataType::Float32 => DataType::Decimal128(14, 7),
                DataType::Float64 => DataType::Decimal128(30, 15),
                other => {
                    Param::Number.coerce(name, 0, other)?;
                    DataType::Decimal128(38, 18)
                }
            };
            Ok(vec![number, Text.coerce(name, 1, &types[1])?])
        }),
    ];
    all.into_iter().map(Function::udf).collect()
}

/// Where the sign stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    None,
    /// `S`: `+` or `-`.
    Both,
    /// `MI`: a blank or `-`.
    Minus,
}

/// A number format.
struct Format {
    before: Sign,
    currency: bool,
    /// `0`, `9` and `,` before the point.
    integer: Vec<u8>,
    /// Whether there is a point.
    point: bool,
    /// The digits behind it.
    fraction: usize,
    after: Sign,
    /// `PR`: negative numbers stand in angle brackets.
    brackets: bool,
}

fn wrong<T>(class: &str, format: &str, why: &str) -> Result<T> {
    plan_err!("[INVALID_FORMAT.{class}] the number format '{format}' {why}")
}

impl Format {
    fn of(text: &str) -> Result<Self> {
        if text.is_empty() {
            return wrong("EMPTY", text, "is empty");
        }
        let upper = text.to_ascii_uppercase();
        let mut rest = upper.as_str();
        let sign = |rest: &mut &str| {
            for (token, sign) in [("S", Sign::Both), ("MI", Sign::Minus)] {
                if let Some(tail) = rest.strip_prefix(token) {
                    *rest = tail;
                    return sign;
                }
            }
            Sign::None
        };
        let before = sign(&mut rest);
        let currency = rest.strip_prefix('$').map(|tail| rest = tail).is_some();
        let mut integer = vec![];
        while let Some(byte @ (b'0' | b'9' | b',' | b'G')) = rest.bytes().next() {
            integer.push(if byte == b'G' { b',' } else { byte });
            rest = &rest[1..];
        }
        let point = rest.starts_with(['.', 'D']);
        let mut fraction = 0;
        if point {
            rest = &rest[1..];
            while rest.starts_with(['0', '9']) {
                fraction += 1;
                rest = &rest[1..];
            }
        }
        let after = sign(&mut rest);
        let brackets = rest.strip_prefix("PR").map(|tail| rest = tail).is_some();
        let signs = [before != Sign::None, after != Sign::None, brackets];
        let twice = signs.iter().filter(|sign| **sign).count() > 1;
        match rest.chars().next() {
            Some('$') => return wrong("CUR_MUST_BEFORE_DIGIT", text, "has $ behind a digit"),
            Some('.' | 'D' | 'S' | 'M') => {
                return wrong("WRONG_NUM_TOKEN", text, "has a part twice");
            }
            Some(_) if integer.is_empty() => {
                return wrong("WRONG_NUM_DIGIT", text, "has no digit 0 or 9");
            }
            Some(other) => {
                return wrong(
                    "UNEXPECTED_TOKEN",
                    text,
                    &format!("has '{other}', which has no meaning there"),
                );
            }
            None if twice => return wrong("WRONG_NUM_TOKEN", text, "has two signs"),
            None => {}
        }
        let digits = integer.iter().filter(|b| **b != b',').count();
        if digits + fraction == 0 {
            return wrong("WRONG_NUM_DIGIT", text, "has no digit 0 or 9");
        }
        let groups: Vec<&[u8]> = integer.split(|b| *b == b',').collect();
        if groups.len() > 1 && groups.iter().any(|group| group.is_empty()) {
            return wrong(
                "CONT_THOUSANDS_SEPS",
                text,
                "needs a digit before and behind each comma",
            );
        }
        if digits + fraction > 38 {
            return plan_err!(
                "[DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION] the number format '{text}' has more than 38 digits"
            );
        }
        Ok(Self {
            before,
            currency,
            integer,
            point,
            fraction,
            after,
            brackets,
        })
    }

    fn decimal(&self) -> DataType {
        let digits = self.integer.iter().filter(|b| **b != b',').count();
        DataType::Decimal128((digits + self.fraction) as u8, self.fraction as i8)
    }

    /// The number that `text` is, times ten to the number of places.
    fn read(&self, text: &str) -> Option<i128> {
        let mut rest = text.trim();
        let mut negative = false;
        let mut sign = |sign: Sign, rest: &mut &str| match rest.bytes().next() {
            Some(b'-') if sign != Sign::None => {
                negative = true;
                *rest = &rest[1..];
            }
            Some(b'+') if sign == Sign::Both => *rest = &rest[1..],
            _ => {}
        };
        sign(self.before, &mut rest);
        let bracket = self.brackets && rest.starts_with('<');
        rest = if bracket { &rest[1..] } else { rest };
        if self.currency {
            rest = rest.strip_prefix('$')?;
        }
        let integer_end = rest.find(|c: char| !c.is_ascii_digit() && c != ',');
        let (integer, mut rest) = rest.split_at(integer_end.unwrap_or(rest.len()));
        if !self.matches(integer.as_bytes()) {
            return None;
        }
        let mut fraction = "";
        if self.point
            && let Some(tail) = rest.strip_prefix('.')
        {
            let end = tail
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(tail.len());
            (fraction, rest) = tail.split_at(end);
        }
        if fraction.len() > self.fraction || integer.len() + fraction.len() == 0 {
            return None;
        }
        sign(self.after, &mut rest);
        if bracket {
            rest = rest.strip_prefix('>')?;
        }
        let digits = integer
            .bytes()
            .filter(u8::is_ascii_digit)
            .chain(fraction.bytes());
        let number = digits.fold(0, |number, digit| number * 10 + i128::from(digit - b'0'));
        let number = number * 10i128.pow((self.fraction - fraction.len()) as u32);
        rest.is_empty()
            .then_some(if negative || bracket { -number } else { number })
    }

    /// Whether digits and commas before the point stand as the format has them: from the point
    /// on, each group as long as its own or, the first one given, shorter unless it begins with 0.
    fn matches(&self, given: &[u8]) -> bool {
        let wanted: Vec<&[u8]> = self.integer.split(|b| *b == b',').collect();
        let given: Vec<&[u8]> = given.split(|b| *b == b',').collect();
        let full = |group: &[u8]| group.first() == Some(&b'0');
        if given.len() > wanted.len() {
            return false;
        }
        let (missing, wanted) = wanted.split_at(wanted.len() - given.len());
        let first = |(given, wanted): (&[u8], &[u8])| {
            given.len() == wanted.len() || (given.len() < wanted.len() && !full(wanted))
        };
        missing.iter().all(|group| !full(group))
            && first((given[0], wanted[0]))
            && given
                .iter()
                .zip(wanted)
                .skip(1)
                .all(|(g, w)| g.len() == w.len())
    }

    /// Writes `value / 10^scale`; `#` for each digit where the format has too few.
    fn write(&self, value: i128, scale: usize, out: &mut String) {
        let text = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
        let (integer, fraction) = text.split_at(text.len() - scale);
        let integer = integer.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let places = self.integer.iter().filter(|b| **b != b',').count();
        let fits = integer.len() <= places && fraction.len() <= self.fraction;
        let negative = value < 0;
        let mut body = String::new();
        let mut blanks = 0;
        let mut shown = false;
        let mut zero = false;
        let mut place = places;
        for &wanted in &self.integer {
            if wanted == b',' {
                if shown {
                    body.push(',');
                } else {
                    blanks += 1;
                }
                continue;
            }
            place -= 1;
            zero |= wanted == b'0';
            let digit = (integer.len().checked_sub(place + 1)).map(|at| integer.as_bytes()[at]);
            match digit {
                _ if !fits => body.push('#'),
                Some(digit) => body.push(char::from(digit)),
                None if zero || (place == 0 && self.point) => body.push('0'),
                None => {
                    blanks += 1;
                    continue;
                }
            }
            shown = true;
        }
        if self.point {
            let behind = if fits {
                format!("{fraction:0<width$}", width = self.fraction)
            } else {
                "#".repeat(self.fraction)
            };
            body.push(if self.fraction == 0 { ' ' } else { '.' });
            body.push_str(&behind);
        }
        let sign = |sign: Sign| match (sign, negative) {
            (Sign::None, _) => "",
            (_, true) => "-",
            (Sign::Both, false) => "+",
            (Sign::Minus, false) => " ",
        };
        let blanks = " ".repeat(blanks);
        // Blanks stand before the sign, but behind the currency.
        if self.currency {
            out.push_str(sign(self.before));
            if self.brackets && negative {
                out.push('<');
            }
            out.push('$');
            out.push_str(&blanks);
        } else {
            out.push_str(&blanks);
            out.push_str(sign(self.before));
            if self.brackets && negative {
                out.push('<');
            }
        }
        out.push_str(&body);
        out.push_str(sign(self.after));
        if self.brackets {
            out.push_str(if negative { ">" } else { "  " });
        }
    }
}

/// `to_number(text, format)`; without `fails`, what does not match is NULL.
fn to_number(name: &'static str, fails: bool) -> Function {
    let gives = Gives::Of(|_, constants| match constants.get(1) {
        Some(Some(ScalarValue::Utf8(Some(format)))) => Ok(Format::of(format)?.decimal()),
        _ => Err(plan_datafusion_err!(
            "[DATATYPE_MISMATCH.NON_FOLDABLE_INPUT] to_number needs a constant format"
        )),
    });
    function(name, &[Text, Text], gives, move |call| {
        let (text, format) = (call.text(0), call.text(1));
        let Some(written) = format.get(0) else {
            return call.values::<Decimal128Type>(|_| Ok(None));
        };
        let format = Format::of(written)?;
        call.values::<Decimal128Type>(|row| {
            let Some(text) = text.get(row) else {
                return Ok(None);
            };
            match format.read(text) {
                None if fails => exec_err!(
                    "[INVALID_FORMAT.MISMATCH_INPUT] '{text}' does not match the number format '{written}'; use try_to_number where NULL will do"
                ),
                read => Ok(read),
            }
        })
    })
}

fn to_char(call: &Call) -> Result<ArrayRef> {
    let mut number = call.array(0)?;
    if !matches!(number.data_type(), DataType::Decimal128(..)) {
        number = cast(&number, &DataType::Decimal128(38, 18))?;
    }
    let DataType::Decimal128(_, scale) = *number.data_type() else {
        return exec_err!("to_char got {}", number.data_type());
    };
    let number = number.as_primitive::<Decimal128Type>();
    let text = call.text(1);
    let mut format: Option<(&str, Format)> = None;
    call.texts(|row, out| {
        let Some(written) = text.get(row).filter(|_| !number.is_null(row)) else {
            return Ok(None);
        };
        if format.as_ref().is_none_or(|(of, _)| *of != written) {
            format = Some((written, Format::of(written)?));
        }
        if let Some((_, format)) = &format {
            format.write(number.value(row), scale.max(0) as usize, out);
        }
        Ok(Some(()))
    })
}
