//! Accumulators in columns: for each call of an aggregate one column, with one entry a group.
//!
//! An accumulator is a commutative group or, for `min`, `max` and sketches over input that never
//! retracts, a commutative idempotent monoid: the order of its input does not show. Sums of doubles
//! are exact ([`ExactSum`]), so that even they depend on nothing but the rows.
//!
//! A group's accumulators are encoded back to back, each delimiting itself, in the order of the
//! calls; the number of the group's rows comes first where it is tracked. That is a group's value
//! in state, and what workers send each other.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};

use crate::operators::OperatorError;
use crate::operators::aggregate::call::{Call, Kind};
use crate::plan::AggregateFunction;
use crate::row::varint;
use crate::row::{ExactSum, HyperLogLog, KeyCodec, RowError, hash};

/// The accumulators of one call.
#[derive(Clone, Debug)]
enum Column {
    Rows,
    Count(Vec<i64>),
    Integer {
        counts: Vec<i64>,
        sums: Vec<i128>,
    },
    Float {
        counts: Vec<i64>,
        sums: Vec<ExactSum>,
    },
    Value(Vec<Option<Box<[u8]>>>),
    Sketch(u8, Vec<HyperLogLog>),
}

/// Accumulators of all calls for any number of groups.
pub struct Groups {
    calls: Arc<[Call]>,
    codecs: Arc<[Option<KeyCodec>]>,
    track_rows: bool,
    rows: Vec<i64>,
    columns: Vec<Column>,
}

impl Groups {
    /// No groups yet. `general` where the input may retract.
    pub fn new(calls: Arc<[Call]>, general: bool) -> Result<Self, RowError> {
        let codecs = calls
            .iter()
            .map(Call::value_codec)
            .collect::<Result<_, _>>()?;
        let track_rows = general || calls.iter().any(|call| call.kind == Kind::Rows);
        let mut groups = Self {
            calls,
            codecs,
            track_rows,
            rows: vec![],
            columns: vec![],
        };
        groups.clear();
        Ok(groups)
    }

    /// Groups of the same calls, `count` of them, all empty.
    #[must_use]
    pub fn like(&self, count: usize) -> Self {
        let mut groups = Self {
            calls: Arc::clone(&self.calls),
            codecs: Arc::clone(&self.codecs),
            track_rows: self.track_rows,
            rows: vec![],
            columns: vec![],
        };
        groups.clear();
        groups.resize(count);
        groups
    }

    /// Forgets all groups.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.columns = self
            .calls
            .iter()
            .map(|call| match call.kind {
                Kind::Rows => Column::Rows,
                Kind::Count | Kind::Distinct => Column::Count(vec![]),
                Kind::Integer => Column::Integer {
                    counts: vec![],
                    sums: vec![],
                },
                Kind::Float => Column::Float {
                    counts: vec![],
                    sums: vec![],
                },
                Kind::Extreme | Kind::First => Column::Value(vec![]),
                Kind::Sketch(precision) => Column::Sketch(precision, vec![]),
            })
            .collect();
    }

    /// Makes room for `count` groups; new ones are empty.
    pub fn resize(&mut self, count: usize) {
        self.rows.resize(count, 0);
        for column in &mut self.columns {
            match column {
                Column::Rows => {}
                Column::Count(counts) => counts.resize(count, 0),
                Column::Integer { counts, sums } => {
                    counts.resize(count, 0);
                    sums.resize(count, 0);
                }
                Column::Float { counts, sums } => {
                    counts.resize(count, 0);
                    sums.resize_with(count, ExactSum::default);
                }
                Column::Value(values) => values.resize(count, None),
                Column::Sketch(precision, sketches) => {
                    sketches.resize_with(count, || HyperLogLog::new(*precision));
                }
            }
        }
    }

    /// How many rows a group has, where that is tracked.
    pub fn rows(&self, group: usize) -> i64 {
        self.rows[group]
    }

    /// The encoded values of a call's arguments, row by row.
    pub fn encode_values(
        &self,
        call: usize,
        arguments: &[ArrayRef],
    ) -> Result<crate::row::Bytes, RowError> {
        match &self.codecs[call] {
            Some(codec) => codec.encode(arguments),
            None => Ok(crate::row::Bytes::default()),
        }
    }

    /// Counts rows: row i belongs to group `of[i]` and comes `diffs[i]` times.
    pub fn add_rows(&mut self, of: &[u32], diffs: Option<&[i64]>) {
        if !self.track_rows {
            return;
        }
        for (row, group) in of.iter().enumerate() {
            self.rows[*group as usize] += diffs.map_or(1, |diffs| diffs[row]);
        }
    }

    /// Accumulates rows of one call: row i belongs to group `of[i]`, counts where `valid(i)`, and
    /// comes `diffs[i]` times. Not for calls that keep values.
    pub fn add(
        &mut self,
        call: usize,
        arguments: &[ArrayRef],
        valid: &BooleanArray,
        of: &[u32],
        diffs: Option<&[i64]>,
    ) -> Result<(), OperatorError> {
        let diff = |row: usize| diffs.map_or(1, |diffs| diffs[row]);
        let rows = || valid.values().set_indices();
        let unsupported = |error: arrow::error::ArrowError| OperatorError::Unsupported {
            expression: self.calls[call].text.clone(),
            reason: error.to_string(),
        };
        // Empty, at no cost, where a call compares and hashes nothing.
        let encoded =
            self.encode_values(call, arguments)
                .map_err(|error| OperatorError::Unsupported {
                    expression: self.calls[call].text.clone(),
                    reason: error.to_string(),
                })?;
        match &mut self.columns[call] {
            Column::Rows => {}
            Column::Count(counts) => rows().for_each(|row| counts[of[row] as usize] += diff(row)),
            Column::Integer { counts, sums } => {
                let mut add = |row: usize, value: i128| {
                    let group = of[row] as usize;
                    counts[group] += diff(row);
                    let sum = value
                        .checked_mul(i128::from(diff(row)))
                        .and_then(|value| sums[group].checked_add(value));
                    sum.map(|sum| sums[group] = sum)
                };
                let fits = if let Some(decimals) = arguments[0].as_primitive_opt::<Decimal128Type>()
                {
                    rows().all(|row| add(row, decimals.value(row)).is_some())
                } else if arguments[0].data_type() == &DataType::UInt64 {
                    let wide =
                        cast(&arguments[0], &DataType::Decimal128(20, 0)).map_err(unsupported)?;
                    let wide = wide.as_primitive::<Decimal128Type>();
                    rows().all(|row| add(row, wide.value(row)).is_some())
                } else {
                    let wide = cast(&arguments[0], &DataType::Int64).map_err(unsupported)?;
                    let wide = wide.as_primitive::<Int64Type>();
                    rows().all(|row| add(row, i128::from(wide.value(row))).is_some())
                };
                if !fits {
                    return Err(self.calls[call].overflow());
                }
            }
            Column::Float { counts, sums } => {
                let wide = cast(&arguments[0], &DataType::Float64).map_err(unsupported)?;
                let wide = wide.as_primitive::<Float64Type>();
                for row in rows() {
                    let group = of[row] as usize;
                    counts[group] += diff(row);
                    sums[group].add(wide.value(row), diff(row));
                }
            }
            Column::Value(values) => {
                let greatest = self.calls[call].function == AggregateFunction::Max;
                rows().for_each(|row| {
                    improve(&mut values[of[row] as usize], encoded.get(row), greatest);
                });
            }
            Column::Sketch(_, sketches) => {
                rows().for_each(|row| sketches[of[row] as usize].add_hash(hash(encoded.get(row))));
            }
        }
        Ok(())
    }

    /// Adds to the number of distinct values of a group.
    pub fn add_distinct(&mut self, call: usize, group: usize, change: i64) {
        if let Column::Count(counts) = &mut self.columns[call] {
            counts[group] += change;
        }
    }

    /// Sets the value of a call that takes the first of a multiset.
    pub fn set_value(&mut self, call: usize, group: usize, value: Option<&[u8]>) {
        if let Column::Value(values) = &mut self.columns[call] {
            values[group] = value.map(Into::into);
        }
    }

    /// Appends the accumulators of one group.
    pub fn encode(&self, group: usize, out: &mut Vec<u8>) {
        if self.track_rows {
            varint::put_signed(out, self.rows[group]);
        }
        for column in &self.columns {
            match column {
                Column::Rows => {}
                Column::Count(counts) => varint::put_signed(out, counts[group]),
                Column::Integer { counts, sums } => {
                    varint::put_signed(out, counts[group]);
                    varint::put_wide(out, sums[group]);
                }
                Column::Float { counts, sums } => {
                    varint::put_signed(out, counts[group]);
                    sums[group].encode(out);
                }
                Column::Value(values) => match &values[group] {
                    None => varint::put(out, 0),
                    Some(value) => {
                        varint::put(out, value.len() as u64 + 1);
                        out.extend_from_slice(value);
                    }
                },
                Column::Sketch(_, sketches) => sketches[group].encode(out),
            }
        }
    }

    /// Takes encoded accumulators into a group. A value of a multiset is taken as it is.
    pub fn merge(&mut self, group: usize, bytes: &[u8]) -> Result<(), RowError> {
        let mut input = bytes;
        let input = &mut input;
        if self.track_rows {
            self.rows[group] += varint::take_signed(input).ok_or_else(damaged)?;
        }
        for (column, call) in self.columns.iter_mut().zip(self.calls.iter()) {
            match column {
                Column::Rows => {}
                Column::Count(counts) => {
                    counts[group] += varint::take_signed(input).ok_or_else(damaged)?;
                }
                Column::Integer { counts, sums } => {
                    counts[group] += varint::take_signed(input).ok_or_else(damaged)?;
                    let sum = varint::take_wide(input).ok_or_else(damaged)?;
                    // Beyond 128 bits the result overflows its type at any rate: it stays there.
                    sums[group] = sums[group].saturating_add(sum);
                }
                Column::Float { counts, sums } => {
                    counts[group] += varint::take_signed(input).ok_or_else(damaged)?;
                    let (sum, used) = ExactSum::decode(input).ok_or_else(damaged)?;
                    *input = &input[used..];
                    sums[group].merge(&sum);
                }
                Column::Value(values) => {
                    let length = varint::take(input).ok_or_else(damaged)? as usize;
                    if length > 0 {
                        let value = input.get(..length - 1).ok_or_else(damaged)?;
                        *input = &input[length - 1..];
                        let greatest =
                            call.function == AggregateFunction::Max && call.kind == Kind::Extreme;
                        improve(&mut values[group], value, greatest);
                    }
                }
                Column::Sketch(_, sketches) => {
                    let (sketch, used) = HyperLogLog::decode(input).ok_or_else(damaged)?;
                    *input = &input[used..];
                    sketches[group].merge(&sketch)?;
                }
            }
        }
        Ok(())
    }

    /// The results of the calls, a column each.
    pub fn finish(&self, groups: &[usize]) -> Result<Vec<ArrayRef>, OperatorError> {
        (0..self.columns.len())
            .map(|call| self.finish_call(call, groups))
            .collect()
    }

    fn finish_call(&self, index: usize, groups: &[usize]) -> Result<ArrayRef, OperatorError> {
        let call = &self.calls[index];
        let average = call.function == AggregateFunction::Avg;
        let column: ArrayRef = match &self.columns[index] {
            Column::Rows => Arc::new(
                groups
                    .iter()
                    .map(|g| Some(self.rows[*g]))
                    .collect::<Int64Array>(),
            ),
            Column::Count(counts) => Arc::new(
                groups
                    .iter()
                    .map(|g| Some(counts[*g]))
                    .collect::<Int64Array>(),
            ),
            Column::Integer { counts, sums } => match &call.output {
                DataType::Decimal128(precision, scale) => {
                    let from = match call.arguments[0] {
                        DataType::Decimal128(_, scale) => scale,
                        _ => 0,
                    };
                    let limit = 10_i128.pow(u32::from(*precision));
                    let values = groups
                        .iter()
                        .map(|g| {
                            if counts[*g] == 0 {
                                return Ok(None);
                            }
                            let factor = 10_i128.pow(u32::try_from(scale - from).unwrap_or(0));
                            sums[*g]
                                .checked_mul(factor)
                                .map(|sum| {
                                    if average {
                                        divide(sum, counts[*g])
                                    } else {
                                        sum
                                    }
                                })
                                .filter(|sum| sum.abs() < limit)
                                .map(Some)
                                .ok_or_else(|| call.overflow())
                        })
                        .collect::<Result<Decimal128Array, _>>()?;
                    let typed = values.with_precision_and_scale(*precision, *scale);
                    Arc::new(typed.map_err(|_| call.overflow())?)
                }
                DataType::Float64 => Arc::new(
                    groups
                        .iter()
                        .map(|g| (counts[*g] != 0).then(|| sums[*g] as f64 / counts[*g] as f64))
                        .collect::<Float64Array>(),
                ),
                _ => Arc::new(
                    groups
                        .iter()
                        .map(|g| {
                            if counts[*g] == 0 {
                                return Ok(None);
                            }
                            i64::try_from(sums[*g])
                                .map(Some)
                                .map_err(|_| call.overflow())
                        })
                        .collect::<Result<Int64Array, _>>()?,
                ),
            },
            Column::Float { counts, sums } => Arc::new(
                groups
                    .iter()
                    .map(|g| {
                        (counts[*g] != 0).then(|| {
                            let sum = sums[*g].value();
                            if average {
                                sum / counts[*g] as f64
                            } else {
                                sum
                            }
                        })
                    })
                    .collect::<Float64Array>(),
            ),
            Column::Value(values) => return self.decode_values(index, values, groups),
            Column::Sketch(_, sketches) => Arc::new(
                groups
                    .iter()
                    .map(|g| Some(sketches[*g].estimate() as i64))
                    .collect::<Int64Array>(),
            ),
        };
        if column.data_type() == &call.output {
            return Ok(column);
        }
        cast(&column, &call.output).map_err(|_| call.overflow())
    }

    fn decode_values(
        &self,
        index: usize,
        values: &[Option<Box<[u8]>>],
        groups: &[usize],
    ) -> Result<ArrayRef, OperatorError> {
        let call = &self.calls[index];
        let broken = |reason: String| OperatorError::Unsupported {
            expression: call.text.clone(),
            reason,
        };
        let Some(codec) = &self.codecs[index] else {
            return Err(broken("it has no codec".into()));
        };
        let present: Vec<&[u8]> = groups
            .iter()
            .filter_map(|g| values[*g].as_deref())
            .collect();
        let decoded = codec
            .decode(present.iter().copied())
            .map_err(|error| broken(error.to_string()))?;
        let mut next = 0;
        let indices: arrow::array::UInt32Array = groups
            .iter()
            .map(|g| {
                values[*g].as_ref().map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let column = arrow::compute::take(&decoded[0], &indices, None)
            .map_err(|error| broken(error.to_string()))?;
        if column.data_type() == &call.output {
            return Ok(column);
        }
        cast(&column, &call.output).map_err(|error| broken(error.to_string()))
    }
}

fn damaged() -> RowError {
    RowError::Corrupt {
        row: 0,
        offset: 0,
        what: "an accumulator ends early",
    }
}

fn improve(slot: &mut Option<Box<[u8]>>, value: &[u8], greatest: bool) {
    let better = match slot {
        None => true,
        Some(old) if greatest => value > &old[..],
        Some(old) => value < &old[..],
    };
    if better {
        *slot = Some(value.into());
    }
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

/// The rows that a call counts: where its filter is true and no argument is null.
pub fn valid_rows(
    rows: usize,
    arguments: &[ArrayRef],
    filter: Option<&BooleanArray>,
) -> BooleanArray {
    let mut nulls = None;
    for argument in arguments {
        nulls = arrow::buffer::NullBuffer::union(nulls.as_ref(), argument.logical_nulls().as_ref());
    }
    if let Some(filter) = filter {
        let truths = match filter.nulls() {
            Some(known) => filter.values() & known.inner(),
            None => filter.values().clone(),
        };
        let truths = arrow::buffer::NullBuffer::new(truths);
        nulls = arrow::buffer::NullBuffer::union(nulls.as_ref(), Some(&truths));
    }
    let values = match nulls {
        Some(nulls) => nulls.into_inner(),
        None => arrow::buffer::BooleanBuffer::new_set(rows),
    };
    BooleanArray::new(values, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: AggregateFunction, argument: DataType, output: DataType) -> Call {
        Call::new(
            function,
            vec![argument],
            output,
            "call".into(),
            (false, false),
        )
        .unwrap()
    }

    #[test]
    fn a_sum_that_does_not_fit_its_type_is_an_error_and_comes_back_by_retraction() {
        let calls: Arc<[Call]> = [call(
            AggregateFunction::Sum,
            DataType::Int64,
            DataType::Int64,
        )]
        .into();
        let mut groups = Groups::new(calls, true).unwrap();
        groups.resize(1);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1]));
        let valid = valid_rows(2, std::slice::from_ref(&values), None);
        groups
            .add(0, &[Arc::clone(&values)], &valid, &[0, 0], None)
            .unwrap();
        assert!(
            groups
                .finish(&[0])
                .unwrap_err()
                .to_string()
                .contains("ARITHMETIC_OVERFLOW")
        );
        groups
            .add(0, &[values], &valid, &[0, 0], Some(&[0, -1]))
            .unwrap();
        assert_eq!(
            groups.finish(&[0]).unwrap()[0]
                .as_primitive::<Int64Type>()
                .value(0),
            i64::MAX
        );
    }

    #[test]
    fn encoded_groups_merge_to_what_all_rows_give() {
        let calls: Arc<[Call]> = [
            call(AggregateFunction::Sum, DataType::Float64, DataType::Float64),
            call(AggregateFunction::Min, DataType::Float64, DataType::Float64),
            call(AggregateFunction::Max, DataType::Float64, DataType::Float64),
            call(
                AggregateFunction::ApproxCountDistinct { precision: 9 },
                DataType::Float64,
                DataType::Int64,
            ),
            call(AggregateFunction::Avg, DataType::Float64, DataType::Float64),
        ]
        .into();
        let run = |values: &[Option<f64>]| {
            let mut groups = Groups::new(Arc::clone(&calls), false).unwrap();
            groups.resize(1);
            let array: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
            let valid = valid_rows(values.len(), std::slice::from_ref(&array), None);
            let of = vec![0; values.len()];
            for index in 0..calls.len() {
                groups
                    .add(index, &[Arc::clone(&array)], &valid, &of, None)
                    .unwrap();
            }
            let mut bytes = vec![];
            groups.encode(0, &mut bytes);
            (groups, bytes)
        };
        let all = [
            Some(0.1),
            Some(1e300),
            None,
            Some(-1e300),
            Some(0.2),
            Some(0.3),
        ];
        let (mut left, _) = run(&all[..3]);
        let (_, right) = run(&all[3..]);
        left.merge(0, &right).unwrap();
        let mut merged = vec![];
        left.encode(0, &mut merged);
        let (whole, bytes) = run(&all);
        assert_eq!(merged, bytes);
        let row = whole.finish(&[0]).unwrap();
        assert_eq!(
            row[0].as_primitive::<Float64Type>().value(0),
            0.1 + (0.2 + 0.3)
        );
        assert_eq!(row[1].as_primitive::<Float64Type>().value(0), -1e300);
        assert_eq!(row[2].as_primitive::<Float64Type>().value(0), 1e300);
        assert_eq!(row[3].as_primitive::<Int64Type>().value(0), 5);
    }

    #[test]
    fn decimal_averages_round_half_away_from_zero() {
        assert_eq!(divide(5, 2), 3);
        assert_eq!(divide(-5, 2), -3);
        assert_eq!(divide(4, 3), 1);
    }
}
