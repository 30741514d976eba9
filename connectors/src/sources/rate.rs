//! The `rate` source: so many rows a second, `(timestamp TIMESTAMP, value BIGINT)`.
//!
//! As in Spark, an offset is a number of whole seconds since the start, and the rows of a range are
//! spread evenly over its time. The start is written into every split, so that a restart goes on
//! where the query was.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::format::BATCH_ROWS;
use crate::{
    ConnectorError, Options, PlannedRange, Read, ReadLimit, Result, Source, SourceReader, Split,
    SplitReader,
};

/// About how many bytes a row has.
const ROW_BYTES: u64 = 16;

const NAME: &str = "rate";

/// What a split's range holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RateSplit {
    /// When the source began, in milliseconds since 1970.
    start_time: i64,
    /// The first value of the range.
    first: i64,
    /// The end of the range's values.
    end: i64,
    /// The values of this split: every `step`-th one from `first + offset`.
    offset: i64,
    step: i64,
    start_second: i64,
    end_second: i64,
}

/// So many rows a second.
#[derive(Debug)]
pub struct RateSource {
    schema: SchemaRef,
    rows_per_second: i64,
    ramp_up: i64,
    partitions: i64,
    start_time: i64,
    second: i64,
    frozen: Option<i64>,
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl RateSource {
    /// Opens the source; it has columns of its own.
    pub fn open(options: &Options, schema: Option<&SchemaRef>) -> Result<Self> {
        options.check_known(NAME, &["rowsPerSecond", "numPartitions", "rampUpTime"])?;
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
        let own = Arc::new(Schema::new(vec![
            Field::new("timestamp", utc, true),
            Field::new("value", DataType::Int64, true),
        ]));
        if let Some(declared) = schema {
            let same = declared.fields().len() == 2
                && declared
                    .fields()
                    .iter()
                    .zip(own.fields())
                    .all(|(declared, own)| {
                        declared.name() == own.name() && declared.data_type() == own.data_type()
                    });
            if !same {
                return Err(ConnectorError::Schema(
                    "the connector 'rate' has the columns (timestamp TIMESTAMP, value BIGINT): declare these, or none".into(),
                ));
            }
        }
        let whole = |key: &str, default: u64| -> Result<i64> {
            let value = options.integer(key, 1)?.unwrap_or(default);
            i64::try_from(value).map_err(|_| options.bad(key, "a smaller number".into()))
        };
        Ok(Self {
            schema: own,
            rows_per_second: whole("rowsPerSecond", 1)?,
            ramp_up: options
                .duration("rampUpTime")?
                .unwrap_or_default()
                .as_secs() as i64,
            partitions: whole("numPartitions", 1)?,
            start_time: now(),
            second: 0,
            frozen: None,
        })
    }

    /// How many rows there are in the first `seconds`.
    fn value_at(&self, seconds: i64) -> i64 {
        let gain = self.rows_per_second / (self.ramp_up + 1);
        let ramp = |seconds: i64| {
            if seconds % 2 == 1 {
                (seconds + 1) / 2 * gain * seconds
            } else {
                seconds / 2 * gain * (seconds + 1)
            }
        };
        if seconds <= self.ramp_up {
            ramp(seconds)
        } else {
            let later = (seconds - self.ramp_up).saturating_mul(self.rows_per_second);
            ramp(self.ramp_up).saturating_add(later)
        }
    }

    fn latest(&self) -> i64 {
        self.frozen
            .unwrap_or_else(|| ((now() - self.start_time) / 1000).max(self.second))
    }
}

impl Source for RateSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn metadata_schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn description(&self) -> String {
        format!(
            "RateSource[rowsPerSecond={}, rampUpTimeSeconds={}, numPartitions={}]",
            self.rows_per_second, self.ramp_up, self.partitions
        )
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        let Some(last) = log.last() else {
            return Ok(());
        };
        let foreign = |what: &Value| {
            ConnectorError::Inconsistent(format!(
                "the offset log holds {what}, which is no offset of a rate source. Use another checkpointLocation"
            ))
        };
        self.second = last.end.as_i64().ok_or_else(|| foreign(&last.end))?;
        if let Some(split) = log.iter().rev().find_map(|range| range.splits.first()) {
            let range = RateSplit::deserialize(&split.range).map_err(|_| foreign(&split.range))?;
            self.start_time = range.start_time;
        }
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        Ok(Some(json!(self.latest())))
    }

    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>> {
        let (start, mut end) = (self.second, self.latest());
        let first = self.value_at(start);
        if let Some(rows) = limit
            .rows_of(ROW_BYTES)
            .and_then(|rows| i64::try_from(rows).ok())
        {
            // At least one second, or nothing would ever come.
            while end > start + 1 && self.value_at(end) - first > rows {
                end = start + (end - start) / 2;
            }
        }
        if end <= start {
            return Ok(None);
        }
        self.second = end;
        let last = self.value_at(end);
        let splits = (0..self.partitions)
            .map(|partition| {
                let range = RateSplit {
                    start_time: self.start_time,
                    first,
                    end: last,
                    offset: partition,
                    step: self.partitions,
                    start_second: start,
                    end_second: end,
                };
                let rows = (last - first) / self.partitions + 1;
                let range = serde_json::to_value(&range).map_err(|why| {
                    ConnectorError::Inconsistent(format!("a range of 'rate': {why}"))
                })?;
                Ok(Split {
                    partition: Arc::from(format!("rate-{partition}")),
                    range,
                    bytes: rows as u64 * ROW_BYTES,
                })
            })
            .collect::<Result<_>>()?;
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
        self.frozen = Some(self.latest());
        Ok(())
    }

    fn exhausted(&self) -> bool {
        self.frozen.is_some_and(|frozen| self.second >= frozen)
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn forgettable(&self) -> usize {
        0
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::new(RateReader {
            schema: Arc::clone(&self.schema),
        })
    }
}

#[derive(Debug)]
struct RateReader {
    schema: SchemaRef,
}

impl SourceReader for RateReader {
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        let range = RateSplit::deserialize(&split.range).map_err(|why| {
            ConnectorError::Inconsistent(format!(
                "the offset log holds {} where a range of a rate source was expected ({why}). Use another checkpointLocation",
                split.range
            ))
        })?;
        let schema = self
            .schema
            .project(projection)
            .map_err(|source| ConnectorError::Arrow {
                context: "reading the rate source".into(),
                source,
            })?;
        let next = range.first + range.offset;
        Ok(Box::new(RateSplitReader {
            range,
            next,
            projection: projection.into(),
            schema: Arc::new(schema),
        }))
    }
}

struct RateSplitReader {
    range: RateSplit,
    next: i64,
    projection: Vec<usize>,
    schema: SchemaRef,
}

impl SplitReader for RateSplitReader {
    fn read(&mut self) -> Result<Read> {
        let RateSplit {
            start_time,
            first,
            end,
            step,
            start_second,
            end_second,
            ..
        } = self.range;
        if self.next >= end {
            return Ok(Read::End);
        }
        let values: Vec<i64> = (self.next..end)
            .step_by(usize::try_from(step.max(1)).unwrap_or(1))
            .take(BATCH_ROWS)
            .collect();
        let rows = values.len();
        self.next += step * rows as i64;
        let per_value = (end_second - start_second) as f64 * 1000.0 / (end - first).max(1) as f64;
        let columns = self
            .projection
            .iter()
            .map(|index| -> ArrayRef {
                if *index == 1 {
                    return Arc::new(Int64Array::from(values.clone()));
                }
                let times: Vec<i64> = values
                    .iter()
                    .map(|value| {
                        let relative = (per_value * (value - first) as f64).round() as i64;
                        (start_time + start_second * 1000 + relative) * 1000
                    })
                    .collect();
                Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|source| ConnectorError::Arrow {
                context: "building a batch of 'rate'".into(),
                source,
            })?;
        Ok(Read::Batch { batch, dropped: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(pairs: &[(&str, &str)]) -> RateSource {
        RateSource::open(&pairs.iter().copied().collect(), None).expect("a rate source")
    }

    fn values(source: &RateSource, range: &PlannedRange) -> Vec<i64> {
        let mut found = Vec::new();
        for split in &range.splits {
            let mut reader = source.reader().open(split, &[0, 1]).expect("a split");
            while let Read::Batch { batch, .. } = reader.read().expect("a batch") {
                let column = batch
                    .column(1)
                    .as_any()
                    .downcast_ref::<Int64Array>()
                    .expect("values")
                    .clone();
                found.extend(column.values().iter().copied());
            }
        }
        found.sort_unstable();
        found
    }

    #[test]
    fn the_rate_ramps_up_as_in_spark() {
        let source = open(&[("rowsPerSecond", "10"), ("rampUpTime", "4s")]);
        let found: Vec<_> = (0..7).map(|second| source.value_at(second)).collect();
        assert_eq!(found, [0, 2, 6, 12, 20, 30, 40]);
        assert_eq!(open(&[("rowsPerSecond", "10")]).value_at(3), 30);
    }

    #[test]
    fn partitions_share_the_values_and_a_restart_goes_on() {
        let mut source = open(&[("rowsPerSecond", "10000"), ("numPartitions", "3")]);
        source.start_time -= 5_000;
        let first = source
            .plan(ReadLimit::default())
            .expect("a plan")
            .expect("rows");
        assert_eq!(
            (first.start.clone(), first.end.clone()),
            (json!(0), json!(5))
        );
        assert_eq!(values(&source, &first), (0..50_000).collect::<Vec<_>>());
        assert_eq!(&*first.splits[2].partition, "rate-2");

        let start_time = source.start_time;
        let mut again = open(&[("rowsPerSecond", "10000"), ("numPartitions", "3")]);
        again.restore(&[first]).expect("restored");
        assert_eq!((again.start_time, again.second), (start_time, 5));
        assert!(again.plan(ReadLimit::default()).expect("a plan").is_none());
        again.freeze().expect("frozen");
        assert!(again.exhausted());
    }

    #[test]
    fn other_columns_are_refused() {
        let declared = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        assert!(RateSource::open(&Options::new(), Some(&declared)).is_err());
    }
}
