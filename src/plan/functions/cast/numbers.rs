//! Between numbers and booleans.

use std::sync::Arc;

use arrow::array::types::{
    Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use tidemark_connectors::format::casts::parse_decimal;

use super::{Casting, out_of_range, overflow};
use crate::plan::functions::decimals::{fits, power_of_ten, rescale, shown};
use crate::plan::sql::type_name;

pub(super) fn cast(array: &ArrayRef, to: &DataType, casting: &Casting) -> Result<ArrayRef> {
    use DataType as D;
    match (array.data_type(), to) {
        (D::Boolean, _) => {
            let bits = arrow_cast(array, &D::Int8)?;
            super::cast_array(&bits, to, casting)
        }
        (_, D::Boolean) => Ok(Arc::new(truth(array)?)),
        (_, D::Decimal128(precision, scale)) => decimal(array, (*precision, *scale), casting),
        (from, D::Float32 | D::Float64) => {
            let doubles = match from {
                D::Decimal128(_, scale) => decimal_doubles(array, *scale),
                _ => arrow_cast(array, &D::Float64)?.as_primitive().clone(),
            };
            Ok(if *to == D::Float64 {
                Arc::new(doubles)
            } else {
                Arc::new(doubles.unary::<_, Float32Type>(|value| value as f32))
            })
        }
        (_, D::Int8) => whole::<Int8Type>(array, casting),
        (_, D::Int16) => whole::<Int16Type>(array, casting),
        (_, D::Int32) => whole::<Int32Type>(array, casting),
        (_, D::Int64) => whole::<Int64Type>(array, casting),
        (from, to) => internal_err!("no cast from {} to {}", type_name(from), type_name(to)),
    }
}

/// Anything but zero is true, NaN included.
fn truth(array: &ArrayRef) -> Result<BooleanArray> {
    Ok(if let DataType::Decimal128(..) = array.data_type() {
        BooleanArray::from_unary(array.as_primitive::<Decimal128Type>(), |value| value != 0)
    } else {
        let doubles = arrow_cast(array, &DataType::Float64)?;
        BooleanArray::from_unary(doubles.as_primitive::<Float64Type>(), |value| value != 0.0)
    })
}

/// Whole numbers of this type, cut towards zero.
fn whole<T>(array: &ArrayRef, casting: &Casting) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: TryFrom<i64> + TryFrom<i128>>,
{
    let from = array.data_type();
    let fail = |value: &dyn std::fmt::Display| overflow(value, from, &T::DATA_TYPE);
    Ok(match from {
        DataType::Float32 | DataType::Float64 => {
            let doubles = arrow_cast(array, &DataType::Float64)?;
            Arc::new(casting.each::<Float64Type, T>(
                doubles.as_primitive(),
                |value| whole_of_double(value).and_then(|whole| T::Native::try_from(whole).ok()),
                |value| fail(&value),
            )?)
        }
        DataType::Decimal128(_, scale) => {
            let unit = power_of_ten(u32::from(scale.unsigned_abs())).unwrap_or(i128::MAX);
            Arc::new(casting.each::<Decimal128Type, T>(
                array.as_primitive(),
                |value| T::Native::try_from(value / unit).ok(),
                |value| fail(&shown(value, *scale)),
            )?)
        }
        _ => {
            let longs = arrow_cast(array, &DataType::Int64)?;
            Arc::new(casting.each::<Int64Type, T>(
                longs.as_primitive(),
                |value| T::Native::try_from(value).ok(),
                |value| fail(&value),
            )?)
        }
    })
}

/// The double without its fraction. 2^63 is the greatest BIGINT, as it is for Java.
pub(super) fn whole_of_double(value: f64) -> Option<i64> {
    let fits = value.floor() <= i64::MAX as f64 && value.ceil() >= i64::MIN as f64;
    fits.then_some(value as i64)
}

fn decimal(array: &ArrayRef, (precision, scale): (u8, i8), casting: &Casting) -> Result<ArrayRef> {
    let to = DataType::Decimal128(precision, scale);
    let fitting = |value: Option<i128>| value.filter(|value| fits(*value, precision));
    let decimals = match array.data_type() {
        DataType::Decimal128(_, from) => casting.each::<Decimal128Type, Decimal128Type>(
            array.as_primitive(),
            |value| fitting(rescale(value, *from, scale)),
            |value| out_of_range(shown(value, *from), &to),
        )?,
        // By their shortest decimal form, so that 0.1 is 0.1; NaN and infinities have none.
        DataType::Float32 => {
            let floats = finite(array.as_primitive::<Float32Type>(), f32::is_finite);
            casting.each::<Float32Type, Decimal128Type>(
                &floats,
                |value| parse_decimal(value.to_string().as_bytes(), precision, scale),
                |value| out_of_range(value, &to),
            )?
        }
        DataType::Float64 => {
            let doubles = finite(array.as_primitive::<Float64Type>(), f64::is_finite);
            casting.each::<Float64Type, Decimal128Type>(
                &doubles,
                |value| parse_decimal(value.to_string().as_bytes(), precision, scale),
                |value| out_of_range(value, &to),
            )?
        }
        _ => {
            let longs = arrow_cast(array, &DataType::Int64)?;
            casting.each::<Int64Type, Decimal128Type>(
                longs.as_primitive(),
                |value| fitting(rescale(i128::from(value), 0, scale)),
                |value| out_of_range(value, &to),
            )?
        }
    };
    Ok(Arc::new(decimals.with_data_type(to)))
}

/// The values that are finite; the others are null.
fn finite<T: ArrowPrimitiveType>(
    array: &arrow::array::PrimitiveArray<T>,
    is_finite: impl Fn(T::Native) -> bool,
) -> arrow::array::PrimitiveArray<T> {
    if array.values().iter().all(|value| is_finite(*value)) {
        return array.clone();
    }
    array.unary_opt(|value| is_finite(value).then_some(value))
}

/// Each decimal as the double nearest to it.
fn decimal_doubles(array: &ArrayRef, scale: i8) -> Float64Array {
    const EXACT: u128 = 1 << 53;
    let unit = 10_f64.powi(i32::from(scale));
    array.as_primitive::<Decimal128Type>().unary(|value| {
        // One division of two exact doubles rounds once; anything else is read from its digits.
        if value.unsigned_abs() <= EXACT && scale <= 22 {
            value as f64 / unit
        } else {
            shown(value, scale).parse().unwrap_or(f64::NAN)
        }
    })
}
