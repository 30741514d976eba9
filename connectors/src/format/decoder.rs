//! A decoder of any format of records.

use arrow::array::RecordBatch;

use super::avro::AvroDecoder;
use super::csv::CsvDecoder;
use super::json::JsonDecoder;
use super::{Malformed, RawDecoder};
use crate::Result;

/// Decodes records of one format into batches of the wanted columns.
#[derive(Debug)]
pub enum RecordDecoder {
    /// JSON.
    Json(JsonDecoder),
    /// CSV.
    Csv(CsvDecoder),
    /// Avro.
    Avro(AvroDecoder),
    /// Bytes as they are.
    Raw(RawDecoder),
}

impl RecordDecoder {
    /// Decodes whole lines until a batch is full, and says how many bytes it took. Only the last
    /// line may lack its newline.
    pub fn push_lines(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Json(decoder) => decoder.push_lines(bytes),
            Self::Csv(decoder) => decoder.push_lines(bytes),
            Self::Avro(_) | Self::Raw(_) => self.push_record(bytes).map(|()| bytes.len()),
        }
    }

    /// Decodes records that may go over lines, and says how many bytes it took.
    pub fn push_whole(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Csv(decoder) => decoder.push_lines(bytes),
            Self::Json(_) | Self::Avro(_) | Self::Raw(_) => {
                self.push_record(bytes).map(|()| bytes.len())
            }
        }
    }

    /// Decodes one record.
    pub fn push_record(&mut self, record: &[u8]) -> Result<(), Malformed> {
        match self {
            Self::Json(decoder) => decoder.push_record(record),
            Self::Csv(decoder) => decoder.push_record(record),
            Self::Avro(decoder) => decoder.push_record(record),
            Self::Raw(decoder) => {
                decoder.push(Some(record));
                Ok(())
            }
        }
    }

    /// Takes a record without a value. It has no columns, so of a format that has some it is none.
    pub fn push_nothing(&mut self) {
        if let Self::Raw(decoder) = self {
            decoder.push(None);
        }
    }

    /// How many rows wait for [`Self::flush`].
    pub fn rows(&self) -> usize {
        match self {
            Self::Json(decoder) => decoder.rows(),
            Self::Csv(decoder) => decoder.rows(),
            Self::Avro(decoder) => decoder.rows(),
            Self::Raw(decoder) => decoder.rows(),
        }
    }

    /// Whether it is time to flush.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Json(decoder) => decoder.is_full(),
            Self::Csv(decoder) => decoder.is_full(),
            Self::Avro(decoder) => decoder.is_full(),
            Self::Raw(decoder) => decoder.is_full(),
        }
    }

    /// Hands out the rows so far, and how many records were dropped beside them.
    pub fn flush(&mut self) -> Result<(RecordBatch, u64)> {
        match self {
            Self::Json(decoder) => decoder.flush(),
            Self::Csv(decoder) => decoder.flush(),
            Self::Avro(decoder) => decoder.flush(),
            Self::Raw(decoder) => decoder.flush(),
        }
    }
}
