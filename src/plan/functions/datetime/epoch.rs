//! Timestamps from and to counts since 1970-01-01 00:00 UTC.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::{SECOND, overflow};
use crate::plan::functions::define::{Call, Param, function};
use crate::plan::sql::types::timestamp_type;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        function(
            "timestamp_seconds",
            &[Param::Number],
            timestamp_type(),
            timestamp_seconds,
        )
        .udf(),
    ];
    for (name, micros) in [("timestamp_millis", 1_000), ("timestamp_micros", 1)] {
        let compute = move |call: &Call| from_whole::<Int64Type>(call, micros);
        all.push(function(name, &[Param::Long], timestamp_type(), compute).udf());
    }
    for (name, micros) in [
        ("unix_seconds", SECOND),
        ("unix_millis", 1_000),
        ("unix_micros", 1),
    ] {
        let compute = move |call: &Call| {
            let times = call.primitive::<TimestampMicrosecondType>(0);
            call.values::<Int64Type>(|row| Ok(times.get(row).map(|time| time.div_euclid(micros))))
        };
        all.push(function(name, &[Param::Timestamp], DataType::Int64, compute).udf());
    }
    all
}

fn from_whole<T: ArrowPrimitiveType<Native: Into<i64>>>(
    call: &Call,
    micros: i64,
) -> Result<ArrayRef> {
    let numbers = call.primitive::<T>(0);
    call.values::<TimestampMicrosecondType>(|row| {
        let Some(number) = numbers.get(row) else {
            return Ok(None);
        };
        let time = number.into().checked_mul(micros);
        time.ok_or_else(overflow).map(Some)
    })
}

fn from_float<T: ArrowPrimitiveType<Native: Into<f64>>>(call: &Call) -> Result<ArrayRef> {
    let numbers = call.primitive::<T>(0);
    call.values::<TimestampMicrosecondType>(|row| {
        let seconds: Option<f64> = numbers.get(row).map(Into::into);
        // As in Java, a number beyond the range is the nearest there is.
        let micros = |seconds: f64| (seconds * SECOND as f64) as i64;
        Ok(seconds.filter(|seconds| seconds.is_finite()).map(micros))
    })
}

fn timestamp_seconds(call: &Call) -> Result<ArrayRef> {
    match call.data_type(0) {
        DataType::Int8 => from_whole::<Int8Type>(call, SECOND),
        DataType::Int16 => from_whole::<Int16Type>(call, SECOND),
        DataType::Int32 => from_whole::<Int32Type>(call, SECOND),
        DataType::Int64 => from_whole::<Int64Type>(call, SECOND),
        DataType::Float32 => from_float::<Float32Type>(call),
        DataType::Float64 => from_float::<Float64Type>(call),
        DataType::Decimal128(_, scale) => {
            let divisor = 10_i128.pow(u32::try_from(*scale).unwrap_or(0));
            let numbers = call.primitive::<Decimal128Type>(0);
            call.values::<TimestampMicrosecondType>(|row| {
                let Some(number) = numbers.get(row) else {
                    return Ok(None);
                };
                let micros = number.checked_mul(SECOND.into()).ok_or_else(overflow)?;
                if micros % divisor != 0 {
                    return exec_err!(
                        "timestamp_seconds takes no fractions of a microsecond; use round(x, 6)"
                    );
                }
                i64::try_from(micros / divisor)
                    .map_err(|_| overflow())
                    .map(Some)
            })
        }
        other => exec_err!("timestamp_seconds takes no {other}"),
    }
}
