//! The `datagen` source: made-up rows for demos, tests and benchmarks.
//!
//! The table declares the columns; options `fields.NAME.kind`, `.min`, `.values`, ... say what they
//! hold (Flink's names where Flink has them). Row n is a pure function of the seed and n: the same
//! rows come whatever the epochs and workers are. Row n belongs to partition n modulo their number.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `rows-per-second` | 10000, none if bounded | the pace |
//! | `number-of-rows` | unbounded | how many rows there are |
//! | `numPartitions` | 1 | partitions, each with its own watermark |
//! | `seed` | 0 | other seeds make other rows |
//! | `fields.F.kind` | `random` | `random`, `sequence` or `event-time` |
//! | `.min`, `.max` | the type's, from 0 | of random numbers, dates, times; and of the numbers in STRINGs |
//! | `.values` | | `a,b,c`, or with weights `a:3,b:1` |
//! | `.skew` | 0 | how much more often small numbers and first values come (Zipf's exponent) |
//! | `.length` | 10 | of a STRING |
//! | `.prefix` | | of a STRING that is a number or a value |
//! | `.null-rate` | 0 | the share of nulls |
//! | `.start`, `.end` | 0, none | of a sequence; an end bounds the source |
//! | `.start`, `.step`, `.disorder` | now (bounded: 2026-01-01), the pace (none: 1 ms), 0 | of an event time: row n is at start + n * step, early by up to disorder |

mod rules;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::rules::{Pace, Rule};
use super::counter::Counter;
use super::generating;
use crate::format::BATCH_ROWS;
use crate::{
    ConnectorError, Options, PlannedRange, Read, ReadLimit, Result, Source, SourceReader, Split,
    SplitReader,
};

const NAME: &str = "datagen";

/// The rows of a split: small enough to be shared among workers.
const SPLIT_ROWS: u64 = 131_072;

/// What a split's range holds: the rows `first <= n < end` that belong to a partition.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct GeneratedSplit {
    first: u64,
    end: u64,
    partition: u64,
    partitions: u64,
    /// When the query began, in microseconds since 1970.
    origin: i64,
}

/// A generator of rows.
#[derive(Debug)]
pub struct DatagenSource {
    reader: Arc<DatagenReader>,
    rows_per_second: Option<u64>,
    partitions: u64,
    origin: i64,
    counter: Counter,
}

impl DatagenSource {
    /// Opens the source; `schema` holds the declared columns.
    pub fn open(options: &Options, schema: Option<SchemaRef>) -> Result<Self> {
        let schema = schema.ok_or_else(|| {
            ConnectorError::Schema(
                "the connector 'datagen' makes the columns that the table declares: declare some, as in CREATE TABLE t (id BIGINT, name STRING)".into(),
            )
        })?;
        check_keys(options, &schema)?;
        let either = |one: &str, other: &str| -> Result<Option<u64>> {
            Ok(match options.integer(one, 1)? {
                None => options.integer(other, 1)?,
                found => found,
            })
        };
        let declared_rows = either("number-of-rows", "numberOfRows")?;
        let declared_pace = either("rows-per-second", "rowsPerSecond")?;
        let sequence_ends = schema.fields().iter().any(|field| {
            options
                .get(&format!("fields.{}.end", field.name()))
                .is_some()
        });
        let bounded = declared_rows.is_some() || sequence_ends;
        let rows_per_second = declared_pace.or(if bounded { None } else { Some(10_000) });
        let seed = options.integer("seed", 0)?.unwrap_or(0);
        let pace = Pace {
            rows_per_second,
            bounded,
        };
        let rules = schema
            .fields()
            .iter()
            .map(|field| Rule::new(field, options, seed, pace))
            .collect::<Result<Vec<_>>>()?;
        let rows = rules
            .iter()
            .filter_map(|rule| rule.rows)
            .chain(declared_rows)
            .min();
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            reader: Arc::new(DatagenReader {
                schema,
                rules: rules.into(),
            }),
            rows_per_second,
            counter: Counter::new(rows_per_second, rows),
            partitions: options.integer("numPartitions", 1)?.unwrap_or(1),
            origin: i64::try_from(since.as_millis()).unwrap_or(i64::MAX / 1000) * 1000,
        })
    }
}

/// Refuses options that do not exist, and those of fields that do not exist.
fn check_keys(options: &Options, schema: &Schema) -> Result<()> {
    let mut known: Vec<String> = [
        "rows-per-second",
        "rowsPerSecond",
        "number-of-rows",
        "numberOfRows",
        "numPartitions",
        "seed",
    ]
    .map(String::from)
    .into();
    for field in schema.fields() {
        known.extend(
            rules::KEYS
                .iter()
                .map(|key| format!("fields.{}.{key}", field.name())),
        );
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    options.check_known(NAME, &known)
}

impl Source for DatagenSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.reader.schema)
    }

    fn metadata_schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn description(&self) -> String {
        let pace = self
            .rows_per_second
            .map_or("unlimited".into(), |rate| rate.to_string());
        format!(
            "DatagenSource[rowsPerSecond={pace}, numPartitions={}]",
            self.partitions
        )
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        let Some(last) = log.last() else {
            return Ok(());
        };
        let foreign = |what: &Value| {
            ConnectorError::Inconsistent(format!(
                "the offset log holds {what}, which is no offset of a datagen source. Use another checkpointLocation"
            ))
        };
        let planned = last.end.as_u64().ok_or_else(|| foreign(&last.end))?;
        self.counter.resume(planned);
        if let Some(split) = log.iter().rev().find_map(|range| range.splits.first()) {
            let range =
                GeneratedSplit::deserialize(&split.range).map_err(|_| foreign(&split.range))?;
            self.origin = range.origin;
        }
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        Ok(self.counter.available().map(|rows| json!(rows)))
    }

    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>> {
        let row_bytes = self.reader.schema.fields().len() as u64 * 12;
        let Some(Range { start, end }) = self.counter.plan(limit, row_bytes) else {
            return Ok(None);
        };
        let mut splits = Vec::new();
        let width = SPLIT_ROWS.saturating_mul(self.partitions);
        let mut first = start;
        while first < end {
            let until = first.saturating_add(width).min(end);
            for partition in 0..self.partitions {
                let split = GeneratedSplit {
                    first,
                    end: until,
                    partition,
                    partitions: self.partitions,
                    origin: self.origin,
                };
                let range = serde_json::to_value(split).map_err(|why| {
                    ConnectorError::Inconsistent(format!("a range of 'datagen': {why}"))
                })?;
                let bytes = (until - first).div_ceil(self.partitions) * row_bytes;
                splits.push(Split {
                    partition: Arc::from(format!("datagen-{partition}")),
                    range,
                    bytes,
                });
            }
            first = until;
        }
        Ok(Some(PlannedRange {
            start: json!(start),
            end: json!(end),
            splits,
        }))
    }

    fn committed(&mut self, _: &PlannedRange) -> Result<()> {
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        self.counter.freeze();
        Ok(())
    }

    fn exhausted(&self) -> bool {
        self.counter.exhausted()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn forgettable(&self) -> usize {
        0
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::clone(&self.reader) as Arc<dyn SourceReader>
    }
}

#[derive(Debug)]
struct DatagenReader {
    schema: SchemaRef,
    rules: Arc<[Rule]>,
}

impl SourceReader for DatagenReader {
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        let range = GeneratedSplit::deserialize(&split.range).map_err(|why| {
            ConnectorError::Inconsistent(format!(
                "the offset log holds {} where a range of a datagen source was expected ({why}). Use another checkpointLocation",
                split.range
            ))
        })?;
        let schema = self
            .schema
            .project(projection)
            .map_err(|source| generating("*", source))?;
        let partitions = range.partitions.max(1);
        let behind = (range.partition + partitions - range.first % partitions) % partitions;
        Ok(Box::new(DatagenSplit {
            rules: Arc::clone(&self.rules),
            projection: projection.into(),
            schema: Arc::new(schema),
            next: range.first + behind,
            end: range.end,
            step: partitions,
            origin: range.origin,
        }))
    }
}

struct DatagenSplit {
    rules: Arc<[Rule]>,
    projection: Vec<usize>,
    schema: SchemaRef,
    next: u64,
    end: u64,
    step: u64,
    origin: i64,
}

impl SplitReader for DatagenSplit {
    fn read(&mut self) -> Result<Read> {
        if self.next >= self.end {
            return Ok(Read::End);
        }
        let step = usize::try_from(self.step).unwrap_or(usize::MAX);
        let rows: Vec<u64> = (self.next..self.end)
            .step_by(step)
            .take(BATCH_ROWS)
            .collect();
        self.next = self
            .next
            .saturating_add(self.step.saturating_mul(rows.len() as u64));
        let columns = self
            .projection
            .iter()
            .zip(self.schema.fields())
            .map(|(index, field)| {
                self.rules[*index]
                    .make(&rows, self.origin)
                    .map_err(|source| generating(field.name(), source))
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|source| generating("*", source))?;
        Ok(Read::Batch { batch, dropped: 0 })
    }
}

#[cfg(test)]
mod tests;
