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

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};

use crate::operators::OperatorError;
use crate::operators::aggregate::call::{Call, Kind};
use crate::plan::functions::aggregates::total;
use crate::row::varint;
use crate::row::{Bits, ExactSum, HyperLogLog, Moments, RowError, hash};

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
    Moments(Vec<Moments>),
    Bits(Vec<Bits>),
    Value(Vec<Option<Box<[u8]>>>),
    Sketch(u8, Vec<HyperLogLog>),
}

/// Accumulators of all calls for any number of groups.
pub struct Groups {
    calls: Arc<[Call]>,
    track_rows: bool,
    rows: Vec<i64>,
    columns: Vec<Column>,
}

impl Groups {
    /// No groups yet. `general` where the input may retract.
    pub fn new(calls: Arc<[Call]>, general: bool) -> Self {
        let track_rows = general || calls.iter().any(|call| matches!(call.kind, Kind::Rows));
        let mut groups = Self {
            calls,
            track_rows,
            rows: vec![],
            columns: vec![],
        };
        groups.clear();
        groups
    }

    /// Groups of the same calls, `count` of them, all empty.
    #[must_use]
    pub fn like(&self, count: usize) -> Self {
        let mut groups = Self {
            calls: Arc::clone(&self.calls),
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
                Kind::Moments(_) => Column::Moments(vec![]),
                Kind::Bits(_) => Column::Bits(vec![]),
                Kind::Extreme | Kind::First | Kind::Folded(_) => Column::Value(vec![]),
                Kind::Sketch(precision) => Column::Sketch(precision, vec![]),
            })
            .collect();
    }

    /// Makes room for `count` groups; new ones are empty.
    pub fn resize(&mut self, count: usize) {
        self.rows.resize(count, 0);
        for (column, call) in self.columns.iter_mut().zip(self.calls.iter()) {
            match column {
                Column::Rows => {}
                Column::Count(counts) => counts.resize(count, 0),
                Column::Moments(moments) => {
                    if let Kind::Moments(statistic) = call.kind {
                        moments.resize_with(count, || Moments::new(statistic));
                    }
                }
                Column::Bits(bits) => bits.resize_with(count, Bits::default),
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
        let encoded = self.calls[call].encode_values(arguments).map_err(|error| {
            OperatorError::Unsupported {
                expression: self.calls[call].text.clone(),
                reason: error.to_string(),
            }
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
                    let wide = total::whole(&arguments[0]).map_err(unsupported)?;
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
            Column::Moments(moments) => {
                let double = |index: usize| cast(&arguments[index], &DataType::Float64);
                let a = double(0).map_err(unsupported)?;
                let b = double(arguments.len() - 1).map_err(unsupported)?;
                let a = a.as_primitive::<Float64Type>();
                let b = b.as_primitive::<Float64Type>();
                for row in rows() {
                    moments[of[row] as usize].add(a.value(row), b.value(row), diff(row));
                }
            }
            Column::Bits(bits) => {
                let wide = cast(&arguments[0], &DataType::Int64).map_err(unsupported)?;
                let wide = wide.as_primitive::<Int64Type>();
                rows().for_each(|row| bits[of[row] as usize].add(wide.value(row), diff(row)));
            }
            Column::Value(values) => rows().for_each(|row| {
                improve(&mut values[of[row] as usize], encoded.get(row));
            }),
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

    /// Sets the value of a call that takes the first of a multiset, or is computed from it.
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
                Column::Moments(moments) => moments[group].encode(out),
                Column::Bits(bits) => bits[group].encode(out),
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
        for column in &mut self.columns {
            match column {
                Column::Rows => {}
                Column::Moments(moments) => {
                    let theirs = moments[group].decode_like(input).ok_or_else(damaged)?;
                    moments[group].merge(&theirs);
                }
                Column::Bits(bits) => {
                    bits[group].merge(&Bits::decode(input).ok_or_else(damaged)?);
                }
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
                        improve(&mut values[group], value);
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
        let whole = |of: &dyn Fn(usize) -> Option<i64>| -> ArrayRef {
            Arc::new(groups.iter().map(|g| of(*g)).collect::<Int64Array>())
        };
        let real = |of: &dyn Fn(usize) -> Option<f64>| -> ArrayRef {
            Arc::new(groups.iter().map(|g| of(*g)).collect::<Float64Array>())
        };
        let column: ArrayRef = match &self.columns[index] {
            Column::Rows => whole(&|g| Some(self.rows[g])),
            Column::Count(counts) => whole(&|g| Some(counts[g])),
            Column::Integer { counts, sums } => match &call.output {
                DataType::Float64 => {
                    real(&|g| (counts[g] != 0).then(|| sums[g] as f64 / counts[g] as f64))
                }
                _ => return finish_whole(call, counts, sums, groups),
            },
            Column::Float { counts, sums } => real(&|g| {
                (counts[g] != 0).then(|| match sums[g].value() {
                    sum if call.is_average() => sum / counts[g] as f64,
                    sum => sum,
                })
            }),
            Column::Moments(moments) => real(&|g| moments[g].finish()),
            Column::Bits(bits) => match call.kind {
                Kind::Bits(operation) => whole(&|g| bits[g].finish(operation)),
                _ => return Err(call.overflow()),
            },
            Column::Value(values) => {
                let kept: Vec<_> = groups.iter().map(|g| values[*g].as_deref()).collect();
                return call.decode(&kept);
            }
            Column::Sketch(_, sketches) => whole(&|g| Some(sketches[g].estimate() as i64)),
        };
        if column.data_type() == &call.output {
            return Ok(column);
        }
        cast(&column, &call.output).map_err(|_| call.overflow())
    }
}

/// Sums and averages of whole numbers and decimals that are no doubles.
fn finish_whole(
    call: &Call,
    counts: &[i64],
    sums: &[i128],
    groups: &[usize],
) -> Result<ArrayRef, OperatorError> {
    let from = match call.arguments[0] {
        DataType::Decimal128(_, scale) => scale,
        _ => 0,
    };
    let values = (groups.iter())
        .map(|g| {
            let (sum, count) = (sums[*g], counts[*g]);
            if count == 0 {
                return Ok(None);
            }
            let average_of = call.is_average().then_some(count);
            match total::fitted(sum, from, average_of, &call.output) {
                None if !call.tries() => Err(call.overflow()),
                fitted => Ok(fitted),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    total::typed(values, &call.output).map_err(|_| call.overflow())
}

fn damaged() -> RowError {
    RowError::Corrupt {
        row: 0,
        offset: 0,
        what: "an accumulator ends early",
    }
}

/// The least row stays; the greatest values are encoded in descending order.
fn improve(slot: &mut Option<Box<[u8]>>, value: &[u8]) {
    if slot.as_deref().is_none_or(|old| value < old) {
        *slot = Some(value.into());
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
    use crate::plan::{AggregateCall, AggregateFunction};

    fn call(function: AggregateFunction, argument: DataType, output: DataType) -> Call {
        let call = AggregateCall {
            function,
            args: vec![],
            order: vec![],
            distinct: false,
            ignore_nulls: false,
            filter: None,
        };
        Call::new(&call, vec![argument], output, "call".into(), false).unwrap()
    }

    #[test]
    fn a_sum_that_does_not_fit_its_type_is_an_error_and_comes_back_by_retraction() {
        let calls: Arc<[Call]> = [call(
            AggregateFunction::Sum,
            DataType::Int64,
            DataType::Int64,
        )]
        .into();
        let mut groups = Groups::new(calls, true);
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
            let mut groups = Groups::new(Arc::clone(&calls), false);
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
}
