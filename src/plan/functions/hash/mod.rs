//! `hash` and `xxhash64`: Spark's hashes of rows, with its seed of 42; `hmac`.
//!
//! The hash of a value is the seed of the next one; a null leaves the seed as it is. Elements of
//! arrays and fields of structs count one by one.

mod hmac;
mod murmur3;
mod xxhash64;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::collections::holds_map;
use super::define::{Call, Function, Param, function};
use murmur3::Murmur3;
use xxhash64::XxHash64;

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        function("hash", &[Param::Any], DataType::Int32, |call| {
            let arrays = arrays(call)?;
            call.values::<Int32Type>(|row| Ok(Some(rows(Murmur3(42), &arrays, row)?.0 as i32)))
        }),
        function("xxhash64", &[Param::Any], DataType::Int64, |call| {
            let arrays = arrays(call)?;
            call.values::<Int64Type>(|row| Ok(Some(rows(XxHash64(42), &arrays, row)?.0 as i64)))
        }),
    ];
    (all.into_iter())
        .map(|function| function.repeated().coerced(hashable))
        .chain([hmac::hmac()])
        .map(Function::udf)
        .collect()
}

/// Spark's `MurmurHash3` of bytes.
pub(super) fn murmur3(bytes: &[u8], seed: i32) -> i32 {
    Murmur3(seed as u32).bytes(bytes).0 as i32
}

/// A hash that is a seed.
trait Seed: Copy {
    /// The hash of four bytes.
    fn int(self, value: i32) -> Self;
    /// The hash of eight bytes.
    fn long(self, value: i64) -> Self;
    /// The hash of any bytes.
    fn bytes(self, value: &[u8]) -> Self;
}

/// What is hashed is hashed as it is, text as plain STRING.
fn hashable(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    (types.iter())
        .map(|given| match given {
            _ if holds_map(given) => plan_err!(
                "[DATATYPE_MISMATCH.HASH_MAP_TYPE] {name} does not take a MAP, whose entries have no order; use map_entries"
            ),
            DataType::LargeUtf8 | DataType::Utf8View => Ok(DataType::Utf8),
            DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Ok(DataType::Binary)
            }
            given => Ok(given.clone()),
        })
        .collect()
}

fn arrays(call: &Call) -> Result<Vec<ArrayRef>> {
    (0..call.len()).map(|index| call.array(index)).collect()
}

fn rows<S: Seed>(seed: S, arrays: &[ArrayRef], row: usize) -> Result<S> {
    let mut columns = arrays.iter();
    columns.try_fold(seed, |seed, array| value(seed, array, row))
}

/// The hash of one value.
fn value<S: Seed>(seed: S, array: &ArrayRef, row: usize) -> Result<S> {
    if array.is_null(row) {
        return Ok(seed);
    }
    Ok(match array.data_type() {
        DataType::Null => seed,
        DataType::Boolean => seed.int(i32::from(array.as_boolean().value(row))),
        DataType::Int8 => seed.int(i32::from(array.as_primitive::<Int8Type>().value(row))),
        DataType::Int16 => seed.int(i32::from(array.as_primitive::<Int16Type>().value(row))),
        DataType::Int32 => seed.int(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => seed.long(array.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => seed.int(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            seed.long(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            seed.long(array.as_primitive::<DurationMicrosecondType>().value(row))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            seed.int(array.as_primitive::<IntervalYearMonthType>().value(row))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let interval = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            let seed = seed.long(interval.nanoseconds / 1_000);
            seed.int(interval.days).int(interval.months)
        }
        // Zeros are equal, and so are all that are no numbers.
        DataType::Float32 => {
            let float = array.as_primitive::<Float32Type>().value(row) + 0.0;
            let float = if float.is_nan() { f32::NAN } else { float };
            seed.int(float.to_bits() as i32)
        }
        DataType::Float64 => {
            let float = array.as_primitive::<Float64Type>().value(row) + 0.0;
            let float = if float.is_nan() { f64::NAN } else { float };
            seed.long(float.to_bits() as i64)
        }
        DataType::Decimal128(precision, _) => {
            let unscaled = array.as_primitive::<Decimal128Type>().value(row);
            if *precision <= 18 {
                seed.long(unscaled as i64)
            } else {
                seed.bytes(two_complement(&unscaled.to_be_bytes()))
            }
        }
        DataType::Utf8 => seed.bytes(array.as_string::<i32>().value(row).as_bytes()),
        DataType::Utf8View => seed.bytes(array.as_string_view().value(row).as_bytes()),
        DataType::Binary => seed.bytes(array.as_binary::<i32>().value(row)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).try_fold(seed, |seed, index| value(seed, &items, index))?
        }
        DataType::Struct(_) => rows(seed, array.as_struct().columns(), row)?,
        other => {
            return exec_err!(
                "a hash does not take {}; use CAST",
                crate::plan::sql::type_name(other)
            );
        }
    })
}

/// The fewest bytes of a number in two's complement, the greatest first.
fn two_complement(bytes: &[u8]) -> &[u8] {
    let needless = |pair: &[u8]| match pair[0] {
        0 => pair[1] < 0x80,
        0xFF => pair[1] >= 0x80,
        _ => false,
    };
    let skipped = bytes.windows(2).take_while(|pair| needless(pair)).count();
    &bytes[skipped..]
}
