//! `approx_count_distinct(x[, relativeSD])` as Spark has it: about 5 % off unless told otherwise.
//!
//! The planner turns `relativeSD` into the sketch's precision, so that a plan holds
//! `approx_count_distinct(x, precision)`. The batch accumulator here hashes what the engine hashes
//! and uses the engine's sketch, so that a stream and a batch give the same number.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility,
};

use crate::row::{HyperLogLog, KeyCodec, hash};

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
        let keys = KeyCodec::new(&[args.expr_fields[0].data_type().clone()]);
        Ok(Box::new(SketchAccumulator {
            sketch: HyperLogLog::new(precision),
            keys: keys.map_err(|error| exec_datafusion_err!("{error}"))?,
        }))
    }
}

#[derive(Debug)]
struct SketchAccumulator {
    sketch: HyperLogLog,
    keys: KeyCodec,
}

impl Accumulator for SketchAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let keys = self.keys.encode(&values[..1]);
        let keys = keys.map_err(|error| exec_datafusion_err!("{error}"))?;
        for row in 0..values[0].len() {
            if values[0].is_valid(row) {
                self.sketch.add_hash(hash(keys.get(row)));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.sketch.estimate() as i64)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.sketch.encode(&mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in states[0].as_binary::<i32>().iter().flatten() {
            let (other, _) = HyperLogLog::decode(bytes)
                .ok_or_else(|| exec_datafusion_err!("a broken sketch"))?;
            let merged = self.sketch.merge(&other);
            merged.map_err(|error| exec_datafusion_err!("{error}"))?;
        }
        Ok(())
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
}
