//! What becomes of a group's values: they are looked at in their order, each with its count.
//!
//! The same code answers a stream, whose values lie in a trace beside the groups, and a batch.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortOptions, cast, filter, is_not_null, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};

use super::shape::Shape;
use super::total::{Total, whole};
use super::{bitmap, count_min, percentile};
use crate::plan::AggregateFunction as Function;
use crate::row::{Bits, Bytes, KeyCodec, Moments};

/// How many values `approx_top_k` gives where the call does not say.
const TOP_K: usize = 5;

/// A call that is computed from its values.
#[derive(Debug)]
pub struct Fold {
    function: Function,
    distinct: bool,
    /// The arguments that are the same for all rows.
    constants: Vec<Option<ScalarValue>>,
    shape: Shape,
    output: DataType,
}

/// What a call is, beside its function.
#[derive(Debug)]
pub struct Signature<'a> {
    /// The types of the arguments, then of what the rows are ordered by.
    pub types: &'a [DataType],
    /// How the rows are ordered.
    pub order: &'a [SortOptions],
    /// Each value once.
    pub distinct: bool,
    /// `first` and its like pass over nulls.
    pub ignore_nulls: bool,
    /// The arguments that are the same for all rows, by position.
    pub constants: Vec<Option<ScalarValue>>,
    /// The type of the result.
    pub output: &'a DataType,
}

/// The distinct rows of a group in their order.
pub(super) struct Values {
    /// The first argument of each row.
    pub(super) first: ArrayRef,
    /// The other kept columns, by argument.
    second: Option<ArrayRef>,
    /// How often each is there: more than 0.
    pub(super) counts: Vec<i64>,
}

impl Fold {
    /// Prepares a call.
    pub fn new(function: Function, call: Signature<'_>) -> Result<Self> {
        let flags = (call.distinct, call.ignore_nulls);
        let shape = Shape::new(function, call.types, call.order, flags);
        Ok(Self {
            function,
            distinct: call.distinct,
            constants: call.constants,
            shape: shape.map_err(|error| exec_datafusion_err!("{error}"))?,
            output: call.output.clone(),
        })
    }

    /// Which values of a row are kept.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The type of the result.
    pub fn output(&self) -> &DataType {
        &self.output
    }

    /// The result of the rows of one group, encoded by the shape, ascending and distinct, each with
    /// how often it is there. Counts of 0 and below are no rows.
    pub fn of<'a>(&self, rows: impl Iterator<Item = (&'a [u8], i64)>) -> Result<ScalarValue> {
        let (mut bytes, mut counts) = (Bytes::new(), vec![]);
        let failed = |error| exec_datafusion_err!("{error}");
        for (row, count) in rows.filter(|(_, count)| *count > 0) {
            bytes.try_push(row).map_err(failed)?;
            counts.push(if self.distinct { 1 } else { count });
        }
        let columns = self.shape.decode(bytes.iter()).map_err(failed)?;
        let column = |index| {
            self.shape
                .position(index)
                .map(|at| ArrayRef::clone(&columns[at]))
        };
        let Some(values) = column(0) else {
            return Err(exec_datafusion_err!("an aggregate without an argument"));
        };
        self.finish(&Values {
            first: values,
            second: column(1).or_else(|| column(2)),
            counts,
        })
    }

    fn finish(&self, group: &Values) -> Result<ScalarValue> {
        let output = &self.output;
        match self.function {
            Function::Sum | Function::Avg | Function::TrySum | Function::TryAvg => {
                let mut total = Total::new();
                total.add(&group.first, group.counts.iter().copied())?;
                total.finish(self.function, output)
            }
            Function::Statistic(statistic) => {
                let mut moments = Moments::new(statistic);
                let second = group.second.as_ref().unwrap_or(&group.first);
                let (a, b) = (doubles(&group.first)?, doubles(second)?);
                let (a, b) = (a.as_primitive::<Float64Type>(), b.as_primitive());
                for (row, count) in group.counts.iter().enumerate() {
                    let b: &arrow::array::Float64Array = b;
                    moments.add(a.value(row), b.value(row), *count);
                }
                Ok(ScalarValue::Float64(moments.finish()))
            }
            Function::Bits(operation) => {
                let mut bits = Bits::default();
                let wide = cast(&group.first, &DataType::Int64)?;
                let wide = wide.as_primitive::<Int64Type>();
                for (row, count) in group.counts.iter().enumerate() {
                    bits.add(wide.value(row), *count);
                }
                ScalarValue::from(bits.finish(operation)).cast_to(output)
            }
            Function::CollectList => group.list(true, output),
            Function::CollectSet => group.list(false, output),
            Function::CollectUnion => group.union(output),
            Function::TopK => group.top(self.constant(1), output),
            Function::BitmapOf => bitmap::of_positions(group),
            Function::BitmapAnd => Ok(bitmap::all(group)),
            Function::BitmapOr => Ok(bitmap::any(group)),
            Function::CountMinSketch => count_min::sketch(
                group,
                &[self.constant(1), self.constant(2), self.constant(3)],
            ),
            Function::ListAgg => group.text(self.constant(1), output),
            Function::Mode => group.most_frequent(output),
            Function::Median => percentile::between(group, &ScalarValue::from(0.5), output),
            Function::Percentile => match &group.second {
                Some(frequencies) => {
                    let group = group.with_frequencies(frequencies)?;
                    percentile::between(&group, self.constant(1), output)
                }
                None => percentile::between(group, self.constant(1), output),
            },
            Function::PercentileDisc | Function::ApproxPercentile => {
                percentile::at(group, self.constant(1), output)
            }
            Function::HistogramNumeric => percentile::histogram(group, self.constant(1), output),
            // What is left takes the first row.
            _ => group.first(output),
        }
    }

    fn constant(&self, index: usize) -> &ScalarValue {
        let constant = self.constants.get(index).and_then(Option::as_ref);
        constant.unwrap_or(&ScalarValue::Null)
    }
}

pub(super) fn doubles(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(cast(values, &DataType::Float64)?)
}

impl Values {
    /// A value as the result's type.
    pub(super) fn value(&self, row: usize, output: &DataType) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.first, row)?.cast_to(output)
    }

    fn first(&self, output: &DataType) -> Result<ScalarValue> {
        if self.counts.is_empty() {
            ScalarValue::try_from(output)
        } else {
            self.value(0, output)
        }
    }

    fn most_frequent(&self, output: &DataType) -> Result<ScalarValue> {
        let rows = self.counts.iter().enumerate();
        // Of several the last by this order, so the first row.
        match rows.max_by_key(|(row, count)| (**count, Reverse(*row))) {
            Some((row, _)) => self.value(row, output),
            None => ScalarValue::try_from(output),
        }
    }

    /// The values as an array, as often as they are there or once.
    fn list(&self, repeated: bool, output: &DataType) -> Result<ScalarValue> {
        let DataType::List(field) = output else {
            return Err(exec_datafusion_err!("a list was asked for as {output}"));
        };
        let counts = self.counts.iter().enumerate();
        let indices: UInt64Array = counts
            .flat_map(|(row, count)| {
                let times = if repeated { *count as usize } else { 1 };
                std::iter::repeat_n(row as u64, times)
            })
            .collect();
        let values = take(&self.first, &indices, None)?;
        let values = cast(&values, field.data_type())?;
        let offsets = OffsetBuffer::from_lengths([values.len()]);
        let list = ListArray::try_new(Arc::clone(field), offsets, values, None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }

    /// The distinct elements of the arrays, ascending.
    fn union(&self, output: &DataType) -> Result<ScalarValue> {
        let lists = self.first.as_list::<i32>();
        let elements = lists.values();
        let elements = filter(elements, &is_not_null(elements)?)?;
        let codec = KeyCodec::new(&[elements.data_type().clone()]);
        let failed = |error| exec_datafusion_err!("{error}");
        let codec = codec.map_err(failed)?;
        let rows = codec.encode(&[elements]).map_err(failed)?;
        let distinct: BTreeSet<&[u8]> = rows.iter().collect();
        let mut columns = codec.decode(distinct.into_iter()).map_err(failed)?;
        let first = columns.swap_remove(0);
        let counts = vec![1; first.len()];
        let elements = Self {
            first,
            second: None,
            counts,
        };
        elements.list(false, output)
    }

    /// The `k` values that come most often, each with how often; of those that come equally often
    /// the least first.
    fn top(&self, k: &ScalarValue, output: &DataType) -> Result<ScalarValue> {
        let DataType::List(field) = output else {
            return Err(exec_datafusion_err!("a list was asked for as {output}"));
        };
        let DataType::Struct(fields) = field.data_type() else {
            return Err(exec_datafusion_err!("an item is a struct, not {field}"));
        };
        let most = match k.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(k)) => usize::try_from(k).unwrap_or(0),
            _ => TOP_K,
        };
        let mut rows: Vec<u64> = (0..self.counts.len() as u64).collect();
        rows.sort_by_key(|row| Reverse(self.counts[*row as usize]));
        rows.truncate(most);
        let counts: Int64Array = rows.iter().map(|row| self.counts[*row as usize]).collect();
        let items = take(&self.first, &UInt64Array::from(rows), None)?;
        let items = cast(&items, fields[0].data_type())?;
        let columns: Vec<ArrayRef> = vec![items, Arc::new(counts)];
        let structs = StructArray::try_new(fields.clone(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths([structs.len()]);
        let list = ListArray::try_new(Arc::clone(field), offsets, Arc::new(structs), None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }

    /// The values one behind the other.
    fn text(&self, delimiter: &ScalarValue, output: &DataType) -> Result<ScalarValue> {
        if self.counts.is_empty() {
            return ScalarValue::try_from(output);
        }
        let mut parts = Vec::new();
        if output == &DataType::Binary {
            let between = match delimiter.cast_to(&DataType::Binary)? {
                ScalarValue::Binary(Some(bytes)) => bytes,
                _ => vec![],
            };
            let values = cast(&self.first, &DataType::Binary)?;
            for (value, count) in values.as_binary::<i32>().iter().zip(&self.counts) {
                parts.extend(std::iter::repeat_n(
                    value.unwrap_or_default().to_vec(),
                    *count as usize,
                ));
            }
            return Ok(ScalarValue::Binary(Some(parts.join(&between[..]))));
        }
        let between = match delimiter.cast_to(&DataType::Utf8)? {
            ScalarValue::Utf8(Some(text)) => text,
            _ => String::new(),
        };
        let values = cast(&self.first, &DataType::Utf8)?;
        let mut text = String::new();
        let mut first = true;
        for (value, count) in values.as_string::<i32>().iter().zip(&self.counts) {
            for _ in 0..*count {
                if !std::mem::take(&mut first) {
                    text.push_str(&between);
                }
                let _ = write!(text, "{}", value.unwrap_or_default());
            }
        }
        Ok(ScalarValue::Utf8(Some(text)))
    }

    /// The values, each as often as its frequency says beside its count.
    fn with_frequencies(&self, frequencies: &ArrayRef) -> Result<Self> {
        let mut counts = self.counts.clone();
        let frequencies = cast(frequencies, &DataType::Int64)?;
        let frequencies = frequencies.as_primitive::<Int64Type>().values();
        for (count, times) in counts.iter_mut().zip(frequencies) {
            if *times < 0 {
                return Err(exec_datafusion_err!(
                    "[NEGATIVE_VALUES_IN_FREQUENCY_EXPRESSION] the frequency {times} of percentile is negative; use a number of rows, 0 or more"
                ));
            }
            *count = count.saturating_mul(*times);
        }
        Ok(Self {
            first: ArrayRef::clone(&self.first),
            second: None,
            counts,
        })
    }

    /// The values as doubles: of dates, times and intervals in their unit.
    pub(super) fn places(&self) -> Result<ArrayRef> {
        if self.first.data_type().is_numeric() {
            doubles(&self.first)
        } else {
            doubles(&(Arc::new(whole(&self.first)?) as ArrayRef))
        }
    }
}
