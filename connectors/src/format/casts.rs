//! Text to typed values: the rules that JSON strings, CSV fields and partition directories share.

use super::datetime;
use super::pattern::Pattern;
use super::zone::Zone;
use crate::{Options, Result};

/// How dates and timestamps are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Casts {
    /// The zone of timestamps that name none (`timeZone`).
    pub zone: Zone,
    /// `timestampFormat`; without it Spark's lenient ISO 8601.
    pub timestamp: Option<Pattern>,
    /// `timestampNTZFormat`.
    pub timestamp_ntz: Option<Pattern>,
    /// `dateFormat`.
    pub date: Option<Pattern>,
}

impl Default for Casts {
    fn default() -> Self {
        Self {
            zone: Zone::UTC,
            timestamp: None,
            timestamp_ntz: None,
            date: None,
        }
    }
}

impl Casts {
    /// Takes the options out of a table's.
    pub fn new(options: &Options) -> Result<Self> {
        let pattern = |key: &str| match options.get(key) {
            None => Ok(None),
            Some(text) => Pattern::for_reading(text).map(Some).map_err(|why| {
                options.bad(
                    key,
                    format!("a datetime pattern such as 'yyyy-MM-dd HH:mm:ss' ({why})"),
                )
            }),
        };
        Ok(Self {
            zone: Zone::from_options(options)?,
            timestamp: pattern("timestampFormat")?,
            timestamp_ntz: pattern("timestampNTZFormat")?,
            date: pattern("dateFormat")?,
        })
    }

    /// Microseconds since 1970 UTC.
    pub fn timestamp(&self, text: &[u8]) -> Option<i64> {
        match &self.timestamp {
            None => datetime::parse_timestamp(text, self.zone),
            Some(pattern) => pattern.timestamp(std::str::from_utf8(text).ok()?, self.zone),
        }
    }

    /// Microseconds since 1970 on the wall clock.
    pub fn timestamp_ntz(&self, text: &[u8]) -> Option<i64> {
        match &self.timestamp_ntz {
            None => datetime::parse_timestamp_ntz(text),
            Some(pattern) => pattern.timestamp_ntz(std::str::from_utf8(text).ok()?),
        }
    }

    /// Microseconds since 1970 on the wall clock that the text shows; a zone behind it says nothing.
    pub fn wall_clock(text: &[u8]) -> Option<i64> {
        datetime::parse_wall_clock(text)
    }

    /// Days since 1970.
    pub fn date(&self, text: &[u8]) -> Option<i32> {
        match &self.date {
            None => datetime::parse_date(text),
            Some(pattern) => pattern.date(std::str::from_utf8(text).ok()?),
        }
    }
}

/// A whole number with an optional sign; `None` where it is none or does not fit.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    // Counted downwards, because the least number has no positive twin.
    let mut value = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

/// A decimal as its unscaled value, rounded half up to `scale`; `None` where it is no number or
/// has more than `precision` digits.
pub fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, unsigned) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let mantissa_end = unsigned
        .iter()
        .position(|b| matches!(b, b'e' | b'E'))
        .unwrap_or(unsigned.len());
    let exponent = match unsigned.get(mantissa_end + 1..) {
        None => 0,
        Some(exponent) => i32::try_from(parse_integer(exponent)?).ok()?,
    };
    let mantissa = &unsigned[..mantissa_end];
    let point = mantissa.iter().position(|b| *b == b'.');
    let digits = mantissa.len() - usize::from(point.is_some());
    let after_point = point.map_or(0, |at| mantissa.len() - at - 1);
    if digits == 0
        || !mantissa
            .iter()
            .enumerate()
            .all(|(at, b)| b.is_ascii_digit() || Some(at) == point)
    {
        return None;
    }
    // How many of the digits stand before the place that is rounded.
    let kept = i64::try_from(digits).ok()? - i64::try_from(after_point).ok()?
        + i64::from(exponent)
        + i64::from(scale);
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    let mut value = 0_i128;
    let mut at = 0_i64;
    for digit in mantissa
        .iter()
        .filter(|b| **b != b'.')
        .map(|b| i128::from(b - b'0'))
    {
        if at == kept {
            value += i128::from(digit >= 5);
            break;
        }
        if at > kept {
            break;
        }
        value = value.checked_mul(10)?.checked_add(digit)?;
        at += 1;
    }
    if value != 0 && at < kept {
        let zeros = u32::try_from(kept - at).ok()?;
        value = value.checked_mul(10_i128.checked_pow(zeros)?)?;
    }
    (value < limit).then_some(if negative { -value } else { value })
}

/// The double nearest to a decimal number; never a name such as NaN.
pub(crate) fn parse_double(text: &[u8]) -> Option<f64> {
    let negative = text.first() == Some(&b'-');
    let (mut mantissa, mut digits, mut point) = (0_u64, 0, None);
    for (at, byte) in text.iter().enumerate().skip(usize::from(negative)) {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa
                    .wrapping_mul(10)
                    .wrapping_add(u64::from(byte - b'0'));
                digits += 1;
            }
            b'.' if point.is_none() => point = Some(at),
            _ => return parse_float(text),
        }
    }
    let scale = point.map_or(0, |at| text.len() - at - 1);
    exact_double(negative, mantissa, digits, scale).or_else(|| parse_float(text))
}

/// `mantissa` divided by ten to the power of `scale`, where one division of doubles gives the
/// nearest one: both are doubles without rounding. `digits` is how many made up the mantissa, which
/// has overflowed if they are many.
#[inline]
pub(crate) fn exact_double(
    negative: bool,
    mantissa: u64,
    digits: usize,
    scale: usize,
) -> Option<f64> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    let exact = (1..=19).contains(&digits) && mantissa < 1 << f64::MANTISSA_DIGITS;
    let value = mantissa as f64 / POWERS.get(scale).filter(|_| exact)?;
    Some(if negative { -value } else { value })
}

/// A floating-point number as it is written; never a name such as NaN.
pub(crate) fn parse_float<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    // Rust would also take "inf" and "nan".
    if text
        .iter()
        .any(|b| b.is_ascii_alphabetic() && !matches!(b, b'e' | b'E'))
    {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Base64 with the standard alphabet and padding.
pub(crate) fn decode_base64(text: &[u8], out: &mut Vec<u8>) -> bool {
    if !text.len().is_multiple_of(4) {
        return false;
    }
    let groups = text.len() / 4;
    for (index, group) in text.chunks_exact(4).enumerate() {
        let padding = if index + 1 < groups {
            0
        } else {
            group.iter().rev().take_while(|b| **b == b'=').count()
        };
        if padding > 2 {
            return false;
        }
        let mut bits = 0_u32;
        for byte in &group[..4 - padding] {
            let Some(value) = base64_value(*byte) else {
                return false;
            };
            bits = bits << 6 | value;
        }
        bits <<= 6 * padding;
        let bytes = bits.to_be_bytes();
        out.extend_from_slice(&bytes[1..4 - padding]);
    }
    true
}

fn base64_value(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_to_their_edges() {
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_integer(b"9223372036854775808"), None);
        for text in ["", "-", "1.0", " 1", "1a"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn decimals_round_half_up_and_keep_to_their_precision() {
        let read = |text: &str| parse_decimal(text.as_bytes(), 5, 2);
        assert_eq!(read("1.235"), Some(124));
        assert_eq!(read("-1.235"), Some(-124));
        assert_eq!(read("1.2349"), Some(123));
        assert_eq!(read("0.005"), Some(1));
        assert_eq!(read("0.0049"), Some(0));
        assert_eq!(read("1e2"), Some(10_000));
        assert_eq!(read("12345e-4"), Some(123));
        assert_eq!(read("999.99"), Some(99_999));
        assert_eq!(read("999.995"), None);
        assert_eq!(read("1000"), None);
        assert_eq!(read("1e400"), None);
        assert_eq!(read("0e400"), Some(0));
        for text in ["", "-", ".", "1.2.3", "x", "1e", "1e+"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(".5"), Some(50));
    }

    #[test]
    fn doubles_are_the_nearest_ones() {
        for text in [
            "0",
            "-0",
            "0.0",
            "1",
            "217.38",
            "-217.38",
            ".5",
            "5.",
            "0.1",
            "0.30000000000000004",
            "9007199254740991",
            "9007199254740992",
            "9007199254740993",
            "12345678901234567890",
            "99999999999999999999",
            "0.0000000000000000000001",
            "0.00000000000000000000001",
            "123456789.123456789",
            "1e5",
            "1.5E-7",
            "00012.50",
            "18446744073709551616.5",
        ] {
            let expected: f64 = text.parse().expect("a double");
            let found = parse_double(text.as_bytes()).map(f64::to_bits);
            assert_eq!(found, Some(expected.to_bits()), "{text}");
        }
        for text in ["", "-", ".", "-.", "1.2.3", "1-", "--1", "x", "inf", "nan"] {
            assert_eq!(parse_double(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn base64_with_padding() {
        let decode = |text: &str| {
            let mut out = Vec::new();
            decode_base64(text.as_bytes(), &mut out).then_some(out)
        };
        assert_eq!(decode("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(decode("aGVsbA=="), Some(b"hell".to_vec()));
        assert_eq!(decode("aGVs"), Some(b"hel".to_vec()));
        assert_eq!(decode(""), Some(Vec::new()));
        for text in ["a", "a===", "====", "aG=s", "a!bc"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
