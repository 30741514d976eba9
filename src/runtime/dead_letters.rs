//! The table that rows go to which could not be processed.
//!
//! Where the table takes records as they are (a topic without a format), a letter is the record that
//! was read, with what is to be said of it as headers behind its own.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryArray, BinaryBuilder, Int64Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, StructBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use tidemark_connectors::sinks::takes_records;
use tidemark_connectors::storage::Storage;
use tidemark_connectors::{
    ConnectorError, OutputMode, Place, RecordHeader, Sink, SinkConfig, Staged,
};

use crate::operators::EpochInfo;
use crate::operators::dead_letter::{DeadLetter, LetterOrigin};
use crate::plan::{Plan, SinkTable};
use crate::runtime::QueryError;
use crate::runtime::side_table::{SideTable, source_names};
use crate::time::Epoch;

/// What the names of our headers begin with.
const OURS: &str = "tidemark.";

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
    ])
}

fn headers_field() -> Field {
    let item = Field::new_list_field(DataType::Struct(header_fields()), true);
    Field::new("headers", DataType::List(Arc::new(item)), true)
}

/// The columns of a dead-letter table.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let bytes = |name: &str| Field::new(name, DataType::Binary, true);
    let now = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("epoch", DataType::Int64, false),
        Field::new("timestamp", now, false),
        text("reason"),
        text("row"),
        text("source"),
        text("partition"),
        text("offset"),
        bytes("record"),
        bytes("key"),
        headers_field(),
    ]))
}

/// The columns of one that takes records as they are.
fn record_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        headers_field(),
    ]))
}

/// What the sink is opened with.
pub fn sink_config(table: &SinkTable, query_id: &str, storage: &Arc<dyn Storage>) -> SinkConfig {
    SinkConfig {
        query_name: table.name.clone(),
        query_id: query_id.to_owned(),
        schema: if takes_records(&table.connector, &table.options) {
            record_schema()
        } else {
            schema()
        },
        mode: OutputMode::Append,
        key: None,
        storage: Arc::clone(storage),
        continuous: false,
    }
}

/// Writes and commits dead letters, on the sequencer's thread.
pub struct DeadLetters {
    table: SideTable,
    /// The sources' tables, by index.
    tables: Vec<String>,
    /// Whether letters are the records that were read.
    records: bool,
}

impl DeadLetters {
    /// Letters of `plan` into `sink`, which is that of `table`.
    pub fn new(
        plan: &Plan,
        table: &SinkTable,
        sink: Box<dyn Sink>,
    ) -> Result<Self, ConnectorError> {
        Ok(Self {
            table: SideTable::new(sink)?,
            records: takes_records(&table.connector, &table.options),
            tables: source_names(plan),
        })
    }

    /// Takes the letters of an epoch, in an order that does not depend on workers.
    pub fn write(
        &mut self,
        epoch: &EpochInfo,
        mut letters: Vec<DeadLetter>,
    ) -> Result<(), QueryError> {
        if letters.is_empty() {
            return Ok(());
        }
        letters.sort();
        let batch = self.batch(epoch, &letters);
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

    fn batch(&self, epoch: &EpochInfo, letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
        let bytes = |of: &dyn Fn(&Place) -> Option<&[u8]>| -> ArrayRef {
            let values = letters.iter().map(|letter| of(letter.place()?));
            Arc::new(values.collect::<BinaryArray>())
        };
        let records = bytes(&|place| place.record.as_deref());
        let keys = bytes(&|place| place.key.as_deref());
        let own = letters.iter().map(|l| {
            l.place()
                .map_or_else(Vec::new, |place| place.headers.clone())
        });
        if self.records {
            let said = letters.iter().map(|letter| self.said(epoch, letter));
            let headers = headers(own.zip(said).map(|(own, said)| [own, said].concat()));
            return RecordBatch::try_new(record_schema(), vec![keys, records, headers]);
        }
        let text = |of: &dyn Fn(&DeadLetter) -> Option<String>| -> ArrayRef {
            Arc::new(letters.iter().map(of).collect::<StringArray>())
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![epoch.epoch as i64; letters.len()])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![epoch.timestamp; letters.len()])
                    .with_timezone("UTC"),
            ),
            text(&|letter| Some(letter.reason.clone())),
            text(&|letter| letter.row.clone()),
            text(&|letter| self.table(letter.origin.as_ref()?).cloned()),
            text(&|letter| Some(letter.origin.as_ref()?.partition.clone())),
            text(&|letter| Some(letter.place()?.text.clone())),
            records,
            keys,
            headers(own),
        ];
        RecordBatch::try_new(schema(), columns)
    }

    /// The table that a letter was read from.
    fn table(&self, origin: &LetterOrigin) -> Option<&String> {
        self.tables.get(origin.source)
    }

    /// What is to be said of a letter, as headers.
    fn said(&self, epoch: &EpochInfo, letter: &DeadLetter) -> Vec<RecordHeader> {
        let origin = letter.origin.as_ref();
        [
            ("reason", Some(letter.reason.clone())),
            ("row", letter.row.clone()),
            ("source", origin.and_then(|of| self.table(of)).cloned()),
            ("partition", origin.map(|origin| origin.partition.clone())),
            ("offset", letter.place().map(|place| place.text.clone())),
            ("epoch", Some(epoch.epoch.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((format!("{OURS}{name}"), Some(value?.into_bytes()))))
        .collect()
    }
}

/// A column of headers: null where there are none.
fn headers(rows: impl Iterator<Item = Vec<RecordHeader>>) -> ArrayRef {
    let columns: Vec<Box<dyn ArrayBuilder>> = vec![
        Box::new(StringBuilder::new()),
        Box::new(BinaryBuilder::new()),
    ];
    let mut lists = ListBuilder::new(StructBuilder::new(header_fields(), columns));
    for row in rows {
        for (name, value) in &row {
            let entry = lists.values();
            if let Some(names) = entry.field_builder::<StringBuilder>(0) {
                names.append_value(name);
            }
            if let Some(values) = entry.field_builder::<BinaryBuilder>(1) {
                values.append_option(value.as_deref());
            }
            entry.append(true);
        }
        lists.append(!row.is_empty());
    }
    Arc::new(lists.finish())
}
