//! `round`, `bround`, `ceil` and `floor`.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type,
};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};

use crate::plan::functions::define::{Call, Function, Gives, Param, function};
use crate::plan::functions::digits::{Rounding, rounded, without_digits};

use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64};
use Param::{Int, Number};

/// All of this module.
pub(super) fn functions() -> Vec<Function> {
    vec![
        round("round", Rounding::HalfUp),
        round("bround", Rounding::HalfEven),
        whole("ceil", Rounding::Ceiling).also(&["ceiling"]),
        whole("floor", Rounding::Floor),
    ]
}

/// The constant number of places; NULL counts as 0.
fn places(function: &str, constants: &[Option<&ScalarValue>]) -> Result<i32> {
    match constants.get(1) {
        None => Ok(0),
        Some(Some(constant)) => if let Ok(ScalarValue::Int32(places)) = constant.cast_to(&Int32) { Ok(places.unwrap_or(0)) } else { plan_err!("[CAST_OVERFLOW] {function}: {constant} is no number of places") },
        Some(None) => plan_err!(
            "[DATATYPE_MISMATCH.NON_FOLDABLE_INPUT] {function} needs a constant number of places"
        ),
    }
}

/// A decimal's type with so many places, and a digit more, for `99.9` may become `100`.
fn decimal(precision: u8, scale: i8, places: i32) -> DataType {
    let integer = i32::from(precision) - i32::from(scale) + 1;
    let (precision, scale) = if let ..0 = places { (integer.max(1i32.saturating_sub(places)), 0) } else {
        let scale = places.min(i32::from(scale));
        (integer + scale, scale)
    };
    Decimal128(precision.min(38) as u8, scale as i8)
}

fn with_places(function: &str, types: &[DataType], first: DataType) -> Result<Vec<DataType>> {
    let mut all = vec![first];
    if let Some(given) = types.get(1) {
        Int.coerce(function, 1, given)?;
        // A constant stays one, whatever whole number it is.
        all.push(if given.is_integer() {
            given.clone()
        } else {
            Int32
        });
    }
    Ok(all)
}

/// `round` or `bround`: a number of the same type, a decimal of the type that its places need.
fn round(name: &'static str, rounding: Rounding) -> Function {
    let gives = Gives::Of(|types, constants| match &types[0] {
        Decimal128(p, s) => Ok(decimal(*p, *s, places("round", constants)?)),
        other => Ok(other.clone()),
    });
    function(name, &[Number, Int], gives, move |call| {
        match call.data_type(0) {
            Int8 => integers::<Int8Type>(call, rounding),
            Int16 => integers::<Int16Type>(call, rounding),
            Int32 => integers::<Int32Type>(call, rounding),
            Int64 => integers::<Int64Type>(call, rounding),
            Float32 => {
                let (number, places) = (call.primitive::<Float32Type>(0), places_of(call)?);
                call.values::<Float32Type>(|row| {
                    let both = number.get(row).zip(places(row));
                    Ok(both.map(|(n, places)| if n.is_finite() { rounded(n, places, n < 0.0, rounding) } else { n }))
                })
            }
            Float64 => {
                let (number, places) = (call.doubles(0), places_of(call)?);
                call.values::<Float64Type>(|row| {
                    let both = number.get(row).zip(places(row));
                    Ok(both.map(|(n, places)| if n.is_finite() { rounded(n, places, n < 0.0, rounding) } else { n }))
                })
            }
            _ => decimals(call, rounding),
        }
    })
    .optional(1)
    .coerced(|name, types| {
        let first = Number.coerce(name, 0, &types[0])?;
        with_places(name, types, first)
    })
}

/// The number of places of each row.
fn places_of(call: &Call) -> Result<impl Fn(usize) -> Option<i32> + use<>> {
    let places = match call.len() {
        1 => None,
        _ => Some(arrow::compute::cast(&call.array(1)?, &Int32)?),
    };
    Ok(move |row| match &places {
        None => Some(0),
        Some(places) => {
            let places = places.as_primitive::<Int32Type>();
            places.is_valid(row).then(|| places.value(row))
        }
    })
}

fn overflow<T>(function: &str, value: i128, to: &str) -> Result<T> {
    exec_err!(
        "[ARITHMETIC_OVERFLOW] {function}: {value} does not fit into {to}; use CAST to a wider type"
    )
}

fn integers<T>(call: &Call, rounding: Rounding) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: Into<i128> + TryFrom<i128>>,
{
    let (number, places) = (call.primitive::<T>(0), places_of(call)?);
    call.values::<T>(|row| {
        let Some((number, places)) = number.get(row).zip(places(row)) else {
            return Ok(None);
        };
        if places >= 0 {
            return Ok(Some(number));
        }
        let value = scaled(number.into(), places.unsigned_abs(), rounding);
        match value.and_then(|value| T::Native::try_from(value).ok()) {
            Some(value) => Ok(Some(value)),
            None => overflow(
                "round",
                number.into(),
                &crate::plan::sql::type_name(&T::DATA_TYPE),
            ),
        }
    })
}

/// `value` with its last `digits` digits rounded to zeros.
fn scaled(value: i128, digits: u32, rounding: Rounding) -> Option<i128> {
    match without_digits(value, digits, rounding) {
        0 => Some(0),
        rest => 10i128.checked_pow(digits)?.checked_mul(rest),
    }
}

/// A decimal rounded to the places of the second argument, in the type of the result.
fn decimals(call: &Call, rounding: Rounding) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let (Decimal128(_, from), Decimal128(precision, to)) = (array.data_type(), call.returns())
    else {
        return exec_err!("round got {}", array.data_type());
    };
    let number = array.as_primitive::<Decimal128Type>();
    let places = places_of(call)?;
    let limit = 10i128.pow(u32::from(*precision));
    call.values::<Decimal128Type>(|row| {
        let Some(places) = places(row).filter(|_| number.is_valid(row)) else {
            return Ok(None);
        };
        let value = number.value(row);
        let dropped = i32::from(*from).saturating_sub(places).max(0).unsigned_abs();
        // What was dropped before the point comes back as zeros.
        let zeros = dropped.saturating_sub((*from - *to).max(0) as u32);
        let rounded = match without_digits(value, dropped, rounding) {
            0 => Some(0),
            rest => 10i128.checked_pow(zeros).and_then(|unit| unit.checked_mul(rest)),
        };
        if let Some(rounded) = rounded.filter(|rounded| rounded.abs() < limit) { Ok(Some(rounded)) } else { exec_err!(
            "[NUMERIC_VALUE_OUT_OF_RANGE.WITHOUT_SUGGESTION] the rounded number does not fit into DECIMAL({precision}, {to}); use fewer digits"
        ) }
    })
}

/// `ceil` or `floor`: BIGINT without places, except for decimals; a decimal with them.
fn whole(name: &'static str, rounding: Rounding) -> Function {
    let gives = Gives::Of(|types, constants| match (&types[0], types.len()) {
        (Decimal128(p, 0), 1) => Ok(Decimal128(*p, 0)),
        (Decimal128(p, s), _) => Ok(decimal(*p, *s, places("ceil and floor", constants)?)),
        _ => Ok(Int64),
    });
    function(name, &[Number, Int], gives, move |call| {
        match call.data_type(0) {
            Decimal128(..) => decimals(call, rounding),
            Int64 => call.array(0),
            _ => {
                let number = call.doubles(0);
                call.values::<Int64Type>(|row| {
                    let Some(number) = number.get(row) else {
                        return Ok(None);
                    };
                    let whole = match rounding {
                        Rounding::Ceiling => number.ceil(),
                        _ => number.floor(),
                    };
                    // The bounds of BIGINT as doubles; what is no number is 0.
                    if whole.is_nan() || (-(2f64.powi(63))..=2f64.powi(63)).contains(&whole) {
                        Ok(Some(whole as i64))
                    } else {
                        overflow(name, whole as i128, "BIGINT")
                    }
                })
            }
        }
    })
    .optional(1)
    .coerced(|name, types| {
        let given = Number.coerce(name, 0, &types[0])?;
        let first = match (&given, types.len()) {
            (Decimal128(..), _) => given,
            (Int8 | Int16 | Int32 | Int64, 1) => Int64,
            (_, 1) => Float64,
            (Int8, _) => Decimal128(3, 0),
            (Int16, _) => Decimal128(5, 0),
            (Int32, _) => Decimal128(10, 0),
            (Int64, _) => Decimal128(20, 0),
            (Float32, _) => Decimal128(14, 7),
            _ => Decimal128(30, 15),
        };
        with_places(name, types, first)
    })
}
