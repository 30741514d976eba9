//! Whole numbers and doubles.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{binary as zip, try_binary};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, internal_err};

use super::{Op, divided_by_zero, overflow, overflow_of};
use crate::plan::functions::cast::Casting;
use crate::plan::sql::type_name;

pub(super) fn binary(op: Op, left: &ArrayRef, right: &ArrayRef, casting: &Casting) -> Result<ArrayRef> {
    macro_rules! whole {
        ($type:ty) => {
            whole_numbers::<$type>(op, left.as_primitive(), right.as_primitive(), casting)
        };
    }
    match left.data_type() {
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::Float32 => {
            floats::<Float32Type>(op, left.as_primitive(), right.as_primitive(), casting)
        }
        DataType::Float64 => {
            floats::<Float64Type>(op, left.as_primitive(), right.as_primitive(), casting)
        }
        other => internal_err!("no arithmetic on {}", type_name(other)),
    }
}

/// `f` over the pairs without nulls. What has no result is an error that `fail` gives, or null.
pub(super) fn pairs<A, B, T>(
    left: &PrimitiveArray<A>,
    right: &PrimitiveArray<B>,
    casting: &Casting,
    f: impl Fn(A::Native, B::Native) -> Option<T::Native>,
    fail: impl Fn(A::Native, B::Native) -> DataFusionError,
) -> Result<PrimitiveArray<T>>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    T: ArrowPrimitiveType,
{
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let there = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    let mut values = Vec::with_capacity(left.len());
    // Rows, beside those that are null already, that have no result.
    let mut failed = vec![];
    for (row, (a, b)) in left.values().iter().zip(right.values()).enumerate() {
        let value = if there(row) { f(*a, *b) } else { Some(T::Native::default()) };
        match value {
            Some(value) => values.push(value),
            None if casting.strict => return Err(fail(*a, *b)),
            None => {
                failed.push(row);
                values.push(T::Native::default());
            }
        }
    }
    let nulls = if failed.is_empty() {
        nulls
    } else {
        let mut valid: Vec<bool> = (0..left.len()).map(there).collect();
        for row in failed {
            valid[row] = false;
        }
        Some(valid.into())
    };
    Ok(PrimitiveArray::new(values.into(), nulls))
}

fn whole_numbers<T>(
    op: Op,
    left: &PrimitiveArray<T>,
    right: &PrimitiveArray<T>,
    casting: &Casting,
) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: std::fmt::Display>,
{
    let zero = T::Native::ZERO;
    let fail = |a: T::Native, b: T::Native| match op {
        Op::Add | Op::Subtract | Op::Multiply => overflowed::<T>(op, a, b),
        _ if b.is_zero() => divided_by_zero(op),
        _ => overflowed::<T>(op, a, b),
    };
    let remainder = |a: T::Native, b: T::Native| {
        if b.is_zero() {
            None
        } else {
            Some(a.mod_wrapping(b))
        }
    };
    let f: Box<dyn Fn(T::Native, T::Native) -> Option<T::Native>> = match op {
        // The usual way, without a branch per row where nothing can fail.
        Op::Add if casting.strict => return checked(left, right, op, T::Native::add_checked),
        Op::Subtract if casting.strict => return checked(left, right, op, T::Native::sub_checked),
        Op::Multiply if casting.strict => return checked(left, right, op, T::Native::mul_checked),
        Op::Add => Box::new(|a, b| a.add_checked(b).ok()),
        Op::Subtract => Box::new(|a, b| a.sub_checked(b).ok()),
        Op::Multiply => Box::new(|a, b| a.mul_checked(b).ok()),
        Op::IntegerDivide | Op::Divide => Box::new(|a, b| a.div_checked(b).ok()),
        Op::Remainder => Box::new(remainder),
        Op::PositiveRemainder => Box::new(move |a, b| {
            let rest = remainder(a, b)?;
            if rest < zero {
                remainder(rest.add_wrapping(b), b)
            } else {
                Some(rest)
            }
        }),
        Op::Negate | Op::Absolute => return internal_err!("{op:?} has one operand"),
    };
    Ok(Arc::new(pairs::<T, T, T>(left, right, casting, f, fail)?))
}

fn checked<T>(
    left: &PrimitiveArray<T>,
    right: &PrimitiveArray<T>,
    op: Op,
    f: impl Fn(T::Native, T::Native) -> std::result::Result<T::Native, arrow::error::ArrowError>,
) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: std::fmt::Display>,
{
    let values: PrimitiveArray<T> = try_binary(left, right, &f).map_err(|_| {
        let failing = left.iter().zip(right.iter()).find_map(|pair| match pair {
            (Some(a), Some(b)) if f(a, b).is_err() => Some((a, b)),
            _ => None,
        });
        let (a, b) = failing.unwrap_or_default();
        overflowed::<T>(op, a, b)
    })?;
    Ok(Arc::new(values))
}

fn overflowed<T>(op: Op, a: T::Native, b: T::Native) -> DataFusionError
where
    T: ArrowPrimitiveType<Native: std::fmt::Display>,
{
    let class = match T::DATA_TYPE {
        DataType::Int8 | DataType::Int16 => "BINARY_ARITHMETIC_OVERFLOW",
        _ => "ARITHMETIC_OVERFLOW",
    };
    overflow_of(class, &format!(
        "{} in {a} {} {b}",
        type_name(&T::DATA_TYPE),
        op.symbol().unwrap_or("pmod")
    ))
}

fn floats<T>(
    op: Op,
    left: &PrimitiveArray<T>,
    right: &PrimitiveArray<T>,
    casting: &Casting,
) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
{
    let f: fn(T::Native, T::Native) -> T::Native = match op {
        Op::Add => T::Native::add_wrapping,
        Op::Subtract => T::Native::sub_wrapping,
        Op::Multiply => T::Native::mul_wrapping,
        Op::Divide => T::Native::div_wrapping,
        Op::Remainder => T::Native::mod_wrapping,
        Op::PositiveRemainder => |a, b| {
            let rest = a.mod_wrapping(b);
            if rest.compare(T::Native::ZERO).is_lt() {
                rest.add_wrapping(b).mod_wrapping(b)
            } else {
                rest
            }
        },
        Op::IntegerDivide | Op::Negate | Op::Absolute => {
            return internal_err!("{op:?} of two doubles");
        }
    };
    if matches!(op, Op::Add | Op::Subtract | Op::Multiply) {
        return Ok(Arc::new(zip::<_, _, _, T>(left, right, f)?));
    }
    let guarded = |a: T::Native, b: T::Native| (!b.is_zero()).then(|| f(a, b));
    let values = pairs::<T, T, T>(left, right, casting, guarded, |_, _| divided_by_zero(op))?;
    Ok(Arc::new(values))
}

pub(super) fn unary(op: Op, array: &ArrayRef, casting: &Casting) -> Result<ArrayRef> {
    macro_rules! whole {
        ($type:ty) => {{
            let values = array.as_primitive::<$type>();
            let fail = |value| {
                overflow(&format!("{} in -({value})", type_name(array.data_type())))
            };
            let of = |value: <$type as ArrowPrimitiveType>::Native| match op {
                Op::Absolute => value.checked_abs(),
                _ => value.checked_neg(),
            };
            Ok(Arc::new(if casting.strict {
                values.try_unary::<_, $type, DataFusionError>(|value| of(value).ok_or_else(|| fail(value)))?
            } else {
                values.unary_opt::<_, $type>(of)
            }))
        }};
    }
    macro_rules! floating {
        ($type:ty) => {{
            let values = array.as_primitive::<$type>();
            Ok(Arc::new(values.unary::<_, $type>(|value| match op {
                Op::Absolute => value.abs(),
                _ => -value,
            })))
        }};
    }
    match array.data_type() {
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::Float32 => floating!(Float32Type),
        DataType::Float64 => floating!(Float64Type),
        other => internal_err!("no arithmetic on {}", type_name(other)),
    }
}
