//! The formats of records: bytes to Arrow and back.
//!
//! | module | what it does |
//! |---|---|
//! | [`json`] | JSON records, by Spark's rules, straight into columns |
//! | [`csv`] | CSV records, by Spark's rules |
//! | [`avro`] | Avro records by their schemas, and back |
//! | [`casts`] | text to typed values: what both have in common |
//! | [`RecordDecoder`], `raw` | a decoder of any of them; bytes as they are |
//! | [`pattern`], [`zone`], [`datetime`] | datetime patterns, time zones, timestamps |
//! | `columns`, `values` | columns that can take back the last row |
//! | `building` | the batch that a decoder of records fills |
//! | `names` | the fields of objects, and a guess at which comes next |
//! | `scan` | finding bytes many at a time |
//!
//! A record that cannot be decoded follows the [`ParseMode`].

pub mod avro;
pub(crate) mod building;
pub mod casts;
pub(crate) mod columns;
pub mod csv;
pub mod datetime;
mod decoder;
pub mod json;
pub(crate) mod names;
pub mod pattern;
mod raw;
pub(crate) mod scan;
pub(crate) mod values;
pub mod zone;

use std::str::FromStr;

use arrow::datatypes::{DataType, FieldRef, Schema};

pub use decoder::RecordDecoder;
pub use raw::RawDecoder;

use crate::{ConnectorError, Options, Result};

/// How many rows a batch has at most.
pub const BATCH_ROWS: usize = 8192;

/// How many bytes of values a batch may hold before it is handed on early.
pub(crate) const BATCH_BYTES: usize = 64 << 20;

/// The longest record that is taken: what Arrow's 32-bit offsets can surely hold.
pub(crate) const MAX_RECORD: usize = 512 << 20;

/// The default of `columnNameOfCorruptRecord`.
pub const CORRUPT_RECORD: &str = "_corrupt_record";

/// What becomes of a record that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParseMode {
    /// What could not be decoded is null; the record is kept in the corrupt record column where
    /// the schema has one.
    #[default]
    Permissive,
    /// The record is left out and counted.
    DropMalformed,
    /// The first such record is an error.
    FailFast,
}

impl FromStr for ParseMode {
    type Err = ConnectorError;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_uppercase().as_str() {
            "PERMISSIVE" => Ok(Self::Permissive),
            "DROPMALFORMED" => Ok(Self::DropMalformed),
            "FAILFAST" => Ok(Self::FailFast),
            _ => Err(ConnectorError::OptionValue {
                key: "mode".into(),
                value: text.into(),
                expected: "PERMISSIVE, DROPMALFORMED or FAILFAST".into(),
            }),
        }
    }
}

/// The options that every text format has.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// `mode`.
    pub mode: ParseMode,
    /// `columnNameOfCorruptRecord`.
    pub corrupt_column: String,
    /// `timeZone`, `timestampFormat`, `timestampNTZFormat`, `dateFormat`.
    pub casts: casts::Casts,
}

impl Default for RecordOptions {
    fn default() -> Self {
        Self {
            mode: ParseMode::default(),
            corrupt_column: CORRUPT_RECORD.into(),
            casts: casts::Casts::default(),
        }
    }
}

impl RecordOptions {
    /// The names that [`Self::new`] reads.
    pub const KEYS: &'static [&'static str] = &[
        "mode",
        "columnNameOfCorruptRecord",
        "timeZone",
        "timestampFormat",
        "timestampNTZFormat",
        "dateFormat",
    ];

    /// Takes the options out of a table's.
    pub fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            mode: options
                .get("mode")
                .map_or(Ok(ParseMode::default()), str::parse)?,
            corrupt_column: options
                .get("columnNameOfCorruptRecord")
                .unwrap_or(CORRUPT_RECORD)
                .into(),
            casts: casts::Casts::new(options)?,
        })
    }

    /// The index of the corrupt record column, which must be a STRING.
    pub(crate) fn corrupt_index(&self, schema: &Schema) -> Result<Option<usize>> {
        let Some((index, field)) = schema.column_with_name(&self.corrupt_column) else {
            return Ok(None);
        };
        if field.data_type() != &DataType::Utf8 {
            return Err(ConnectorError::Schema(format!(
                "the corrupt record column '{}' is a {}: declare it as STRING, or name another one with 'columnNameOfCorruptRecord'",
                self.corrupt_column,
                field.data_type()
            )));
        }
        Ok(Some(index))
    }
}

/// The columns to decode so that `wanted` are there, first: all of `record` where one of them is the
/// corrupt record column, or where malformed records are left out or refused. Whether a record is
/// corrupt must not depend on the columns that a query uses.
pub(crate) fn columns_to_decode(
    wanted: Vec<FieldRef>,
    record: &Schema,
    options: Option<&RecordOptions>,
) -> Vec<FieldRef> {
    let checks_all = options.is_some_and(|options| {
        options.mode != ParseMode::Permissive
            || wanted
                .iter()
                .any(|field| *field.name() == options.corrupt_column)
    });
    if checks_all {
        with_all(wanted, record)
    } else {
        wanted
    }
}

/// All columns of `record`, `wanted` first.
pub(crate) fn with_all(mut wanted: Vec<FieldRef>, record: &Schema) -> Vec<FieldRef> {
    for field in record.fields() {
        if !wanted.iter().any(|found| found.name() == field.name()) {
            wanted.push(FieldRef::clone(field));
        }
    }
    wanted
}

/// A record that could not be decoded, where the mode is [`ParseMode::FailFast`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where the record begins in the bytes that were given.
    pub offset: usize,
    /// What is wrong with it.
    pub reason: String,
    /// The record, cut to a readable length.
    pub record: String,
}

impl Malformed {
    pub(crate) fn new(offset: usize, reason: String, record: &[u8]) -> Self {
        const READABLE: usize = 200;
        let record = record.trim_ascii_end();
        let mut text = String::from_utf8_lossy(&record[..record.len().min(READABLE)]).into_owned();
        if record.len() > READABLE {
            text.push('…');
        }
        Self {
            offset,
            reason,
            record: text,
        }
    }

    /// As an error, once its place is known.
    pub fn at(self, place: String) -> ConnectorError {
        ConnectorError::MalformedRecord {
            place,
            reason: self.reason,
            record: self.record,
        }
    }
}
