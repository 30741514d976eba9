//! `conv`: numbers of any base.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};

use crate::plan::functions::define::{Call, Function, Param, function};

use Param::{Int, Text};

/// All of this module.
pub(super) fn functions() -> Vec<Function> {
    vec![function("conv", &[Text, Int, Int], DataType::Utf8, conv)]
}

/// `conv(text, from, to)`: the digits up to the first that is none are an unsigned number of 64
/// bits; a negative `to` reads it as a signed one.
fn conv(call: &Call) -> Result<ArrayRef> {
    let (text, from, to) = (call.text(0), call.ints(1), call.ints(2));
    let is_base = |base: u32| (2..=36).contains(&base);
    call.texts(|row, out| {
        let (Some(text), Some(from), Some(to)) = (text.get(row), from.get(row), to.get(row)) else {
            return Ok(None);
        };
        let text = text.trim_matches(' ');
        let (Ok(from), base) = (u32::try_from(from), to.unsigned_abs()) else {
            return Ok(None);
        };
        if text.is_empty() || !is_base(from) || !is_base(base) {
            return Ok(None);
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let mut value = 0u64;
        for digit in digits.chars().map_while(|c| c.to_digit(from)) {
            let next = value.checked_mul(u64::from(from));
            value = match next.and_then(|value| value.checked_add(u64::from(digit))) {
                Some(value) => value,
                None => {
                    return exec_err!(
                        "[ARITHMETIC_OVERFLOW] conv: '{text}' of base {from} has more than 64 bits; use a shorter number"
                    );
                }
            };
        }
        let mut minus = negative && to < 0;
        if negative && to > 0 {
            value = if value > i64::MAX as u64 { u64::MAX } else { value.wrapping_neg() };
        }
        if to < 0 && value > i64::MAX as u64 {
            value = value.wrapping_neg();
            minus = true;
        }
        if minus {
            out.push('-');
        }
        write(value, base, out);
        Ok(Some(()))
    })
}

fn write(mut value: u64, base: u32, out: &mut String) {
    let start = out.len();
    loop {
        let digit = (value % u64::from(base)) as u32;
        let digit = char::from_digit(digit, base).unwrap_or('0');
        out.insert(start, digit.to_ascii_uppercase());
        value /= u64::from(base);
        if value == 0 {
            break;
        }
    }
}
