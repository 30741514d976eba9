//! Numbers that look random and are a pure function of a seed and a row's number.

/// Scrambles 64 bits (splitmix64's finisher).
#[inline]
pub(super) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The random number of a row.
#[inline]
pub(super) const fn draw(seed: u64, row: u64) -> u64 {
    mix(seed.wrapping_add(row.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// Between 0 and 1, without 1.
#[inline]
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Evenly between 0 and `span`, both included.
#[inline]
pub(super) fn scale(bits: u64, span: u64) -> u64 {
    match span.checked_add(1) {
        None => bits,
        Some(count) => ((u128::from(bits) * u128::from(count)) >> 64) as u64,
    }
}

/// Between 0 and `span` with a density that falls like `(n + 1)^-skew`: the inverse of the
/// continuous distribution, which is near enough to Zipf's and needs no table.
pub(super) fn skewed(unit: f64, span: u64, skew: f64) -> u64 {
    let count = span as f64 + 1.0;
    let found = if (skew - 1.0).abs() < 1e-9 {
        (count + 1.0).powf(unit)
    } else {
        let exponent = 1.0 - skew;
        (unit * ((count + 1.0).powf(exponent) - 1.0) + 1.0).powf(1.0 / exponent)
    };
    ((found - 1.0) as u64).min(span)
}

/// Appends a number in decimal digits.
pub(super) fn push_number(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut left = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}
