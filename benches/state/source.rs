//! Rows that a benchmark asks for, so many an epoch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde_json::{Value, json};
use tidemark_connectors::{
    PlannedRange, Read, ReadLimit, Result, Source, SourceReader, Split, SplitReader,
};

const BATCH: i64 = 8192;
/// A prime, so that multiples of it visit all keys in a scattered order.
const SCATTER: i64 = 2_654_435_761;

/// Row i has the key `i * SCATTER % keys`, the value i, and a time of i steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) keys: i64,
    /// Microseconds.
    pub(crate) step: i64,
    pub(crate) splits: i64,
}

/// Gives the epochs of its plan, then it is at its end. An epoch of no rows reads one without a key.
#[derive(Debug)]
pub(crate) struct Rows {
    shape: Shape,
    plan: VecDeque<i64>,
    next: i64,
}

impl Rows {
    pub(crate) fn new(shape: Shape, plan: impl IntoIterator<Item = i64>) -> Self {
        Self {
            shape,
            plan: plan.into_iter().collect(),
            next: 0,
        }
    }
}

impl Source for Rows {
    fn schema(&self) -> SchemaRef {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
        Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("v", DataType::Int64, true),
            Field::new("ts", utc, true),
        ]))
    }

    fn metadata_schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn description(&self) -> String {
        format!("{:?}", self.shape)
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        let end = log.last().and_then(|range| range.end.as_i64());
        self.next = end.unwrap_or_default();
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        Ok(None)
    }

    fn plan(&mut self, _: ReadLimit) -> Result<Option<PlannedRange>> {
        let Some(rows) = self.plan.pop_front() else {
            return Ok(None);
        };
        let start = self.next;
        self.next += rows;
        let bounds: Vec<i64> = (0..=self.shape.splits)
            .map(|i| start + rows * i / self.shape.splits)
            .collect();
        let splits = bounds.windows(2).map(|pair| Split {
            partition: "rows".into(),
            range: json!([pair[0], pair[1]]),
            bytes: (pair[1] - pair[0]) as u64 * 24,
        });
        Ok(Some(PlannedRange {
            start: json!(start),
            end: json!(self.next),
            splits: splits.collect(),
        }))
    }

    fn committed(&mut self, _: &PlannedRange) -> Result<()> {
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        Ok(())
    }

    fn exhausted(&self) -> bool {
        self.plan.is_empty()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::new(Reader {
            schema: self.schema(),
            shape: self.shape,
        })
    }
}

#[derive(Debug)]
struct Reader {
    schema: SchemaRef,
    shape: Shape,
}

impl SourceReader for Reader {
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        let bound = |i: usize| split.range[i].as_i64().unwrap_or_default();
        Ok(Box::new(SplitRows {
            schema: Arc::new(self.schema.project(projection).expect("known columns")),
            projection: projection.to_vec(),
            shape: self.shape,
            next: bound(0),
            end: bound(1),
            empty: bound(0) == bound(1),
        }))
    }
}

struct SplitRows {
    schema: SchemaRef,
    projection: Vec<usize>,
    shape: Shape,
    next: i64,
    end: i64,
    /// The row without a key is still to come.
    empty: bool,
}

impl SplitReader for SplitRows {
    fn read(&mut self) -> Result<Read> {
        let rows = self.next..(self.next + BATCH).min(self.end);
        if rows.is_empty() && !std::mem::take(&mut self.empty) {
            return Ok(Read::End);
        }
        let Shape { keys, step, .. } = self.shape;
        let (rows, key): (_, &dyn Fn(i64) -> Option<i64>) = if rows.is_empty() {
            (rows.start..rows.start + 1, &|_| None)
        } else {
            self.next = rows.end;
            (rows, &|row| {
                Some((i128::from(row) * i128::from(SCATTER) % i128::from(keys)) as i64)
            })
        };
        let column = |column: &usize| -> ArrayRef {
            match column {
                0 => Arc::new(rows.clone().map(key).collect::<Int64Array>()),
                1 => Arc::new(Int64Array::from_iter_values(rows.clone())),
                _ => {
                    let times = rows.clone().map(|row| row * step);
                    let times = TimestampMicrosecondArray::from_iter_values(times);
                    Arc::new(times.with_timezone("UTC"))
                }
            }
        };
        let columns = self.projection.iter().map(column).collect();
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("columns of the schema");
        Ok(Read::Batch { batch, dropped: 0 })
    }
}
