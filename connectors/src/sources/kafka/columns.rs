//! The columns of a record: Kafka's own, and those of its value.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder,
    StructArray, StructBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Timestamp};

use super::options::Format;
use crate::{ConnectorError, Result};

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
    ])
}

fn header_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(header_fields()), true))
}

/// Kafka's own columns, `value` among them where it is not decoded.
pub(super) fn own(value: bool, headers: bool) -> Fields {
    let mut fields = vec![Field::new("key", DataType::Binary, true)];
    if value {
        fields.push(Field::new("value", DataType::Binary, true));
    }
    fields.extend([
        Field::new("topic", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new(
            "timestamp",
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            true,
        ),
        Field::new("timestampType", DataType::Int32, true),
    ]);
    if headers {
        fields.push(Field::new("headers", DataType::List(header_item()), true));
    }
    fields.into()
}

/// The columns of a table: those declared, checked, or those that there are.
pub(super) fn resolve(
    declared: Option<SchemaRef>,
    format: &Format,
    headers: bool,
) -> Result<SchemaRef> {
    match (format, declared) {
        (Format::None, None) => Ok(Arc::new(Schema::new(own(true, headers)))),
        (Format::None, Some(declared)) => {
            let own = own(true, headers);
            for field in declared.fields() {
                check_own(field, &own)?;
            }
            Ok(declared)
        }
        (Format::Raw, None) => Ok(Arc::new(Schema::new(vec![Field::new(
            "value",
            DataType::Binary,
            true,
        )]))),
        (Format::Raw, Some(declared)) => {
            if declared.fields().len() != 1 {
                return Err(ConnectorError::Schema(format!(
                    "'format' = 'raw' has one column, and the table declares {}: declare one, as BINARY or STRING; what Kafka knows of a record is in _metadata",
                    declared.fields().len()
                )));
            }
            crate::format::RawDecoder::new(Arc::clone(&declared))?;
            Ok(declared)
        }
        (Format::Json(_) | Format::Csv(_), None) => Err(ConnectorError::Schema(
            "the columns of a value must be declared, as in CREATE TABLE t (id BIGINT, name STRING); without 'format' the columns are Kafka's: key, value, topic, partition, offset, timestamp, timestampType".into(),
        )),
        (Format::Avro(options, registry), declared) => {
            options.columns(declared, registry.is_some())
        }
        (Format::Json(record), Some(declared)) => {
            record.corrupt_index(&declared)?;
            Ok(declared)
        }
        (Format::Csv(csv), Some(declared)) => {
            csv.record.corrupt_index(&declared)?;
            Ok(declared)
        }
    }
}

fn check_own(field: &FieldRef, own: &Fields) -> Result<()> {
    let known = own
        .iter()
        .find(|known| known.name().eq_ignore_ascii_case(field.name()));
    match known {
        Some(known) if known.data_type() == field.data_type() => Ok(()),
        Some(known) => Err(ConnectorError::Schema(format!(
            "column '{}' of a Kafka record is a {}, not a {}: declare it so, or write 'format' = 'raw' for a value as STRING",
            field.name(),
            known.data_type(),
            field.data_type()
        ))),
        None => Err(ConnectorError::Schema(format!(
            "a Kafka record has no column '{}'; it has {}. Write 'format' = 'json', 'csv' or 'avro' to have the columns of its value, 'includeHeaders' = 'true' for its headers",
            field.name(),
            own.iter()
                .map(|f| f.name().as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// One of Kafka's columns being filled.
enum Filling {
    Key(BinaryBuilder),
    Value(BinaryBuilder),
    Topic(usize),
    Partition(usize),
    Offset(Vec<i64>),
    Timestamp(Vec<Option<i64>>),
    TimestampType(Vec<i32>),
    Headers(ListBuilder<StructBuilder>),
}

/// Kafka's columns of the records of one partition, as far as they are wanted.
pub(super) struct Filled {
    topic: Arc<str>,
    partition: i32,
    columns: Vec<Filling>,
    rows: usize,
    bytes: usize,
}

impl Filled {
    pub(super) fn new(fields: &Fields, topic: Arc<str>, partition: i32) -> Result<Self> {
        let columns = fields
            .iter()
            .map(|field| match field.name().to_ascii_lowercase().as_str() {
                "key" => Ok(Filling::Key(BinaryBuilder::new())),
                "value" => Ok(Filling::Value(BinaryBuilder::new())),
                "topic" => Ok(Filling::Topic(0)),
                "partition" => Ok(Filling::Partition(0)),
                "offset" => Ok(Filling::Offset(vec![])),
                "timestamp" => Ok(Filling::Timestamp(vec![])),
                "timestamptype" => Ok(Filling::TimestampType(vec![])),
                "headers" => Ok(Filling::Headers(header_builder())),
                other => Err(ConnectorError::Schema(format!(
                    "a Kafka record has no column '{other}'"
                ))),
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            topic,
            partition,
            columns,
            rows: 0,
            bytes: 0,
        })
    }

    /// How many rows it holds, and about how many bytes of variable length.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.rows, self.bytes)
    }

    /// Adds `rows` rows of one record.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>, rows: usize) {
        for column in &mut self.columns {
            match column {
                Filling::Key(builder) => {
                    for _ in 0..rows {
                        builder.append_option(message.key());
                    }
                    self.bytes += message.key_len() * rows;
                }
                Filling::Value(builder) => {
                    for _ in 0..rows {
                        builder.append_option(message.payload());
                    }
                    self.bytes += message.payload_len() * rows;
                }
                Filling::Topic(count) | Filling::Partition(count) => *count += rows,
                Filling::Offset(values) => {
                    values.extend(std::iter::repeat_n(message.offset(), rows));
                }
                Filling::Timestamp(values) => {
                    let micros = message
                        .timestamp()
                        .to_millis()
                        .and_then(|millis| millis.checked_mul(1000));
                    values.extend(std::iter::repeat_n(micros, rows));
                }
                Filling::TimestampType(values) => {
                    let kind = match message.timestamp() {
                        Timestamp::NotAvailable => -1,
                        Timestamp::CreateTime(_) => 0,
                        Timestamp::LogAppendTime(_) => 1,
                    };
                    values.extend(std::iter::repeat_n(kind, rows));
                }
                Filling::Headers(builder) => {
                    for _ in 0..rows {
                        push_headers(builder, message);
                    }
                }
            }
        }
        self.rows += rows;
    }

    /// Hands out the columns so far, in the order of the fields.
    pub(super) fn take(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        self.bytes = 0;
        self.columns
            .iter_mut()
            .map(|column| -> ArrayRef {
                match column {
                    Filling::Key(builder) | Filling::Value(builder) => Arc::new(builder.finish()),
                    Filling::Topic(count) => {
                        let rows = std::mem::take(count);
                        let values = std::iter::repeat_n(&*self.topic, rows);
                        Arc::new(StringArray::from_iter_values(values))
                    }
                    Filling::Partition(count) => Arc::new(Int32Array::from_value(
                        self.partition,
                        std::mem::take(count),
                    )),
                    Filling::Offset(values) => Arc::new(Int64Array::from(std::mem::take(values))),
                    Filling::Timestamp(values) => {
                        let values = TimestampMicrosecondArray::from(std::mem::take(values));
                        Arc::new(values.with_timezone("UTC"))
                    }
                    Filling::TimestampType(values) => {
                        Arc::new(Int32Array::from(std::mem::take(values)))
                    }
                    Filling::Headers(builder) => Arc::new(builder.finish()),
                }
            })
            .collect()
    }
}

fn header_builder() -> ListBuilder<StructBuilder> {
    let columns: Vec<Box<dyn arrow::array::ArrayBuilder>> = vec![
        Box::new(StringBuilder::new()),
        Box::new(BinaryBuilder::new()),
    ];
    ListBuilder::new(StructBuilder::new(header_fields(), columns)).with_field(header_item())
}

fn push_headers(builder: &mut ListBuilder<StructBuilder>, message: &BorrowedMessage<'_>) {
    let Some(headers) = message.headers() else {
        builder.append_null();
        return;
    };
    for header in headers.iter() {
        let entry = builder.values();
        if let Some(key) = entry.field_builder::<StringBuilder>(0) {
            key.append_value(header.key);
        }
        if let Some(value) = entry.field_builder::<BinaryBuilder>(1) {
            value.append_option(header.value);
        }
        entry.append(true);
    }
    builder.append(true);
}

/// The hidden metadata column of these columns.
pub(super) fn metadata(
    fields: &Fields,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<ArrayRef, ArrowError> {
    StructArray::try_new_with_length(fields.clone(), columns, None, rows)
        .map(|array| -> ArrayRef { Arc::new(array) })
}
