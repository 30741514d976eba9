//! The table that rows go to which could not be processed: a second sink of the query, committed
//! with each epoch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemark_connectors::storage::Storage;
use tidemark_connectors::{
    ConnectorError, Output, OutputMode, Sink, SinkConfig, SinkWriter, Staged,
};

use crate::operators::EpochInfo;
use crate::operators::dead_letter::{DeadLetter, LetterOrigin};
use crate::plan::Plan;
use crate::runtime::QueryError;
use crate::time::Epoch;

/// The columns of a dead-letter table.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let now = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("epoch", DataType::Int64, false),
        Field::new("timestamp", now, false),
        text("reason"),
        text("row"),
        text("source"),
        text("partition"),
        text("offset"),
        Field::new("record", DataType::Binary, true),
    ]))
}

/// What the sink is opened with.
pub fn sink_config(table: &str, query_id: &str, storage: &Arc<dyn Storage>) -> SinkConfig {
    SinkConfig {
        query_name: table.to_owned(),
        query_id: query_id.to_owned(),
        schema: schema(),
        mode: OutputMode::Append,
        key: None,
        storage: Arc::clone(storage),
    }
}

/// Writes and commits dead letters, on the sequencer's thread.
pub struct DeadLetters {
    sink: Box<dyn Sink>,
    writer: Box<dyn SinkWriter>,
    /// The newest epoch that the sink holds.
    held: Option<Epoch>,
    /// The sources' tables, by index.
    tables: Vec<String>,
}

impl DeadLetters {
    /// Letters of `plan` into `sink`.
    pub fn new(plan: &Plan, mut sink: Box<dyn Sink>) -> Result<Self, ConnectorError> {
        let held = sink.last_committed()?;
        sink.discard_uncommitted()?;
        Ok(Self {
            writer: sink.writer(0)?,
            sink,
            held,
            tables: plan
                .sources
                .iter()
                .map(|source| source.name.clone())
                .collect(),
        })
    }

    /// Makes the letters of an epoch durable, in an order that does not depend on workers.
    pub fn stage(
        &mut self,
        epoch: &EpochInfo,
        mut letters: Vec<DeadLetter>,
    ) -> Result<Staged, QueryError> {
        letters.sort();
        if !letters.is_empty() {
            let output = Output {
                batch: self.batch(epoch, &letters)?,
                changes: None,
            };
            self.writer.write(epoch.epoch, &output)?;
        }
        Ok(self.writer.stage(epoch.epoch)?)
    }

    /// Makes what was staged visible, unless the sink holds the epoch already.
    pub fn commit(&mut self, epoch: Epoch, staged: &Staged) -> Result<(), QueryError> {
        if self.held.is_some_and(|held| epoch <= held) {
            self.sink.discard_uncommitted()?;
        } else {
            self.sink.commit(epoch, std::slice::from_ref(staged))?;
        }
        Ok(())
    }

    fn batch(&self, epoch: &EpochInfo, letters: &[DeadLetter]) -> Result<RecordBatch, QueryError> {
        let origin = |letter: &'_ DeadLetter| -> Option<LetterOrigin> { letter.origin.clone() };
        let text = |of: &dyn Fn(&DeadLetter) -> Option<String>| -> ArrayRef {
            Arc::new(letters.iter().map(of).collect::<StringArray>())
        };
        let place = |letter: &DeadLetter| origin(letter).and_then(|origin| origin.place);
        let records: BinaryArray = letters
            .iter()
            .map(|l| place(l).and_then(|p| p.record))
            .collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![epoch.epoch as i64; letters.len()])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![epoch.timestamp; letters.len()])
                    .with_timezone("UTC"),
            ),
            text(&|letter| Some(letter.reason.clone())),
            text(&|letter| letter.row.clone()),
            text(&|letter| self.tables.get(origin(letter)?.source).cloned()),
            text(&|letter| Some(origin(letter)?.partition)),
            text(&|letter| Some(place(letter)?.text)),
            Arc::new(records),
        ];
        RecordBatch::try_new(schema(), columns).map_err(|source| {
            QueryError::Connector(ConnectorError::Arrow {
                context: "building a batch of dead letters".into(),
                source,
            })
        })
    }
}
