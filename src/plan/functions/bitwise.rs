//! Spark's functions of bits.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Int8Type, Int32Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::define::{Call, Function, Gives, Param, function, unexpected};

use DataType::{Int8, Int16, Int32, Int64};
use Param::{Any, Int, IntOrLong};

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        function("bit_count", &[Any], Int32, |call| {
            let number = call.longs(0);
            call.values::<Int32Type>(|row| Ok(number.get(row).map(|n| n.count_ones() as i32)))
        })
        .coerced(|name, types| match &types[0] {
            DataType::Boolean | DataType::Null => Ok(vec![Int64]),
            other => whole(name, other).map(|_| vec![Int64]),
        }),
        function("bit_get", &[Any, Int], Int8, bit_get)
            .also(&["getbit"])
            .coerced(|name, types| {
                Ok(vec![
                    whole(name, &types[0])?,
                    Int.coerce(name, 1, &types[1])?,
                ])
            }),
        shift("shiftleft", i32::wrapping_shl, i64::wrapping_shl),
        shift("shiftright", i32::wrapping_shr, i64::wrapping_shr),
        shift(
            "shiftrightunsigned",
            |n, by| (n as u32).wrapping_shr(by) as i32,
            |n, by| (n as u64).wrapping_shr(by) as i64,
        ),
    ];
    all.into_iter().map(Function::udf).collect()
}

/// Whole numbers as they are, NULL as INT.
fn whole(name: &str, given: &DataType) -> Result<DataType> {
    match given {
        Int8 | Int16 | Int32 | Int64 => Ok(given.clone()),
        DataType::Null => Ok(Int32),
        other => unexpected(name, 0, "a whole number", other),
    }
}

fn bit_get(call: &Call) -> Result<ArrayRef> {
    let bits = match call.data_type(0) {
        Int8 => 8,
        Int16 => 16,
        Int32 => 32,
        _ => 64,
    };
    let number = arrow::compute::cast(&call.array(0)?, &Int64)?;
    let number = arrow::array::AsArray::as_primitive::<Int64Type>(&number);
    let place = call.ints(1);
    call.values::<Int8Type>(|row| {
        let Some(place) = place.get(row).filter(|_| !arrow::array::Array::is_null(number, row))
        else {
            return Ok(None);
        };
        if !(0..bits).contains(&place) {
            return exec_err!(
                "[INVALID_PARAMETER_VALUE.BIT_POSITION_RANGE] bit_get: the number has the bits 0 to {}, and {place} was asked for; use CAST to a wider type",
                bits - 1
            );
        }
        Ok(Some((number.value(row) >> place & 1) as i8))
    })
}

/// A shift of an INT or BIGINT by the last 5 or 6 bits of an INT.
fn shift(name: &'static str, int: fn(i32, u32) -> i32, long: fn(i64, u32) -> i64) -> Function {
    let gives = Gives::Of(|types, _| Ok(types[0].clone()));
    function(name, &[IntOrLong, Int], gives, move |call| {
        let by = call.ints(1);
        if *call.data_type(0) == Int32 {
            let number = call.ints(0);
            return call.values::<Int32Type>(|row| {
                let both = number.get(row).zip(by.get(row));
                Ok(both.map(|(n, by)| int(n, by as u32)))
            });
        }
        let number = call.longs(0);
        call.values::<Int64Type>(|row| {
            let both = number.get(row).zip(by.get(row));
            Ok(both.map(|(n, by)| long(n, by as u32)))
        })
    })
}
