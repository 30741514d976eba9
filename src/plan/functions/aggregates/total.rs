//! Sums and averages: exact inside, rounded or refused once at the end.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err};

use crate::plan::AggregateFunction as Function;
use crate::plan::sql::type_name;
use crate::row::{ExactSum, varint};

/// The sum of values of one type.
#[derive(Clone, Debug, Default)]
pub struct Total {
    count: i64,
    /// Of whole numbers, and of decimals in units of their last digit; `None` beyond 128 bits.
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
        let wide = match values.data_type() {
            DataType::Decimal128(..) => ArrayRef::clone(values),
            _ => cast(
                &cast(values, &DataType::Int64)?,
                &DataType::Decimal128(38, 0),
            )?,
        };
        if let DataType::Decimal128(_, scale) = wide.data_type() {
            self.scale = *scale;
        }
        let wide = wide.as_primitive::<Decimal128Type>();
        for (row, count) in rows {
            self.count += count;
            let product = wide.value(row).checked_mul(i128::from(count));
            let sum = self.whole.zip(product);
            self.whole = sum.and_then(|(sum, product)| sum.checked_add(product));
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
            DataType::Decimal128(precision, scale) => self.whole.and_then(|sum| {
                let value = decimal(sum, self.scale, average.then_some(self.count), output)?;
                Some(ScalarValue::Decimal128(Some(value), *precision, *scale))
            }),
            DataType::Float64 if self.whole == Some(0) => {
                Some(ScalarValue::from(real(self.real.value())))
            }
            DataType::Float64 => self.whole.map(|sum| ScalarValue::from(real(sum as f64))),
            _ => {
                let sum = self.whole.and_then(|sum| i64::try_from(sum).ok());
                sum.map(ScalarValue::from)
            }
        };
        match found {
            Some(value) => Ok(value),
            None if matches!(function, Function::TrySum | Function::TryAvg) => {
                ScalarValue::try_from(output)
            }
            None => exec_err!(
                "[ARITHMETIC_OVERFLOW] the sum overflows {}; use a wider type, such as DECIMAL(38, 0) or DOUBLE, or try_sum where NULL will do",
                type_name(output)
            ),
        }
    }
}

/// A sum with `scale` digits after the point, divided by `count` where that is given, as the
/// decimal type `output`, rounded half away from zero; `None` if it does not fit.
pub fn decimal(sum: i128, scale: i8, count: Option<i64>, output: &DataType) -> Option<i128> {
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
