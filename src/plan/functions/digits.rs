//! Floating-point numbers as the decimal digits that stand for them, which is what Java rounds.

use std::fmt::LowerExp;

/// A finite number as `digits * 10^exponent`, without its sign: the fewest digits that name it.
pub fn shortest<T: LowerExp>(value: T) -> (u128, i32) {
    let text = format!("{value:e}");
    let text = text.trim_start_matches('-');
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let places = mantissa
        .split_once('.')
        .map_or(0, |(_, places)| places.len());
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent = exponent.parse().unwrap_or(0) - places as i32;
    (digits.parse().unwrap_or(0), exponent)
}

/// What decides about a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Away from zero.
    HalfUp,
    /// To the even neighbour.
    HalfEven,
    /// Whatever the rest, towards negative infinity.
    Floor,
    /// Whatever the rest, towards positive infinity.
    Ceiling,
}

/// `value / 10^drop` as a whole number.
pub fn without_digits(value: i128, drop: u32, rounding: Rounding) -> i128 {
    let sign = value.signum();
    let Some(unit) = 10i128.checked_pow(drop) else {
        // Less than half of the unit.
        return match rounding {
            Rounding::Floor => sign.min(0),
            Rounding::Ceiling => sign.max(0),
            _ => 0,
        };
    };
    let (quotient, rest) = (value / unit, (value % unit).unsigned_abs());
    let half = rest.cmp(&(unit.unsigned_abs() - rest));
    let away = match rounding {
        Rounding::HalfUp => half.is_ge(),
        Rounding::HalfEven => half.is_gt() || (half.is_eq() && quotient % 2 != 0),
        Rounding::Floor => rest > 0 && sign < 0,
        Rounding::Ceiling => rest > 0 && sign > 0,
    };
    quotient + if away { sign } else { 0 }
}

/// A finite number with `places` behind the point, without its sign, halves rounded up.
pub fn fixed(value: f64, places: usize) -> String {
    let (digits, exponent) = shortest(value);
    let kept = -(places as i32);
    let mut text = if exponent < kept {
        without_digits(digits as i128, exponent.abs_diff(kept), Rounding::HalfUp).to_string()
    } else if digits == 0 {
        "0".repeat(places + 1)
    } else {
        format!("{digits}{}", "0".repeat(exponent.abs_diff(kept) as usize))
    };
    if text.len() <= places {
        text = format!("{text:0>width$}", width = places + 1);
    }
    if places > 0 {
        text.insert(text.len() - places, '.');
    }
    text
}

/// A finite number rounded to `places` behind the point, or before it where negative.
pub fn rounded<T: LowerExp + Copy + std::str::FromStr>(
    value: T,
    places: i32,
    negative: bool,
    rounding: Rounding,
) -> T {
    let (digits, exponent) = shortest(value);
    let kept = places.saturating_neg();
    if exponent >= kept {
        return value;
    }
    let digits = if negative {
        -(digits as i128)
    } else {
        digits as i128
    };
    let digits = without_digits(digits, exponent.abs_diff(kept), rounding);
    format!("{digits}e{kept}").parse().unwrap_or(value)
}
