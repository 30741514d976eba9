//! Avro records to Arrow columns and back.
//!
//! | module | what it does |
//! |---|---|
//! | `schema` | schemas as JSON to numbered types |
//! | `resolve`, `read` | a writer's schema and the columns to steps, once; the steps of each record |
//! | `cursor` | reading bytes, none of which are believed |
//! | `write` | rows to bytes |
//! | `defaults`, `derive` | defaults as bytes; schemas of columns, and columns of schemas |
//!
//! A record is bytes without a schema. Which one they were written with is given once
//! ([`AvroDecoder::new`]), or each record begins with the number of its schema in a registry
//! ([`AvroDecoder::framed`]): a zero byte and four bytes. Whoever decodes such records asks which
//! schema is [`unknown`](AvroDecoder::unknown), and [`define`](AvroDecoder::define)s it.

mod cursor;
mod defaults;
mod derive;
mod read;
mod resolve;
mod schema;
mod write;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};

pub use schema::AvroSchema;

use self::cursor::{Cursor, Fault};
use self::read::read_record;
use self::resolve::{Record, resolve};
use super::building::Building;
use super::columns::Column;
use super::{CORRUPT_RECORD, Malformed, ParseMode};
use crate::{ConnectorError, Options, Result};

/// How many bytes stand before a record that names its schema.
const FRAME: usize = 5;

/// How Avro records become rows.
#[derive(Clone, Debug)]
pub struct AvroOptions {
    /// `mode`; here [`ParseMode::FailFast`] unless said otherwise, as in Spark.
    pub mode: ParseMode,
    /// `columnNameOfCorruptRecord`: a BINARY column.
    pub corrupt_column: String,
    /// `avroSchema`.
    pub schema: Option<Arc<AvroSchema>>,
}

impl AvroOptions {
    /// The names that [`Self::new`] reads.
    pub const KEYS: &'static [&'static str] = &["mode", "columnNameOfCorruptRecord", "avroSchema"];

    /// Takes the options out of a table's.
    pub fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            mode: options
                .get("mode")
                .map_or(Ok(ParseMode::FailFast), str::parse)?,
            corrupt_column: options
                .get("columnNameOfCorruptRecord")
                .unwrap_or(CORRUPT_RECORD)
                .into(),
            schema: given_schema(options)?.map(Arc::new),
        })
    }

    /// The index of the corrupt record column, which must be BINARY.
    fn corrupt_index(&self, columns: &Schema) -> Result<Option<usize>> {
        let Some((index, field)) = columns.column_with_name(&self.corrupt_column) else {
            return Ok(None);
        };
        if *field.data_type() != DataType::Binary {
            return Err(ConnectorError::Schema(format!(
                "the corrupt record column '{}' is a {}, and an Avro record is bytes: declare it as BINARY, or name another one with 'columnNameOfCorruptRecord'",
                self.corrupt_column,
                field.data_type()
            )));
        }
        Ok(Some(index))
    }

    /// The columns of a table: those declared, or those of the given schema. Where `framed`, that is a
    /// reader's schema.
    pub fn columns(&self, declared: Option<SchemaRef>, framed: bool) -> Result<SchemaRef> {
        let columns = match (declared, &self.schema) {
            (Some(declared), _) => declared,
            (None, Some(schema)) => {
                let columns = derive::columns_of(schema)
                    .map_err(|why| ConnectorError::Schema(format!("'avroSchema': {why}")))?;
                Arc::new(Schema::new(columns))
            }
            (None, None) => {
                return Err(ConnectorError::Schema(
                    "the columns of an Avro record must be declared, as in CREATE TABLE t (id BIGINT, name STRING), or taken from 'avroSchema'".into(),
                ));
            }
        };
        if let Some(schema) = &self.schema {
            let corrupt = self.corrupt_index(&columns)?;
            let fits = resolve(schema, None, columns.fields(), corrupt);
            let record = fits.map_err(|why| unfit("avroSchema", &why))?;
            if let Some((column, _)) = record.absent.first() {
                let why = format!(
                    "there is no field for the column '{}'",
                    columns.field(*column).name()
                );
                return Err(unfit("avroSchema", &why));
            }
        }
        if framed {
            AvroDecoder::framed(Arc::clone(&columns), self.clone())?;
        } else {
            AvroDecoder::new(Arc::clone(&columns), self.clone())?;
        }
        Ok(columns)
    }
}

/// `avroSchema`: JSON, or the path of a file that holds it.
pub(crate) fn given_schema(options: &Options) -> Result<Option<AvroSchema>> {
    const KEY: &str = "avroSchema";
    let Some(text) = options.get(KEY) else {
        return Ok(None);
    };
    let is_json = text.trim_start().starts_with(['{', '[', '"']);
    let text = if is_json {
        text.to_owned()
    } else {
        let path = text.strip_prefix("file://").unwrap_or(text);
        std::fs::read_to_string(path).map_err(|source| ConnectorError::Io {
            action: "cannot read the schema of 'avroSchema' from",
            path: path.into(),
            source,
        })?
    };
    AvroSchema::parse(&text)
        .map(Some)
        .map_err(|why| ConnectorError::Schema(format!("'avroSchema' is no schema of rows: {why}")))
}

/// The error of a schema that columns do not fit; `which` names it.
fn unfit(which: &str, why: &str) -> ConnectorError {
    ConnectorError::Schema(format!(
        "the columns do not fit the schema of '{which}': {why}. CAST the column, declare it otherwise, or change the schema"
    ))
}

/// Which schema records were written with.
#[derive(Debug)]
enum Writers {
    /// All with this one.
    One(Writer),
    /// They say it themselves.
    Framed(HashMap<u32, Result<Writer, Fault>>),
}

#[derive(Debug)]
struct Writer {
    schema: Arc<AvroSchema>,
    record: Record,
}

/// Decodes Avro records into batches of the wanted columns.
#[derive(Debug)]
pub struct AvroDecoder {
    options: AvroOptions,
    building: Building,
    writers: Writers,
}

impl AvroDecoder {
    /// A decoder of records that were written with the schema of the options, into the columns of
    /// `columns`: those that are wanted, in any order. A BINARY column named as the corrupt record
    /// column receives records that could not be decoded.
    pub fn new(columns: SchemaRef, options: AvroOptions) -> Result<Self> {
        let Some(schema) = options.schema.clone() else {
            return Err(ConnectorError::Schema(
                "it is not known which schema the Avro records were written with: write 'avroSchema' = 'JSON or a path', or 'schema.registry.url' where they name it".into(),
            ));
        };
        let mut decoder = Self::framed(columns, options)?;
        let record = decoder
            .resolve(&schema, None)
            .map_err(|why| unfit("avroSchema", &why))?;
        decoder.writers = Writers::One(Writer { schema, record });
        Ok(decoder)
    }

    /// The same of records that name their schema. That of the options, if there is one, is the
    /// reader's: it has defaults and aliases.
    pub fn framed(columns: SchemaRef, options: AvroOptions) -> Result<Self> {
        let corrupt = options.corrupt_index(&columns)?;
        let filling = columns
            .fields()
            .iter()
            .map(|field| Column::new(field.name(), field.data_type()))
            .collect::<Result<_>>()?;
        Ok(Self {
            building: Building::new(columns, filling, corrupt),
            options,
            writers: Writers::Framed(HashMap::new()),
        })
    }

    fn resolve(&self, writer: &AvroSchema, reader: Option<&AvroSchema>) -> Result<Record, Fault> {
        let fields: &[FieldRef] = self.building.schema.fields();
        resolve(writer, reader, fields, self.building.corrupt)
    }

    /// The number of the schema that a record names and that is not known yet.
    pub fn unknown(&self, record: &[u8]) -> Option<u32> {
        let Writers::Framed(known) = &self.writers else {
            return None;
        };
        let (id, _) = frame(record)?;
        (!known.contains_key(&id)).then_some(id)
    }

    /// Says what schema a number stands for, or why for none.
    pub fn define(&mut self, id: u32, schema: Result<Arc<AvroSchema>, String>) {
        let writer = schema.and_then(|schema| {
            let record = self
                .resolve(&schema, self.options.schema.as_deref())
                .map_err(|why| format!("schema {id}: {why}"))?;
            Ok(Writer { schema, record })
        });
        if let Writers::Framed(known) = &mut self.writers {
            known.insert(id, writer);
        }
    }

    /// Decodes one record.
    pub fn push_record(&mut self, record: &[u8]) -> Result<(), Malformed> {
        let Self {
            options,
            building,
            writers,
        } = self;
        let before = building.rows;
        let Err(reason) = decode(record, writers, &mut building.columns) else {
            if let Some(column) = building.corrupt {
                building.columns[column].push_null();
            }
            building.rows += 1;
            return Ok(());
        };
        building.take_back(before);
        match options.mode {
            ParseMode::DropMalformed => building.drop_record(before),
            ParseMode::FailFast => return Err(malformed(reason, record)),
            ParseMode::Permissive => {
                building.push_nulls();
                if let Some(Column::Binary(values)) =
                    building.corrupt.map(|index| &mut building.columns[index])
                {
                    values.truncate(before);
                    values.push(record);
                }
            }
        }
        Ok(())
    }

    /// How many rows wait for [`Self::flush`].
    pub fn rows(&self) -> usize {
        self.building.rows
    }

    /// Whether it is time to flush.
    pub fn is_full(&self) -> bool {
        self.building.is_full()
    }

    /// Hands out the rows so far, and how many records were dropped beside them.
    pub fn flush(&mut self) -> Result<(RecordBatch, u64)> {
        self.building.flush("Avro")
    }
}

/// The number of the schema, and what comes behind it.
fn frame(record: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = record.split_first_chunk::<FRAME>()?;
    let [0, id @ ..] = *head else { return None };
    Some((u32::from_be_bytes(id), rest))
}

/// Puts a record into the columns. Where it cannot be decoded, they hold parts of it.
fn decode(record: &[u8], writers: &Writers, columns: &mut [Column]) -> Result<(), Fault> {
    let (writer, value) = match writers {
        Writers::One(writer) => (writer, record),
        Writers::Framed(known) => {
            let (id, value) = frame(record).ok_or(
                "it does not begin with a zero byte and the number of a schema, as those of a schema registry do",
            )?;
            match known.get(&id) {
                Some(Ok(writer)) => (writer, value),
                Some(Err(why)) => return Err(why.clone()),
                None => return Err(format!("schema {id} is not known")),
            }
        }
    };
    let mut cursor = Cursor::new(value);
    read_record(&mut cursor, &writer.schema, &writer.record, columns)?;
    match cursor.left() {
        0 => Ok(()),
        left => Err(format!(
            "{left} bytes are left behind its end: it was written with another schema"
        )),
    }
}

fn malformed(reason: Fault, record: &[u8]) -> Malformed {
    const READABLE: usize = 40;
    let mut text = String::new();
    for byte in record.iter().take(READABLE) {
        text.push_str(&format!("{byte:02x}"));
    }
    if record.len() > READABLE {
        text.push('…');
    }
    Malformed {
        offset: 0,
        reason,
        record: text,
    }
}

/// Encodes rows as records of one schema.
#[derive(Clone, Debug)]
pub struct AvroEncoder {
    schema: Arc<AvroSchema>,
}

/// Appends the bytes of one row of a batch.
pub(crate) type RowWriter = write::ValueWriter;

impl AvroEncoder {
    /// An encoder for rows of `columns` with the schema that `which` names in errors.
    pub fn new(schema: AvroSchema, columns: &SchemaRef, which: &str) -> Result<Self> {
        let encoder = Self {
            schema: Arc::new(schema),
        };
        let none = RecordBatch::new_empty(Arc::clone(columns));
        let fits = encoder.try_rows(&none);
        fits.map_err(|why| unfit(which, &why)).map(drop)?;
        Ok(encoder)
    }

    /// An encoder for rows of `columns` with a schema of their own: a record called `name`.
    pub fn of_columns(columns: &SchemaRef, name: &str, namespace: Option<&str>) -> Result<Self> {
        let error = |why| ConnectorError::Schema(format!("the rows have no Avro schema: {why}"));
        let schema = derive::schema_of(columns.fields(), name, namespace).map_err(error)?;
        let schema = AvroSchema::parse(&schema.to_string()).map_err(error)?;
        Self::new(schema, columns, "the columns")
    }

    /// The schema.
    pub fn schema(&self) -> &AvroSchema {
        &self.schema
    }

    fn try_rows(&self, batch: &RecordBatch) -> Result<RowWriter, Fault> {
        let fields = self.schema.fields(self.schema.root()).unwrap_or_default();
        let columns = batch.schema();
        write::record(&self.schema, fields, columns.fields(), batch.columns())
    }

    /// A writer of the rows of a batch. It fails on a row that the schema does not allow.
    pub(crate) fn rows(&self, batch: &RecordBatch) -> Result<RowWriter> {
        self.try_rows(batch).map_err(ConnectorError::Schema)
    }
}

#[cfg(test)]
mod tests;
