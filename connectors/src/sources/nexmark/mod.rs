//! The `nexmark` source: the events of an online auction, as the Nexmark suite has them.
//!
//! A table is one of the three kinds of events, `'table' = 'person' | 'auction' | 'bid'`. All three number the
//! same events: of every 50 the first is a person, three are auctions, 46 are bids, and a table passes over those
//! that are not its own. What an event holds is a pure function of the seed and its number, column by column, so
//! only the columns that a query uses are made, and the same events come whatever the epochs and workers are.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `table` | required | which events: `person`, `auction`, `bid` |
//! | `events` | unbounded | how many events of all kinds there are |
//! | `rate` | 10000 | events a second of event time; where `events` is not given, also the pace |
//! | `seed` | 0 | other seeds make other events |
//! | `outOfOrder` | 1 | so many events at a time come shuffled, as in the standard |
//! | `numPartitions` | 1 | partitions, each with its own watermark: 50 events go to each in turn |
//! | `maxOffsetsPerTrigger` | 200,000, none if paced | the events of an epoch |

mod columns;
mod model;
mod text;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::columns::{Content, Maker, contents};
use self::model::{CYCLE, Model, SHUFFLE, Table};
use super::counter::Counter;
use super::generating;
use crate::format::BATCH_ROWS;
use crate::{
    ConnectorError, Options, PlannedRange, Read, ReadLimit, Result, Source, SourceReader, Split,
    SplitReader,
};

const NAME: &str = "nexmark";

/// The events of a split: small enough to be shared among workers.
const SPLIT_EVENTS: u64 = 1 << 15;

/// The events of an epoch, unless something is said of them: with more, what waits for an epoch's end takes more memory
/// than the state of most queries.
const EPOCH_EVENTS: u64 = 200_000;

/// What a split's range holds: the places `first <= n < end` of a partition.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct EventSplit {
    first: u64,
    end: u64,
    partition: u64,
    partitions: u64,
}

/// Events of an auction.
#[derive(Debug)]
pub struct NexmarkSource {
    reader: Arc<NexmarkReader>,
    counter: Counter,
    partitions: u64,
    epoch: Option<u64>,
}

impl NexmarkSource {
    /// Opens the source. It has columns of its own, of which the table may declare some.
    pub fn open(options: &Options, declared: Option<&SchemaRef>) -> Result<Self> {
        options.check_known(
            NAME,
            &[
                "table",
                "events",
                "rate",
                "seed",
                "outOfOrder",
                "numPartitions",
                "maxOffsetsPerTrigger",
            ],
        )?;
        let kinds = "which of the events: person, auction or bid";
        let name = options.require(NAME, "table", kinds)?;
        let table = match name.trim().to_ascii_lowercase().as_str() {
            "person" => Table::Person,
            "auction" => Table::Auction,
            "bid" => Table::Bid,
            _ => return Err(options.bad("table", kinds.into())),
        };
        let events = options.integer("events", 1)?;
        let rate = options.integer("rate", 1)?.unwrap_or(10_000);
        let group = options.integer("outOfOrder", 1)?.unwrap_or(1);
        if group > 1_000_000 || group.is_multiple_of(SHUFFLE) {
            // The standard's way to shuffle would give an event twice.
            let expected = format!("a number up to 1000000 that is no multiple of {SHUFFLE}");
            return Err(options.bad("outOfOrder", expected));
        }
        let (schema, contents) = declared_columns(table, declared)?;
        let seed = options.integer("seed", 0)?.unwrap_or(0);
        Ok(Self {
            reader: Arc::new(NexmarkReader {
                schema,
                contents,
                maker: Arc::new(Maker::new(table, Model { rate, group }, seed)),
            }),
            counter: Counter::new(events.is_none().then_some(rate), events),
            partitions: options.integer("numPartitions", 1)?.unwrap_or(1),
            epoch: (options.integer("maxOffsetsPerTrigger", 1)?)
                .or(events.is_some().then_some(EPOCH_EVENTS)),
        })
    }
}

/// The columns that a table declares, or all: each must be one of the source's own.
fn declared_columns(
    table: Table,
    declared: Option<&SchemaRef>,
) -> Result<(SchemaRef, Vec<Content>)> {
    let own = columns::schema(table);
    let all = contents(table);
    let Some(declared) = declared else {
        let contents = all.iter().map(|(_, content)| *content).collect();
        return Ok((Arc::new(own), contents));
    };
    let mut found = Vec::with_capacity(declared.fields().len());
    for field in declared.fields() {
        let same = own.fields().iter().zip(all).find(|(own, _)| {
            own.name().eq_ignore_ascii_case(field.name()) && own.data_type() == field.data_type()
        });
        let Some((_, (_, content))) = same else {
            let columns = own.fields().iter().map(|own| {
                let sql = match own.data_type() {
                    DataType::Int64 => "BIGINT",
                    DataType::Utf8 => "STRING",
                    _ => "TIMESTAMP",
                };
                format!("{} {sql}", own.name())
            });
            return Err(ConnectorError::Schema(format!(
                "the connector '{NAME}' makes no column '{}' of that type for this table; its columns are: {}",
                field.name(),
                columns.collect::<Vec<_>>().join(", ")
            )));
        };
        found.push(*content);
    }
    Ok((Arc::clone(declared), found))
}

impl Source for NexmarkSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.reader.schema)
    }

    fn metadata_schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn description(&self) -> String {
        format!(
            "NexmarkSource[table={:?}, rate={}, numPartitions={}]",
            self.reader.maker.table, self.reader.maker.model.rate, self.partitions
        )
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        if let Some(last) = log.last() {
            let planned = last.end.as_u64().ok_or_else(|| foreign(&last.end))?;
            self.counter.resume(planned);
        }
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        Ok(self.counter.available().map(|events| json!(events)))
    }

    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>> {
        let rows = [limit.rows, self.epoch].into_iter().flatten().min();
        let limit = ReadLimit { rows, ..limit };
        let maker = &self.reader.maker;
        let places = maker.table.places();
        let cycle_bytes = (places.end - places.start) * maker.table.event_bytes();
        let event_bytes = (cycle_bytes / CYCLE).max(1);
        let Some(Range { start, end }) = self.counter.plan(limit, event_bytes) else {
            return Ok(None);
        };
        let width = SPLIT_EVENTS.saturating_mul(self.partitions);
        let mut splits = Vec::new();
        let mut first = start;
        while first < end {
            let until = first.saturating_add(width).min(end);
            for partition in 0..self.partitions {
                let range = serde_json::to_value(EventSplit {
                    first,
                    end: until,
                    partition,
                    partitions: self.partitions,
                });
                let range = range.map_err(|why| {
                    ConnectorError::Inconsistent(format!("a range of '{NAME}': {why}"))
                })?;
                splits.push(Split {
                    partition: Arc::from(format!("{NAME}-{partition}")),
                    range,
                    bytes: (until - first).div_ceil(self.partitions) * cycle_bytes / CYCLE,
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

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::clone(&self.reader) as Arc<dyn SourceReader>
    }
}

fn foreign(what: &Value) -> ConnectorError {
    ConnectorError::Inconsistent(format!(
        "the offset log holds {what}, which is no offset of a nexmark source. Use another checkpointLocation"
    ))
}

#[derive(Debug)]
struct NexmarkReader {
    schema: SchemaRef,
    contents: Vec<Content>,
    maker: Arc<Maker>,
}

impl SourceReader for NexmarkReader {
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        let range = EventSplit::deserialize(&split.range).map_err(|_| foreign(&split.range))?;
        let schema = self
            .schema
            .project(projection)
            .map_err(|source| generating("*", source))?;
        Ok(Box::new(EventReader {
            maker: Arc::clone(&self.maker),
            contents: projection.iter().map(|i| self.contents[*i]).collect(),
            schema: Arc::new(schema),
            range,
            next: range.first,
        }))
    }
}

struct EventReader {
    maker: Arc<Maker>,
    contents: Vec<Content>,
    schema: SchemaRef,
    range: EventSplit,
    next: u64,
}

impl EventReader {
    /// The numbers of the next events of the table, of about a batch.
    fn events(&mut self) -> Vec<u64> {
        let EventSplit {
            end,
            partition,
            partitions,
            ..
        } = self.range;
        let (model, places) = (self.maker.model, self.maker.table.places());
        let mut events = Vec::with_capacity(BATCH_ROWS);
        while self.next < end && events.len() < BATCH_ROWS {
            let place = self.next;
            self.next += 1;
            if partitions > 1 && place / CYCLE % partitions != partition {
                continue;
            }
            let event = model.event(place);
            if places.contains(&(event % CYCLE)) {
                events.push(event);
            }
        }
        events
    }
}

impl SplitReader for EventReader {
    fn read(&mut self) -> Result<Read> {
        let events = self.events();
        if events.is_empty() {
            return Ok(Read::End);
        }
        let columns = self
            .contents
            .iter()
            .zip(self.schema.fields())
            .map(|(content, field)| {
                self.maker
                    .make(*content, &events)
                    .map_err(|source| generating(field.name(), source))
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(events.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|source| generating("*", source))?;
        Ok(Read::Batch { batch, dropped: 0 })
    }
}

#[cfg(test)]
mod tests;
