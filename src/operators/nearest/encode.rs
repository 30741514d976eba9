//! The first stage: the rows of one input become bytes, and go to the owners of their keys.
//!
//! A row travels behind a byte that says whose it is, and its place.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};

use crate::operators::dead_letter::sift;
use crate::operators::keyed::encoded;
use crate::operators::late::Late;
use crate::operators::nearest::{NAME, Order, Prepared};
use crate::operators::{Context, DeltaStream, EpochInfo, OperatorError, RowStream, behind};
use crate::plan::join::{LEFT, RIGHT};
use crate::row::Delta;
use crate::state::Rows;
use crate::time::NEVER;

/// In place of the side of a left row that finds nothing, as its key or its time is null.
pub(super) const LONE: u8 = 2;

/// Attaches the first stage of one input.
pub(super) fn render<'scope>(
    input: DeltaStream<'scope>,
    prepared: &Arc<Prepared>,
    side: usize,
    context: &Context,
) -> RowStream<'scope> {
    let operator = prepared.operator;
    let prepared = Arc::clone(prepared);
    let encode = move |delta, epoch: &EpochInfo, context: &Context| {
        prepared.encode(side, delta, epoch, context)
    };
    encoded(input, "nearest join, rows", context, operator, encode)
}

impl Prepared {
    /// What of a batch of one input goes to the owners of its keys.
    fn encode(
        &self,
        side: usize,
        delta: Delta,
        epoch: &EpochInfo,
        context: &Context,
    ) -> Result<Rows, OperatorError> {
        let of = &self.sides[side];
        let failed = |source| self.row_error(source);
        let (delta, columns) = sift(delta, context, |delta| {
            of.expressions.evaluate(delta, epoch)
        })?;
        let (keys, rest) = columns.split_at(of.keys.as_ref().map_or(0, |keys| keys.types().len()));
        let nulls: Vec<NullBuffer> = (keys.iter())
            .chain(rest.first())
            .filter_map(Array::logical_nulls)
            .collect();
        let times = numbers(&rest[0])?;
        let keys = of.keys.as_ref().map(|codec| codec.encode(keys));
        let keys = keys.transpose().map_err(failed)?;
        let values = if side == RIGHT {
            let all = rest[1..].iter().chain(delta.batch.columns());
            let all: Vec<ArrayRef> = all.map(Arc::clone).collect();
            self.right.encode(&all).map_err(failed)?
        } else {
            self.left.encode(delta.batch.columns()).map_err(failed)?
        };
        let late_at = of.lag.map(|lag| behind(epoch.previous_watermark, lag));
        let mut rows = Rows::new(delta.time);
        let mut value = Vec::new();
        let mut late = Late::default();
        for row in 0..delta.rows() {
            let lone = nulls.iter().any(|nulls| nulls.is_null(row));
            if lone && !(side == LEFT && self.outer) {
                continue;
            }
            let time = times.value(row);
            if !lone && late_at.is_some_and(|late_at| time <= late_at) {
                late.add(row, time);
                continue;
            }
            value.clear();
            value.push(if lone { LONE } else { side as u8 });
            value.extend_from_slice(&Order::prefix(side, self.order.place(time)));
            value.extend_from_slice(values.get(row));
            let key = keys.as_ref().map_or(&[][..], |keys| keys.get(row));
            rows.push(key, &value, delta.diff(row), NEVER);
        }
        late.report((self.operator, NAME), &delta, epoch, context)?;
        Ok(rows)
    }
}

/// Times as microseconds, whole numbers as they are. What stands for a null says nothing.
fn numbers(times: &ArrayRef) -> Result<Int64Array, OperatorError> {
    let failed = |error: arrow::error::ArrowError| OperatorError::Overflow(error.to_string());
    let instants = if *times.data_type() == DataType::Date32 {
        cast(times, &DataType::Timestamp(TimeUnit::Microsecond, None)).map_err(failed)?
    } else {
        Arc::clone(times)
    };
    let numbers = cast(&instants, &DataType::Int64).map_err(failed)?;
    Ok(numbers.as_primitive::<Int64Type>().clone())
}
