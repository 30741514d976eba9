//! Rows as they are kept in the order of their partitions: what is key, what is order, what is left.
//!
//! The key is the partition, behind its bound where it has one. The value is the order, the columns that
//! are neither in the partition nor in the order, and the length of the order in four bytes. So the
//! values of a key lie in the order, rows that are alike in it in the order of their columns, and no
//! column is kept twice.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{Expr, SortExpr};

use crate::operators::dead_letter::sift;
use crate::operators::expression::{Expressions, batch_schema, record_batch};
use crate::operators::late::Late;
use crate::operators::moment::moments;
use crate::operators::{Context, EpochInfo, OperatorError, behind, expires};
use crate::plan::Bound;
use crate::row::{Bytes, Delta, KeyCodec, RowError, read_bound};
use crate::state::Rows;
use crate::time::{EventTime, NEVER};

/// Where a column of the input is kept.
#[derive(Clone, Copy, Debug)]
enum Place {
    Key(usize),
    Value(usize),
}

/// How the rows of an operator are kept.
pub(in crate::operators) struct Layout {
    operator: usize,
    /// What progress calls the operator.
    name: &'static str,
    /// The partition, then the order.
    expressions: Expressions,
    bound: Option<Bound>,
    key: KeyCodec,
    order: KeyCodec,
    /// The order, then the columns that are left.
    value: KeyCodec,
    /// The columns that are left.
    rest: Vec<usize>,
    /// Where each column of the input is.
    places: Vec<Place>,
    schema: SchemaRef,
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
            key: KeyCodec::new(key_types).map_err(failed)?,
            order,
            value: KeyCodec::new_with_options(&value).map_err(failed)?,
            rest,
            places,
            schema: batch_schema(output),
        })
    }

    fn row_error(&self, source: RowError) -> OperatorError {
        OperatorError::Row {
            operator: self.operator,
            source,
        }
    }

    fn lag(&self) -> i64 {
        self.bound.map_or(0, |bound| bound.column.lag)
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
        let keys = match &bounds {
            Some(bounds) => self.key.encode_bounded(bounds, keys),
            None => encode(&self.key, keys, count),
        };
        let keys = keys.map_err(|source| self.row_error(source))?;
        let lengths = encode(&self.order, order, count).map_err(|source| self.row_error(source))?;
        let left = self.rest.iter().map(|index| delta.batch.column(*index));
        let all: Vec<ArrayRef> = order.iter().chain(left).map(Arc::clone).collect();
        let values = encode(&self.value, &all, count).map_err(|source| self.row_error(source))?;
        let mut rows = Rows::new(delta.time);
        let mut late = Late::default();
        let mut value = Vec::new();
        for row in 0..count {
            let bound = bounds.as_ref().map_or(NEVER, |bounds| bounds[row]);
            if bound <= late_at && bound != NEVER {
                late.add(row, bound);
                continue;
            }
            let key = keys.get(row);
            value.clear();
            value.extend_from_slice(values.get(row));
            value.extend_from_slice(&(lengths.get(row).len() as u32).to_be_bytes());
            rows.push(key, &value, delta.diff(row), self.expiry(key));
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
        let value = (self.value).decode(values.iter().map(|value| &value[..value.len() - 4]));
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
