//! Rows as they are kept in the order of their partitions: what is key, what is order, what is left.
//!
//! The key is the partition, behind its bound where it has one. The value is the order, the columns that
//! are neither in the partition nor in the order, and the length of the order in four bytes. So the
//! values of a key lie in the order, rows that are alike in it in the order of their columns, and no
//! column is kept twice. Where the order is that of event time, the value begins with the moment.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array, UInt64Array};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{Expr, SortExpr};

use crate::operators::dead_letter::sift;
use crate::operators::expression::{Expressions, batch_schema, record_batch};
use crate::operators::late::Late;
use crate::operators::moment::moments;
use crate::operators::rank::first::First;
use crate::operators::{Context, EpochInfo, OperatorError, behind, expires};
use crate::plan::{Bound, EventTimeColumn};
use crate::row::{Bytes, Delta, KeyCodec, RowError, bound_prefix, read_bound};
use crate::state::Rows;
use crate::time::{EventTime, NEVER, NO_WATERMARK};

/// Where a column of the input is kept.
#[derive(Clone, Copy, Debug)]
enum Place {
    Key(usize),
    Value(usize),
}

/// The event time that the order begins with.
struct Timed {
    column: EventTimeColumn,
    /// For how long a row stays behind it; `None`: for ever.
    stays: Option<i64>,
    /// Rows without are left out.
    required: bool,
    nulls_first: bool,
}

/// How the rows of an operator are kept.
pub(in crate::operators) struct Layout {
    operator: usize,
    /// What progress calls the operator.
    name: &'static str,
    /// The partition, then the order.
    expressions: Expressions,
    bound: Option<Bound>,
    timed: Option<Timed>,
    key: KeyCodec,
    order: KeyCodec,
    /// The order, then the columns that are left.
    value: KeyCodec,
    /// The columns that are left.
    rest: Vec<usize>,
    /// Where each column of the input is.
    places: Vec<Place>,
    schema: SchemaRef,
    /// Only rows that can be among the first of their partition matter.
    first: Option<First>,
}

impl Layout {
    pub(in crate::operators) fn new(
        (operator, name): (usize, &'static str),
        (partition, bound): (&[Expr], Option<Bound>),
        order: &[SortExpr],
        input: &DFSchemaRef,
        output: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Row { operator, source };
        let by = || order.iter().map(|by| &by.expr);
        let expressions = Expressions::new(partition.iter().chain(by()), input, options)?;
        let types = expressions.types(input)?;
        let (key_types, order_types) = types.split_at(partition.len());
        let column = |expr: &Expr| input.maybe_index_of_column(expr.try_as_col()?);
        let position = |of: &[Option<usize>], index| of.iter().position(|at| *at == Some(index));
        let keys: Vec<_> = partition.iter().map(column).collect();
        let ordered: Vec<_> = by().map(column).collect();
        let mut rest = Vec::new();
        let places = (0..input.fields().len())
            .map(
                |index| match (position(&keys, index), position(&ordered, index)) {
                    (Some(at), _) => Place::Key(at),
                    (None, Some(at)) => Place::Value(at),
                    (None, None) => {
                        rest.push(index);
                        Place::Value(order.len() + rest.len() - 1)
                    }
                },
            )
            .collect();
        let mut value: Vec<(DataType, SortOptions)> = (order.iter().zip(order_types))
            .map(|(by, of)| (of.clone(), SortOptions::new(!by.asc, by.nulls_first)))
            .collect();
        let order = KeyCodec::new_with_options(&value).map_err(failed)?;
        let left = rest.iter().map(|index| input.field(*index).data_type());
        value.extend(left.map(|of| (of.clone(), SortOptions::new(false, true))));
        Ok(Self {
            operator,
            name,
            expressions,
            bound,
            timed: None,
            key: KeyCodec::new(key_types).map_err(failed)?,
            order,
            value: KeyCodec::new_with_options(&value).map_err(failed)?,
            rest,
            places,
            schema: batch_schema(output),
            first: None,
        })
    }

    /// Rows begin with the event time that comes first in the order: they are late by it, and go so long
    /// behind it, if at all. Those without are left out where it is `required`.
    pub(in crate::operators) fn timed_by(
        mut self,
        column: EventTimeColumn,
        (stays, required): (Option<i64>, bool),
        order: &[SortExpr],
    ) -> Self {
        self.timed = Some(Timed {
            column,
            stays,
            required,
            nulls_first: order.first().is_some_and(|by| by.nulls_first),
        });
        self
    }

    /// Leaves out the rows that are not among the first of their partition in their own batch.
    pub(super) fn with_first(self, first: Option<First>) -> Self {
        Self { first, ..self }
    }

    fn row_error(&self, source: RowError) -> OperatorError {
        OperatorError::Row {
            operator: self.operator,
            source,
        }
    }

    fn lag(&self) -> i64 {
        let timed = self.timed.as_ref().map(|timed| timed.column);
        let column = self.bound.map(|bound| bound.column).or(timed);
        column.map_or(0, |column| column.lag)
    }

    /// Partitions whose bound lies at or below this are complete in `epoch`.
    pub(in crate::operators) fn complete(&self, epoch: &EpochInfo) -> EventTime {
        behind(epoch.watermark, self.lag())
    }

    /// Rows of partitions whose bound lies at or below this come too late in `epoch`.
    pub(in crate::operators) fn late(&self, epoch: &EpochInfo) -> EventTime {
        behind(epoch.previous_watermark, self.lag())
    }

    /// When the rows of a partition go.
    pub(in crate::operators) fn expiry(&self, key: &[u8]) -> EventTime {
        (self.bound).map_or(NEVER, |bound| expires(read_bound(key), bound.column.lag))
    }

    /// When a row goes.
    pub(in crate::operators) fn expiry_of(&self, key: &[u8], value: &[u8]) -> EventTime {
        let Some(timed) = &self.timed else {
            return self.expiry(key);
        };
        match (read_bound(value), timed.stays) {
            (NEVER | NO_WATERMARK, _) | (_, None) => NEVER,
            (time, Some(stays)) => expires(time, timed.column.lag.saturating_add(stays)),
        }
    }

    /// The rows of a batch, without those that come too late, which are counted.
    pub(in crate::operators) fn encode(
        &self,
        delta: Delta,
        epoch: &EpochInfo,
        context: &Context,
    ) -> Result<Rows, OperatorError> {
        let late_at = self.late(epoch);
        let (delta, columns) = sift(delta, context, |delta| {
            self.expressions.evaluate(delta, epoch)
        })?;
        let count = delta.rows();
        let (keys, order) = columns.split_at(self.key.types().len());
        let bounds =
            (self.bound.as_ref()).map(|bound| moments(bound.column.kind, &keys[bound.key], count));
        let timed = (self.timed.as_ref())
            .map(|timed| (timed, moments(timed.column.kind, &order[0], count)));
        let keys = match &bounds {
            Some(bounds) => self.key.encode_bounded(bounds, keys),
            None => encode(&self.key, keys, count),
        };
        let keys = keys.map_err(|source| self.row_error(source))?;
        let lengths = encode(&self.order, order, count).map_err(|source| self.row_error(source))?;
        let mut late = Late::default();
        let mut kept: Vec<u32> = Vec::with_capacity(count);
        for row in 0..count {
            let bound = bounds.as_ref().map_or(NEVER, |bounds| bounds[row]);
            if bound <= late_at && bound != NEVER {
                late.add(row, bound);
            } else {
                kept.push(row as u32);
            }
        }
        if let Some(first) = self.first {
            first.retain(&keys, &lengths, &mut kept);
        }
        let left = self.rest.iter().map(|index| delta.batch.column(*index));
        let all = order.iter().chain(left).map(Arc::clone);
        let all: Vec<ArrayRef> = if kept.len() == count {
            all.collect()
        } else {
            let indices = UInt32Array::from(kept.clone());
            let some = all.map(|column| take(&column, &indices, None));
            some.collect::<Result<_, _>>()
                .map_err(|error| OperatorError::Overflow(error.to_string()))?
        };
        let values =
            encode(&self.value, &all, kept.len()).map_err(|source| self.row_error(source))?;
        let mut rows = Rows::new(delta.time);
        let mut value = Vec::new();
        for (at, row) in kept.into_iter().enumerate() {
            let row = row as usize;
            let key = keys.get(row);
            value.clear();
            if let Some((timed, times)) = &timed {
                let time = times[row];
                if time <= late_at {
                    late.add(row, time);
                    continue;
                }
                let is_null = time == NEVER;
                if is_null && timed.required {
                    continue;
                }
                let time = if is_null && timed.nulls_first {
                    NO_WATERMARK
                } else {
                    time
                };
                value.extend_from_slice(&bound_prefix(time));
            }
            value.extend_from_slice(values.get(at));
            value.extend_from_slice(&(lengths.get(row).len() as u32).to_be_bytes());
            rows.push(key, &value, delta.diff(row), self.expiry_of(key, &value));
        }
        late.report((self.operator, self.name), &delta, epoch, context)?;
        Ok(rows)
    }

    /// The part of a value that says where its row stands: that of its peers is the same.
    pub(in crate::operators) fn order_of(value: &[u8]) -> &[u8] {
        let (value, length) = value.split_last_chunk().unwrap_or((value, &[0; 4]));
        &value[..(u32::from_be_bytes(*length) as usize).min(value.len())]
    }

    /// The rows that were kept as these keys and values, with their ranks where there are any.
    pub(in crate::operators) fn decode(
        &self,
        (keys, values): (&Bytes, &Bytes),
        ranks: Option<Vec<u64>>,
    ) -> Result<arrow::array::RecordBatch, OperatorError> {
        let skip = if self.bound.is_some() { 8 } else { 0 };
        let failed = |source| self.row_error(source);
        let key = self.key.decode(keys.iter().map(|key| &key[skip..]));
        let key = key.map_err(failed)?;
        let time = if self.timed.is_some() { 8 } else { 0 };
        let value = values.iter().map(|value| &value[time..value.len() - 4]);
        let value = self.value.decode(value);
        let value = value.map_err(failed)?;
        let mut columns: Vec<ArrayRef> = (self.places.iter())
            .map(|place| match place {
                Place::Key(at) => Arc::clone(&key[*at]),
                Place::Value(at) => Arc::clone(&value[*at]),
            })
            .collect();
        if let Some(ranks) = ranks {
            let field = self.schema.field(self.schema.fields().len() - 1);
            let ranks = cast(&UInt64Array::from(ranks), field.data_type());
            columns.push(ranks.map_err(|error| OperatorError::Overflow(error.to_string()))?);
        }
        record_batch(&self.schema, columns, keys.len())
    }
}

/// Keys of so many rows, also where there are no columns.
fn encode(codec: &KeyCodec, columns: &[ArrayRef], rows: usize) -> Result<Bytes, RowError> {
    if !columns.is_empty() {
        return codec.encode(columns);
    }
    let mut empty = Bytes::default();
    (0..rows).for_each(|_| empty.push(&[]));
    Ok(empty)
}
