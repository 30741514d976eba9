//! The aggregates of a batch, as `DataFusion` runs them.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::physical_expr::expressions::Literal;

use super::fold::{Fold, Signature, doubles};
use super::total::Total;
use crate::plan::AggregateFunction as Function;
use crate::row::{BitOperation, Bits, Moments, varint};

/// The accumulator of a call.
pub(super) fn of(function: Function, args: &AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
    let state = match function {
        Function::Statistic(statistic) if !args.is_distinct => {
            State::Moments(Moments::new(statistic))
        }
        Function::Sum | Function::Avg | Function::TrySum | Function::TryAvg
            if !args.is_distinct =>
        {
            State::Total(function, Total::new())
        }
        Function::Bits(operation) if !args.is_distinct => State::Bits(operation, Bits::default()),
        _ => State::Values(BTreeMap::new()),
    };
    let mut types: Vec<DataType> = (args.expr_fields.iter())
        .map(|field| field.data_type().clone())
        .collect();
    for by in args.order_bys {
        types.push(by.expr.data_type(args.schema)?);
    }
    let order: Vec<_> = args.order_bys.iter().map(|by| by.options).collect();
    let constants = args.exprs.iter().map(|expr| {
        let literal = expr.downcast_ref::<Literal>();
        literal.map(|literal| literal.value().clone())
    });
    let fold = Fold::new(
        function,
        Signature {
            types: &types,
            order: &order,
            distinct: args.is_distinct,
            ignore_nulls: args.ignore_nulls,
            constants: constants.collect(),
            output: args.return_type(),
        },
    )?;
    Ok(Box::new(Group { state, fold }))
}

#[derive(Debug)]
enum State {
    Moments(Moments),
    Bits(BitOperation, Bits),
    Total(Function, Total),
    /// Encoded values, each with how often it is there.
    Values(BTreeMap<Box<[u8]>, i64>),
}

#[derive(Debug)]
struct Group {
    state: State,
    fold: Fold,
}

impl Group {
    fn change(&mut self, values: &[ArrayRef], by: i64) -> Result<()> {
        let required = self.fold.shape().required(values);
        let rows = values.first().map_or(0, Array::len);
        let nulls: Vec<_> = required.iter().filter_map(Array::logical_nulls).collect();
        let valid = |row: usize| nulls.iter().all(|nulls| nulls.is_valid(row));
        let rows = (0..rows).filter(|row| valid(*row));
        match &mut self.state {
            State::Moments(moments) => {
                let a = doubles(&values[0])?;
                let b = doubles(values.get(1).unwrap_or(&values[0]))?;
                let (a, b) = (
                    a.as_primitive::<Float64Type>(),
                    b.as_primitive::<Float64Type>(),
                );
                rows.for_each(|row| moments.add(a.value(row), b.value(row), by));
            }
            State::Bits(_, bits) => {
                let wide = cast(&values[0], &DataType::Int64)?;
                let wide = wide.as_primitive::<Int64Type>();
                rows.for_each(|row| bits.add(wide.value(row), by));
            }
            State::Total(_, total) => {
                total.add(&values[0], std::iter::repeat_n(by, values[0].len()))?;
            }
            State::Values(kept) => {
                let encoded = self.fold.shape().encode(values);
                let encoded = encoded.map_err(|error| exec_datafusion_err!("{error}"))?;
                for row in rows {
                    change(kept, encoded.get(row), by);
                }
            }
        }
        Ok(())
    }
}

/// A value comes or goes; what is not there takes no room.
fn change(kept: &mut BTreeMap<Box<[u8]>, i64>, value: &[u8], by: i64) {
    match kept.get_mut(value) {
        Some(count) => {
            *count += by;
            if *count == 0 {
                kept.remove(value);
            }
        }
        None => {
            kept.insert(value.into(), by);
        }
    }
}

impl Accumulator for Group {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match &self.state {
            State::Moments(moments) => Ok(ScalarValue::Float64(moments.finish())),
            State::Bits(operation, bits) => {
                ScalarValue::from(bits.finish(*operation)).cast_to(self.fold.output())
            }
            State::Total(function, total) => total.finish(*function, self.fold.output()),
            State::Values(kept) => {
                let rows = kept.iter().map(|(value, count)| (&value[..], *count));
                self.fold.of(rows)
            }
        }
    }

    fn size(&self) -> usize {
        let kept = match &self.state {
            State::Values(kept) => kept.keys().map(|value| value.len() + 32).sum(),
            _ => 0,
        };
        size_of_val(self) + kept
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = vec![];
        match &self.state {
            State::Moments(moments) => moments.encode(&mut bytes),
            State::Bits(_, bits) => bits.encode(&mut bytes),
            State::Total(_, total) => total.encode(&mut bytes),
            State::Values(kept) => {
                for (value, count) in kept {
                    varint::put_signed(&mut bytes, *count);
                    varint::put(&mut bytes, value.len() as u64);
                    bytes.extend_from_slice(value);
                }
            }
        }
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let broken = || exec_datafusion_err!("a broken partial aggregate");
        for mut bytes in states[0].as_binary::<i32>().iter().flatten() {
            let bytes = &mut bytes;
            match &mut self.state {
                State::Moments(moments) => {
                    moments.merge(&moments.decode_like(bytes).ok_or_else(broken)?);
                }
                State::Total(_, total) => total.merge(bytes).ok_or_else(broken)?,
                State::Bits(_, bits) => bits.merge(&Bits::decode(bytes).ok_or_else(broken)?),
                State::Values(kept) => {
                    while !bytes.is_empty() {
                        let count = varint::take_signed(bytes).ok_or_else(broken)?;
                        let length = varint::take_len(bytes, usize::MAX).ok_or_else(broken)?;
                        let value = varint::take_slice(bytes, length).ok_or_else(broken)?;
                        change(kept, value, count);
                    }
                }
            }
        }
        Ok(())
    }
}
