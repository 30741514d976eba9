//! Between dates, timestamps and the numbers that stand for them.

use std::sync::Arc;

use arrow::array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, internal_err};
use tidemark_connectors::format::zone::Zone;

use super::numbers::whole_of_double;
use super::{Casting, malformed, overflow};
use crate::plan::functions::decimals::{rescale, shown};
use crate::plan::sql::type_name;
use crate::plan::sql::types::timestamp_type;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

pub(super) fn cast(array: &ArrayRef, to: &DataType, casting: &Casting) -> Result<ArrayRef> {
    use DataType as D;
    let from = array.data_type();
    match (from, to) {
        // All units are read and written as microseconds.
        (D::Timestamp(unit, zone), _) if *unit != TimeUnit::Microsecond => {
            let micros = D::Timestamp(TimeUnit::Microsecond, zone.clone());
            super::cast_array(&arrow_cast(array, &micros)?, to, casting)
        }
        (_, D::Timestamp(unit, zone)) if *unit != TimeUnit::Microsecond => {
            let micros = D::Timestamp(TimeUnit::Microsecond, zone.clone());
            let micros = super::cast_array(array, &micros, casting)?;
            Ok(arrow_cast(&micros, to)?)
        }
        (D::Date32, D::Timestamp(_, zone)) => {
            let zone = zone.as_ref().map_or(Zone::UTC, |_| casting.zone);
            let days = array.as_primitive::<Date32Type>();
            let instants = casting.each::<Date32Type, TimestampMicrosecondType>(
                days,
                |day| zone.to_utc(i64::from(day).checked_mul(DAY)?),
                |day| overflow(format!("{day} days since 1970"), from, to),
            )?;
            Ok(Arc::new(instants.with_data_type(to.clone())))
        }
        (D::Timestamp(_, zone), D::Date32) => {
            let zone = zone.as_ref().map_or(Zone::UTC, |_| casting.zone);
            let dates = array
                .as_primitive::<TimestampMicrosecondType>()
                .unary::<_, Date32Type>(|instant| Casting::to_local(zone, instant).div_euclid(DAY) as i32);
            Ok(Arc::new(dates))
        }
        (D::Timestamp(_, from_zone), D::Timestamp(_, to_zone)) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>();
            let zone = casting.zone;
            let moved: PrimitiveArray<TimestampMicrosecondType> = match (from_zone, to_zone) {
                (Some(_), None) => micros.unary(|instant| Casting::to_local(zone, instant)),
                (None, Some(_)) => casting.each::<_, TimestampMicrosecondType>(
                    micros,
                    |local| zone.to_utc(local),
                    |local| overflow(format!("{local} us since 1970"), from, to),
                )?,
                // Two names of the one zone that instants are kept in.
                _ => micros.clone(),
            };
            Ok(Arc::new(moved.with_data_type(to.clone())))
        }
        (D::Timestamp(..), _) => number_of(array.as_primitive(), to, casting),
        (_, D::Timestamp(..)) => instant_of(array, to, casting),
        _ => internal_err!("no cast from {} to {}", type_name(from), type_name(to)),
    }
}

/// Seconds since 1970.
fn number_of(
    instants: &PrimitiveArray<TimestampMicrosecondType>,
    to: &DataType,
    casting: &Casting,
) -> Result<ArrayRef> {
    match to {
        DataType::Float32 | DataType::Float64 => {
            let seconds =
                instants.unary::<_, Float64Type>(|micros| micros as f64 / SECOND as f64);
            let seconds: ArrayRef = Arc::new(seconds);
            super::cast_array(&seconds, to, casting)
        }
        DataType::Decimal128(..) => {
            let seconds = instants.unary::<_, Decimal128Type>(i128::from);
            let seconds: ArrayRef = Arc::new(seconds.with_data_type(DataType::Decimal128(20, 6)));
            super::cast_array(&seconds, to, casting)
        }
        _ => {
            let seconds = instants.unary::<_, Int64Type>(|micros| micros.div_euclid(SECOND));
            let seconds: ArrayRef = Arc::new(seconds);
            super::cast_array(&seconds, to, casting)
        }
    }
}

/// The instant so many seconds after 1970.
fn instant_of(array: &ArrayRef, to: &DataType, casting: &Casting) -> Result<ArrayRef> {
    let from = array.data_type();
    let instants = match from {
        DataType::Float32 | DataType::Float64 => {
            let seconds = arrow_cast(array, &DataType::Float64)?;
            casting.each::<Float64Type, TimestampMicrosecondType>(
                seconds.as_primitive(),
                |seconds| {
                    let micros = seconds * SECOND as f64;
                    micros.is_finite().then(|| whole_of_double(micros)).flatten()
                },
                |seconds| {
                    if seconds.is_finite() {
                        overflow(seconds, from, &timestamp_type())
                    } else {
                        malformed(&seconds.to_string(), from, &timestamp_type())
                    }
                },
            )?
        }
        DataType::Decimal128(_, scale) => {
            casting.each::<Decimal128Type, TimestampMicrosecondType>(
                array.as_primitive(),
                // Digits behind the microseconds are cut.
                |seconds| {
                    let micros = if *scale > 6 {
                        seconds / 10_i128.checked_pow(u32::from(scale.unsigned_abs()) - 6)?
                    } else {
                        rescale(seconds, *scale, 6)?
                    };
                    i64::try_from(micros).ok()
                },
                |seconds| overflow(shown(seconds, *scale), from, &timestamp_type()),
            )?
        }
        _ => {
            let seconds = arrow_cast(array, &DataType::Int64)?;
            // What is too far away is the last instant there is, as in Spark.
            seconds
                .as_primitive::<Int64Type>()
                .unary(|seconds| seconds.saturating_mul(SECOND))
        }
    };
    Ok(Arc::new(instants.with_data_type(to.clone())))
}
