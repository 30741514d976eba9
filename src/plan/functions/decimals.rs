//! Decimals as whole numbers with a scale: rounding, and whether they fit.

use arrow::datatypes::DataType;

/// The most digits that a DECIMAL has.
pub const MAX_PRECISION: u8 = 38;

/// 10 to the power of `exponent`; `None` beyond 38.
pub fn power_of_ten(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

/// Whether `value` has at most `precision` digits.
pub fn fits(value: i128, precision: u8) -> bool {
    power_of_ten(u32::from(precision))
        .is_none_or(|limit| value.unsigned_abs() < limit.unsigned_abs())
}

/// `value` at another scale, rounded half away from zero; `None` where it is out of range.
pub fn rescale(value: i128, from: i8, to: i8) -> Option<i128> {
    let shift = i32::from(to) - i32::from(from);
    if shift >= 0 {
        return match power_of_ten(shift.unsigned_abs()) {
            Some(power) => value.checked_mul(power),
            None => (value == 0).then_some(0),
        };
    }
    let Some(power) = power_of_ten(shift.unsigned_abs()) else {
        return Some(0);
    };
    let (quotient, rest) = (value / power, value % power);
    let up = rest.unsigned_abs() >= power.unsigned_abs().div_ceil(2);
    Some(quotient + if up { value.signum() } else { 0 })
}

/// `value` with `scale` digits after the point, as text.
pub fn shown(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    let scale = usize::try_from(scale).unwrap_or(0);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The decimal type that holds every value of an integer type.
pub fn of_integer(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((20, 0)),
        _ => None,
    }
}

/// The precision and scale of a decimal type, or of the decimal that an integer type fits into.
pub fn precision_and_scale(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
        other => of_integer(other),
    }
}

/// The type of a result that ideally had this precision and scale: where that is more than 38
/// digits, those after the point make room, down to six of them.
pub fn bounded(precision: i32, scale: i32) -> (u8, i8) {
    let max = i32::from(MAX_PRECISION);
    let (precision, scale) = if precision <= max {
        (precision, scale)
    } else {
        let whole = precision - scale;
        (max, (max - whole).max(scale.min(6)))
    };
    (precision as u8, scale as i8)
}

/// The least type that holds the values of two decimal types. Where that is more than 38 digits,
/// those before the point are kept.
pub fn wider((p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> (u8, i8) {
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    let (whole, max) = ((p1 - s1).max(p2 - s2), i32::from(MAX_PRECISION));
    let scale = s1.max(s2).min(max - whole);
    ((whole + scale) as u8, scale as i8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_half_away_from_zero() {
        assert_eq!(rescale(1_005, 3, 2), Some(101));
        assert_eq!(rescale(-1_005, 3, 2), Some(-101));
        assert_eq!(rescale(1_004, 3, 2), Some(100));
        assert_eq!(rescale(5, 1, 0), Some(1));
        assert_eq!(rescale(7, 0, 39), None);
        assert_eq!(rescale(1, 0, 3), Some(1_000));
        assert_eq!(shown(-5, 2), "-0.05");
        assert_eq!(shown(12_345, 2), "123.45");
    }

    #[test]
    fn types_beyond_38_digits_give_up_digits_after_the_point() {
        assert_eq!(bounded(77, 36), (38, 6));
        assert_eq!(bounded(40, 4), (38, 4));
        assert_eq!(bounded(39, 10), (38, 9));
        assert_eq!(wider((10, 2), (5, 4)), (12, 4));
        assert_eq!(wider((38, 0), (38, 10)), (38, 0));
    }
}
