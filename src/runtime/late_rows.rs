//! The table that rows go to which came too late.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use tidemark_connectors::sinks::takes_records;
use tidemark_connectors::storage::Storage;
use tidemark_connectors::{ConnectorError, OutputMode, Sink, SinkConfig, Staged};

use crate::operators::EpochInfo;
use crate::operators::late::LateRow;
use crate::plan::{Plan, SinkTable};
use crate::runtime::QueryError;
use crate::runtime::side_table::{SideTable, source_names};
use crate::time::Epoch;

/// The columns of a table of late rows.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let moment = |name: &str| Field::new(name, moment.clone(), false);
    Arc::new(Schema::new(vec![
        number("epoch"),
        moment("timestamp"),
        number("operator"),
        text("operator_name"),
        text("row"),
        moment("event_time"),
        moment("watermark"),
        number("lateness_ms"),
        text("source"),
        text("partition"),
    ]))
}

/// What the sink is opened with.
pub fn sink_config(
    table: &SinkTable,
    query_id: &str,
    storage: &Arc<dyn Storage>,
) -> Result<SinkConfig, ConnectorError> {
    if takes_records(&table.connector, &table.options) {
        return Err(ConnectorError::MissingOption {
            connector: table.connector.clone(),
            key: "format".into(),
            remedy: "a table of late rows has columns; write 'format' = 'json'".into(),
        });
    }
    Ok(SinkConfig {
        query_name: table.name.clone(),
        query_id: query_id.to_owned(),
        schema: schema(),
        mode: OutputMode::Append,
        key: None,
        storage: Arc::clone(storage),
        continuous: false,
    })
}

/// Writes and commits late rows, on the sequencer's thread.
pub struct LateRows {
    table: SideTable,
    /// The sources' tables, by index.
    tables: Vec<String>,
}

impl LateRows {
    /// Late rows of `plan` into `sink`.
    pub fn new(plan: &Plan, sink: Box<dyn Sink>) -> Result<Self, ConnectorError> {
        Ok(Self {
            table: SideTable::new(sink)?,
            tables: source_names(plan),
        })
    }

    /// Takes the late rows of an epoch, in an order that does not depend on workers.
    pub fn write(&mut self, epoch: &EpochInfo, mut rows: Vec<LateRow>) -> Result<(), QueryError> {
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort();
        let batch = self.batch(epoch, &rows);
        self.table.write(epoch.epoch, batch)
    }

    /// Makes durable what was written up to an epoch.
    pub fn stage(&mut self, epoch: Epoch) -> Result<Staged, QueryError> {
        self.table.stage(epoch)
    }

    /// Makes what was staged visible, unless the sink holds the epoch already.
    pub fn commit(&mut self, epoch: Epoch, staged: &Staged) -> Result<(), QueryError> {
        self.table.commit(epoch, staged)
    }

    fn batch(&self, epoch: &EpochInfo, rows: &[LateRow]) -> Result<RecordBatch, ArrowError> {
        // A row is late by the watermark of the epoch before.
        let watermark = epoch.previous_watermark;
        let text = |of: &dyn Fn(&LateRow) -> Option<String>| -> ArrayRef {
            Arc::new(rows.iter().map(of).collect::<StringArray>())
        };
        let number = |of: &dyn Fn(&LateRow) -> i64| -> ArrayRef {
            Arc::new(rows.iter().map(of).collect::<Int64Array>())
        };
        let moment = |of: &dyn Fn(&LateRow) -> i64| -> ArrayRef {
            let moments: TimestampMicrosecondArray = rows.iter().map(|row| Some(of(row))).collect();
            Arc::new(moments.with_timezone("UTC"))
        };
        let columns = vec![
            number(&|_| epoch.epoch as i64),
            moment(&|_| epoch.timestamp),
            number(&|row| row.operator as i64),
            text(&|row| Some(row.name.clone())),
            text(&|row| row.row.clone()),
            moment(&|row| row.event_time),
            moment(&|_| watermark),
            number(&|row| watermark.saturating_sub(row.event_time).div_euclid(1000)),
            text(&|row| self.tables.get(row.origin.as_ref()?.source).cloned()),
            text(&|row| Some(row.origin.as_ref()?.partition.clone())),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}
