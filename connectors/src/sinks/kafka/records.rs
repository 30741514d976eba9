//! Rows to records.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type};
use rdkafka::message::{Header, OwnedHeaders};

use super::super::json::{self, JsonStyle};
use super::super::text::{self, Bytes, CellWriter, Moments, Style};
use super::avro::AvroRecords;
use super::options::{Form, JsonForm, KeyForm, RecordColumns, SinkOptions};
use crate::{ChangeType, ConnectorError, Output, OutputMode, Result};

/// A record to send.
pub(super) struct Record<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    /// None is a tombstone.
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Option<OwnedHeaders>,
}

/// Makes records of the rows of one writer.
#[derive(Debug, Default)]
pub(super) struct Records {
    key: String,
    value: String,
    /// The row before an update, as JSON, until the row after it comes.
    before: Option<String>,
    avro: AvroRecords,
}

impl Records {
    /// Hands a record for each row that has one to `send`.
    pub(super) fn of(
        &mut self,
        output: &Output,
        options: &SinkOptions,
        send: impl FnMut(Record<'_>) -> Result<()>,
    ) -> Result<()> {
        match &options.form {
            Form::Columns(columns) => of_columns(output, columns, options, send),
            Form::Json(form) => self.of_json(output, form, options, send),
            Form::Avro(form) => {
                let key = key_writer(&output.batch, &form.key)?;
                self.avro.of(output, (key, form.encoding()?), options, send)
            }
        }
    }

    fn of_json(
        &mut self,
        output: &Output,
        form: &JsonForm,
        options: &SinkOptions,
        mut send: impl FnMut(Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let batch = &output.batch;
        let style = JsonStyle {
            zone: form.key.zone,
            ignore_nulls: form.ignore_nulls,
        };
        let value_of = json::rows(batch, style)?;
        let key_of = key_writer(batch, &form.key)?;
        let topic = options.topic.as_deref().unwrap_or_default();
        for row in 0..batch.num_rows() {
            let change = change(output, row);
            self.value.clear();
            if options.mode == OutputMode::Changelog {
                if !self.envelope(change, |out| value_of(row, out)) {
                    continue;
                }
            } else {
                match change {
                    // The row after it says all.
                    ChangeType::UpdatePreimage => continue,
                    ChangeType::Delete => {}
                    ChangeType::Insert | ChangeType::UpdatePostimage => {
                        value_of(row, &mut self.value);
                    }
                }
            }
            self.key.clear();
            if let Some(key_of) = &key_of {
                key_of(row, &mut self.key);
            }
            send(Record {
                topic,
                partition: None,
                key: key_of.is_some().then_some(self.key.as_bytes()),
                value: (!self.value.is_empty()).then_some(self.value.as_bytes()),
                headers: None,
            })?;
        }
        Ok(())
    }

    /// Debezium's envelope around a row; `false` where a later row completes it.
    fn envelope(&mut self, change: ChangeType, row: impl Fn(&mut String)) -> bool {
        let out = &mut self.value;
        let (op, before, after) = match change {
            ChangeType::UpdatePreimage => {
                let mut text = String::new();
                row(&mut text);
                self.before = Some(text);
                return false;
            }
            ChangeType::Insert => ("c", None, true),
            ChangeType::UpdatePostimage => ("u", self.before.take(), true),
            ChangeType::Delete => ("d", None, false),
        };
        out.push_str("{\"before\":");
        match (&before, after) {
            (Some(before), _) => out.push_str(before),
            (None, true) => out.push_str("null"),
            (None, false) => row(out),
        }
        out.push_str(",\"after\":");
        if after {
            row(out);
        } else {
            out.push_str("null");
        }
        out.push_str(",\"op\":\"");
        out.push_str(op);
        out.push_str("\"}");
        true
    }
}

/// What happened to a row.
pub(super) fn change(output: &Output, row: usize) -> ChangeType {
    output
        .changes
        .as_ref()
        .map_or(ChangeType::Insert, |changes| changes[row])
}

/// Writes the key of a row; none where records have no key.
fn key_writer(batch: &RecordBatch, form: &KeyForm) -> Result<Option<CellWriter>> {
    if form.columns.is_empty() {
        return Ok(None);
    }
    let key = batch
        .project(&form.columns)
        .map_err(|source| ConnectorError::Arrow {
            context: "the key of a Kafka record".into(),
            source,
        })?;
    if !form.raw {
        let style = JsonStyle {
            zone: form.zone,
            // Two keys that differ must differ as text.
            ignore_nulls: false,
        };
        return json::rows(&key, style).map(Some);
    }
    let schema = key.schema();
    let name = schema.field(0).name();
    let column = text::plain_values(name, key.column(0))?;
    let style = Style {
        zone: form.zone,
        moments: Moments::Iso,
        bytes: Bytes::Base64,
    };
    match text::scalar(&column, style) {
        Some((_, write)) => Ok(Some(write)),
        None => Err(text::no_text_form(name, column.data_type())),
    }
}

fn of_columns(
    output: &Output,
    columns: &RecordColumns,
    options: &SinkOptions,
    mut send: impl FnMut(Record<'_>) -> Result<()>,
) -> Result<()> {
    let batch = &output.batch;
    let column = |index: Option<usize>| index.map(|index| batch.column(index));
    let (key, headers) = (column(columns.key), column(columns.headers));
    let value = batch.column(columns.value);
    let topics = column(columns.topic);
    let partitions = column(columns.partition);
    for row in 0..batch.num_rows() {
        let deleted = match change(output, row) {
            ChangeType::UpdatePreimage => continue,
            change => change == ChangeType::Delete,
        };
        let named = topics.filter(|topics| topics.is_valid(row));
        let topic = match (&options.topic, named) {
            (Some(topic), _) => topic.as_str(),
            (None, Some(topics)) => topics.as_string::<i32>().value(row),
            (None, None) => {
                return Err(ConnectorError::Schema(
                    "a row has no topic: its column 'topic' is NULL. Write 'topic' for all rows, or leave such rows out with WHERE topic IS NOT NULL".into(),
                ));
            }
        };
        send(Record {
            topic,
            partition: partitions
                .filter(|partitions| partitions.is_valid(row))
                .map(|partitions| partitions.as_primitive::<Int32Type>().value(row)),
            key: key.and_then(|key| bytes(key, row)),
            value: bytes(value, row).filter(|_| !deleted),
            headers: headers.and_then(|headers| header_list(headers, row)),
        })?;
    }
    Ok(())
}

/// The bytes of a STRING or BINARY value.
fn bytes(array: &ArrayRef, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(row),
        _ => array.as_string::<i32>().value(row).as_bytes(),
    })
}

fn header_list(headers: &ArrayRef, row: usize) -> Option<OwnedHeaders> {
    if headers.is_null(row) {
        return None;
    }
    let entries = headers.as_list::<i32>().value(row);
    let entries = entries.as_struct();
    let (keys, values) = (entries.column(0), entries.column(1));
    let mut list = OwnedHeaders::new_with_capacity(entries.len());
    for entry in 0..entries.len() {
        list = list.insert(Header {
            key: keys.as_string::<i32>().value(entry),
            value: bytes(values, entry),
        });
    }
    Some(list)
}
