//! Decimals: computed exactly, then rounded once, half away from zero, to the result's scale.

use std::sync::Arc;

use arrow::array::types::{Decimal128Type, Int64Type};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, i256};
use datafusion::common::{Result, internal_err};

use super::numbers::pairs;
use super::{Op, divided_by_zero, overflow};
use crate::plan::functions::cast::{Casting, out_of_range};
use crate::plan::functions::decimals::{fits, power_of_ten, shown};

pub(super) fn unary(op: Op, array: &ArrayRef) -> Result<ArrayRef> {
    let values = array.as_primitive::<Decimal128Type>();
    let of = |value: i128| match op {
        Op::Absolute => value.abs(),
        _ => -value,
    };
    let done = values.unary::<_, Decimal128Type>(of);
    Ok(Arc::new(done.with_data_type(array.data_type().clone())))
}

pub(super) fn binary(
    op: Op,
    left: &ArrayRef,
    right: &ArrayRef,
    to: &DataType,
    casting: &Casting,
) -> Result<ArrayRef> {
    let (DataType::Decimal128(_, s1), DataType::Decimal128(_, s2)) =
        (left.data_type(), right.data_type())
    else {
        return internal_err!("decimals meet decimals");
    };
    let (s1, s2) = (*s1, *s2);
    let (a, b) = (
        left.as_primitive::<Decimal128Type>(),
        right.as_primitive::<Decimal128Type>(),
    );
    let by_zero = |b: i128| b == 0 && !matches!(op, Op::Add | Op::Subtract | Op::Multiply);
    if op == Op::IntegerDivide {
        let values = pairs::<Decimal128Type, Decimal128Type, Int64Type>(
            a,
            b,
            casting,
            |a, b| {
                if b == 0 {
                    return None;
                }
                let (a, b) = aligned(a, s1, b, s2)?;
                a.checked_div(b)?.to_i128().and_then(|v| i64::try_from(v).ok())
            },
            |a, b| {
                if b == 0 {
                    divided_by_zero(op)
                } else {
                    overflow(&format!("BIGINT in {} div {}", shown(a, s1), shown(b, s2)))
                }
            },
        )?;
        return Ok(Arc::new(values));
    }
    let DataType::Decimal128(precision, scale) = *to else {
        return internal_err!("the result of decimals is a decimal");
    };
    let f = move |a: i128, b: i128| {
        if by_zero(b) {
            return None;
        }
        let quick = match op {
            Op::Add if s1 == s2 && scale == s1 => a.checked_add(b),
            Op::Subtract if s1 == s2 && scale == s1 => a.checked_sub(b),
            Op::Multiply if s1 + s2 == scale => a.checked_mul(b),
            _ => None,
        };
        quick
            .or_else(|| exact(op, (a, s1), (b, s2), scale))
            .filter(|value| fits(*value, precision))
    };
    let fail = |a: i128, b: i128| {
        if by_zero(b) {
            divided_by_zero(op)
        } else {
            let symbol = op.symbol().unwrap_or("pmod");
            out_of_range(format!("{} {symbol} {}", shown(a, s1), shown(b, s2)), to)
        }
    };
    let values = pairs::<Decimal128Type, Decimal128Type, Decimal128Type>(a, b, casting, f, fail)?;
    Ok(Arc::new(values.with_data_type(to.clone())))
}

/// Both at the greater of the two scales.
fn aligned(a: i128, s1: i8, b: i128, s2: i8) -> Option<(i256, i256)> {
    let scale = s1.max(s2);
    Some((raised(a, scale - s1)?, raised(b, scale - s2)?))
}

/// `value` times ten to the power of `by`.
fn raised(value: i128, by: i8) -> Option<i256> {
    i256::from_i128(value).checked_mul(tens(i32::from(by))?)
}

fn tens(exponent: i32) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::try_from(exponent).ok()?)
}

fn exact(op: Op, (a, s1): (i128, i8), (b, s2): (i128, i8), scale: i8) -> Option<i128> {
    let greater = s1.max(s2);
    let (value, at) = match op {
        Op::Add | Op::Subtract => {
            let (a, b) = aligned(a, s1, b, s2)?;
            let sum = if op == Op::Add {
                a.checked_add(b)?
            } else {
                a.checked_sub(b)?
            };
            (sum, greater)
        }
        Op::Multiply => (
            i256::from_i128(a).checked_mul(i256::from_i128(b))?,
            s1 + s2,
        ),
        Op::Remainder => {
            let (a, b) = aligned(a, s1, b, s2)?;
            (a.checked_rem(b)?, greater)
        }
        Op::PositiveRemainder => {
            let (a, b) = aligned(a, s1, b, s2)?;
            let rest = a.checked_rem(b)?;
            let rest = if rest < i256::ZERO {
                rest.checked_add(b)?.checked_rem(b)?
            } else {
                rest
            };
            (rest, greater)
        }
        Op::Divide => {
            let shift = i32::from(scale) + i32::from(s2) - i32::from(s1);
            let (a, b) = (i256::from_i128(a), i256::from_i128(b));
            let (a, b) = if shift >= 0 {
                (a.checked_mul(tens(shift)?)?, b)
            } else {
                (a, b.checked_mul(tens(-shift)?)?)
            };
            return divided(a, b)?.to_i128();
        }
        Op::IntegerDivide | Op::Negate | Op::Absolute => return None,
    };
    if at <= scale {
        let power = power_of_ten(u32::from((scale - at).unsigned_abs()))?;
        return value.checked_mul(i256::from_i128(power))?.to_i128();
    }
    divided(value, tens(i32::from(at) - i32::from(scale))?)?.to_i128()
}

/// The quotient, rounded half away from zero.
fn divided(a: i256, b: i256) -> Option<i256> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let (rest, divisor) = (rest.wrapping_abs(), b.wrapping_abs());
    if rest < divisor.checked_sub(rest)? {
        return Some(quotient);
    }
    if (a < i256::ZERO) == (b < i256::ZERO) {
        quotient.checked_add(i256::ONE)
    } else {
        quotient.checked_sub(i256::ONE)
    }
}
