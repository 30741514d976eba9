//! Sums and averages: exact inside, rounded or refused once at the end.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, IntervalUnit,
    IntervalYearMonthType,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err};

use crate::plan::AggregateFunction as Function;
use crate::plan::sql::type_name;
use crate::row::{ExactSum, varint};

/// The sum of values of one type.
#[derive(Clone, Debug, Default)]
pub struct Total {
    count: i64,
    /// Of [`whole`] numbers, and of decimals in units of their last digit; `None` beyond 128 bits.
    whole: Option<i128>,
    real: ExactSum,
    /// Digits after the point of what was added.
    scale: i8,
}

impl Total {
    /// The sum of nothing.
    pub fn new() -> Self {
        Self {
            whole: Some(0),
            ..Self::default()
        }
    }

    /// Adds the values that are not null, each as often as `counts` says.
    pub fn add(&mut self, values: &ArrayRef, counts: impl Iterator<Item = i64>) -> Result<()> {
        let rows = (0..values.len()).zip(counts);
        let rows = rows.filter(|(row, _)| values.is_valid(*row));
        if values.data_type().is_floating() {
            let values = cast(values, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            for (row, count) in rows {
                self.count += count;
                self.real.add(values.value(row), count);
            }
            return Ok(());
        }
        let mut add = |value: i128, count: i64| {
            self.count += count;
            let sum = self.whole.zip(value.checked_mul(i128::from(count)));
            self.whole = sum.and_then(|(sum, product)| sum.checked_add(product));
        };
        if let DataType::Decimal128(_, scale) = values.data_type() {
            self.scale = *scale;
            let values = values.as_primitive::<Decimal128Type>();
            rows.for_each(|(row, count)| add(values.value(row), count));
        } else {
            let values = whole(values)?;
            rows.for_each(|(row, count)| add(i128::from(values.value(row)), count));
        }
        Ok(())
    }

    /// Appends the sum.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put_signed(out, self.count);
        varint::put_signed(out, i64::from(self.scale));
        out.push(u8::from(self.whole.is_some()));
        varint::put_wide(out, self.whole.unwrap_or_default());
        self.real.encode(out);
    }

    /// Adds what [`Total::encode`] wrote, of values of the same type, and takes it off the front of
    /// `bytes`; `None` if it was not that.
    pub fn merge(&mut self, bytes: &mut &[u8]) -> Option<()> {
        self.count += varint::take_signed(bytes)?;
        self.scale = self
            .scale
            .max(i8::try_from(varint::take_signed(bytes)?).ok()?);
        let [fits] = varint::take_array::<1>(bytes)?;
        let whole = varint::take_wide(bytes)?;
        let whole = self.whole.zip((fits != 0).then_some(whole));
        self.whole = whole.and_then(|(ours, theirs)| ours.checked_add(theirs));
        let (real, used) = ExactSum::decode(bytes)?;
        *bytes = &bytes[used..];
        self.real.merge(&real);
        Some(())
    }

    /// The sum or average as `function` has it; null of no values.
    pub fn finish(&self, function: Function, output: &DataType) -> Result<ScalarValue> {
        let average = matches!(function, Function::Avg | Function::TryAvg);
        let real = |sum: f64| {
            if average {
                sum / self.count as f64
            } else {
                sum
            }
        };
        if self.count <= 0 {
            return ScalarValue::try_from(output);
        }
        let found = match output {
            DataType::Float64 if self.whole == Some(0) => {
                Some(ScalarValue::from(real(self.real.value())))
            }
            DataType::Float64 => self.whole.map(|sum| ScalarValue::from(real(sum as f64))),
            _ => {
                let count = average.then_some(self.count);
                let value = self.whole;
                let value = value.and_then(|sum| fitted(sum, self.scale, count, output));
                value
                    .map(|value| ScalarValue::try_from_array(&typed([Some(value)], output)?, 0))
                    .transpose()?
            }
        };
        match found {
            Some(value) => Ok(value),
            None if matches!(function, Function::TrySum | Function::TryAvg) => {
                ScalarValue::try_from(output)
            }
            None => exec_err!("{}", overflow("the sum", output)),
        }
    }
}

/// Whole numbers as such, intervals in their unit: months or microseconds.
pub fn whole(values: &ArrayRef) -> std::result::Result<Int64Array, ArrowError> {
    if let Some(months) = values.as_primitive_opt::<IntervalYearMonthType>() {
        return Ok(months.unary(i64::from));
    }
    Ok(cast(values, &DataType::Int64)?.as_primitive().clone())
}

/// What a sum of [`whole`] numbers or of decimals with `scale` digits after the point gives as the
/// type `output`, divided by `count` where that is given; `None` if it does not fit.
pub fn fitted(sum: i128, scale: i8, count: Option<i64>, output: &DataType) -> Option<i128> {
    let fits = match output {
        DataType::Decimal128(..) => return decimal(sum, scale, count, output),
        DataType::Interval(IntervalUnit::YearMonth) => i32::try_from(sum).is_ok(),
        _ => i64::try_from(sum).is_ok(),
    };
    fits.then(|| count.map_or(sum, |count| divide(sum, count)))
}

/// A column of values that [`fitted`] their type.
pub fn typed(
    values: impl IntoIterator<Item = Option<i128>>,
    output: &DataType,
) -> std::result::Result<ArrayRef, ArrowError> {
    let values = values.into_iter();
    match output {
        DataType::Decimal128(precision, scale) => {
            let values: Decimal128Array = values.collect();
            Ok(Arc::new(
                values.with_precision_and_scale(*precision, *scale)?,
            ))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let months = values.map(|value| value.map(|value| value as i32));
            let months: ArrayRef = Arc::new(months.collect::<PrimitiveArray<Int32Type>>());
            cast(&months, output)
        }
        _ => {
            let whole = values.map(|value| value.map(|value| value as i64));
            let whole: ArrayRef = Arc::new(whole.collect::<PrimitiveArray<Int64Type>>());
            cast(&whole, output)
        }
    }
}

/// The error of a result that does not fit its type, with Spark's class.
pub fn overflow(what: &str, output: &DataType) -> String {
    let (class, remedy) = match output {
        DataType::Interval(_) | DataType::Duration(_) => (
            "INTERVAL_ARITHMETIC_OVERFLOW.WITH_SUGGESTION",
            "use try_sum or try_avg where NULL will do",
        ),
        _ => (
            "ARITHMETIC_OVERFLOW",
            "use a wider type, such as DECIMAL(38, 0) or DOUBLE, or try_sum where NULL will do",
        ),
    };
    let wanted = type_name(output);
    format!("[{class}] {what} overflows {wanted}; {remedy}")
}

/// A sum with `scale` digits after the point, divided by `count` where that is given, as the
/// decimal type `output`, rounded half away from zero; `None` if it does not fit.
fn decimal(sum: i128, scale: i8, count: Option<i64>, output: &DataType) -> Option<i128> {
    let DataType::Decimal128(precision, to) = output else {
        return None;
    };
    let digits = u32::try_from(to - scale).unwrap_or(0);
    let sum = sum.checked_mul(10_i128.checked_pow(digits)?)?;
    let value = count.map_or(sum, |count| divide(sum, count));
    let limit = 10_u128.checked_pow(u32::from(*precision))?;
    (value.unsigned_abs() < limit).then_some(value)
}

/// Rounds half away from zero, as decimals do.
fn divide(sum: i128, count: i64) -> i128 {
    let count = i128::from(count);
    let (quotient, rest) = (sum / count, sum % count);
    if rest.abs() * 2 >= count.abs() {
        quotient + sum.signum() * count.signum()
    } else {
        quotient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_averages_round_half_away_from_zero() {
        let of = |sum, count| decimal(sum, 0, Some(count), &DataType::Decimal128(2, 0));
        assert_eq!(of(5, 2), Some(3));
        assert_eq!(of(-5, 2), Some(-3));
        assert_eq!(of(4, 3), Some(1));
        assert_eq!(of(250, 2), None);
    }
}
