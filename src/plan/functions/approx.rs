//! `approx_count_distinct(x[, relativeSD])` as Spark has it: about 5 % off unless told otherwise.
//!
//! The planner turns `relativeSD` into the sketch's precision, so that a plan holds
//! `approx_count_distinct(x, precision)`. The batch accumulator here hashes what the engine hashes
//! and uses the engine's sketch, so that a stream and a batch give the same number.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility,
};

use sketch::{Sketch, hash_key};

/// The precision for Spark's default relative standard deviation of 5 %.
pub const DEFAULT_PRECISION: u8 = 9;

/// The function.
pub fn approx_count_distinct() -> Arc<AggregateUDF> {
    static FUNCTION: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
        Arc::new(AggregateUDF::new_from_impl(ApproxCountDistinct {
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    });
    Arc::clone(&FUNCTION)
}

/// The sketch's precision (2^p registers) for a relative standard deviation, Spark's formula.
pub fn precision_of(relative_sd: f64) -> Option<u8> {
    let precision = (2.0 * (1.106 / relative_sd).log2()).ceil();
    (4.0..=16.0).contains(&precision).then_some(precision as u8)
}

/// Turns the second argument from `relativeSD` into the precision.
pub(crate) fn planned_args(args: Vec<Expr>) -> Result<Vec<Expr>> {
    let mut args = args.into_iter();
    let Some(value) = args.next() else {
        return plan_err!("approx_count_distinct needs an argument");
    };
    let precision = match args.next() {
        None => DEFAULT_PRECISION,
        Some(expr) => {
            let number = match unaliased(&expr) {
                Expr::Literal(scalar, _) => scalar.cast_to(&DataType::Float64).ok(),
                Expr::Cast(cast) => match &*cast.expr {
                    Expr::Literal(scalar, _) => scalar.cast_to(&DataType::Float64).ok(),
                    _ => None,
                },
                _ => None,
            };
            match number {
                Some(ScalarValue::Float64(Some(sd))) if precision_of(sd).is_some() => {
                    precision_of(sd).unwrap_or(DEFAULT_PRECISION)
                }
                _ => {
                    return plan_err!(
                        "approx_count_distinct: relativeSD must be a constant between 0.0044 and 0.27"
                    );
                }
            }
        }
    };
    if args.next().is_some() {
        return plan_err!("approx_count_distinct takes a value and a relativeSD");
    }
    Ok(vec![
        value,
        datafusion::logical_expr::lit(i32::from(precision)),
    ])
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxCountDistinct {
    signature: Signature,
}

impl AggregateUDFImpl for ApproxCountDistinct {
    fn name(&self) -> &'static str {
        "approx_count_distinct"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value] => Ok(vec![value.clone()]),
            [value, _] => Ok(vec![value.clone(), DataType::Int32]),
            _ => plan_err!("approx_count_distinct takes a value and a relativeSD"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            format_state_name(args.name, "sketch"),
            DataType::Binary,
            false,
        ))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let precision = match args.exprs.get(1) {
            None => DEFAULT_PRECISION,
            Some(expr) => {
                let literal =
                    expr.downcast_ref::<datafusion::physical_expr::expressions::Literal>();
                match literal.map(datafusion::physical_expr::expressions::Literal::value) {
                    Some(ScalarValue::Int32(Some(p))) if (4..=16).contains(p) => *p as u8,
                    _ => {
                        return plan_err!(
                            "approx_count_distinct: the precision must be a constant from 4 to 16"
                        );
                    }
                }
            }
        };
        let field = SortField::new(args.expr_fields[0].data_type().clone());
        Ok(Box::new(SketchAccumulator {
            sketch: Sketch::new(precision),
            keys: RowConverter::new(vec![field])?,
        }))
    }
}

#[derive(Debug)]
struct SketchAccumulator {
    sketch: Sketch,
    keys: RowConverter,
}

impl Accumulator for SketchAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = self.keys.convert_columns(&values[..1])?;
        for row in 0..values[0].len() {
            if values[0].is_valid(row) {
                self.sketch.add_hash(hash_key(rows.row(row).as_ref()));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.sketch.estimate() as i64)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.keys.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.sketch.encode(&mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in states[0].as_binary::<i32>().iter().flatten() {
            let (other, _) =
                Sketch::decode(bytes).ok_or_else(|| exec_datafusion_err!("a broken sketch"))?;
            self.sketch.merge(&other);
        }
        Ok(())
    }
}

/// The engine's sketch and hash, as far as the accumulator needs them.
mod sketch {
    use std::hash::Hasher;

    /// `HyperLogLog` with 2^`precision` registers.
    #[derive(Debug)]
    pub(super) struct Sketch {
        precision: u8,
        registers: Vec<u8>,
    }

    impl Sketch {
        pub(super) fn new(precision: u8) -> Self {
            Self {
                precision,
                registers: vec![0; 1 << precision],
            }
        }

        pub(super) fn add_hash(&mut self, hash: u64) {
            let index = (hash >> (64 - self.precision)) as usize;
            // The bit set at the end bounds the rank where all others are zero.
            let rest = (hash << self.precision) | (1 << (self.precision - 1));
            let rank = rest.leading_zeros() as u8 + 1;
            self.registers[index] = self.registers[index].max(rank);
        }

        pub(super) fn merge(&mut self, other: &Self) {
            for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
                *mine = (*mine).max(*theirs);
            }
        }

        pub(super) fn estimate(&self) -> u64 {
            let count = self.registers.len() as f64;
            let sum: f64 = self.registers.iter().map(|r| (-f64::from(*r)).exp2()).sum();
            let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
            let zeros: usize = self.registers.iter().map(|r| usize::from(*r == 0)).sum();
            if raw <= 2.5 * count && zeros > 0 {
                (count * (count / zeros as f64).ln()).round() as u64
            } else {
                raw.round() as u64
            }
        }

        pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
            bytes.push(self.precision);
            bytes.extend_from_slice(&self.registers);
        }

        pub(super) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
            let (&precision, rest) = bytes.split_first()?;
            let registers = rest.get(..1_usize.checked_shl(precision.into())?)?.to_vec();
            Some((
                Self {
                    precision,
                    registers,
                },
                rest.len() + 1,
            ))
        }
    }

    /// A well-mixed hash that is the same in every process.
    pub(super) fn hash_key(key: &[u8]) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(key);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparks_default_is_nine_bits() {
        assert_eq!(precision_of(0.05), Some(DEFAULT_PRECISION));
        assert_eq!(precision_of(0.01), Some(14));
        assert_eq!(precision_of(0.000_1), None);
        assert_eq!(precision_of(0.9), None);
    }

    #[test]
    fn the_estimate_is_near_and_survives_merge_and_encoding() {
        let (mut left, mut right) = (Sketch::new(12), Sketch::new(12));
        for n in 0..20_000_u64 {
            let target = if n % 2 == 0 { &mut left } else { &mut right };
            target.add_hash(hash_key(&n.to_be_bytes()));
        }
        let mut bytes = Vec::new();
        right.encode(&mut bytes);
        let (decoded, _) = Sketch::decode(&bytes).expect("what was encoded");
        left.merge(&decoded);
        let off = (left.estimate() as f64 / 20_000.0 - 1.0).abs();
        assert!(off < 0.06, "{}", left.estimate());
    }
}
