//! The batch that a decoder of records fills.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::columns::Column;
use super::{BATCH_BYTES, BATCH_ROWS};
use crate::{ConnectorError, Result};

/// Rows that wait for [`Building::flush`].
#[derive(Debug)]
pub(crate) struct Building {
    pub(crate) schema: SchemaRef,
    pub(crate) columns: Vec<Column>,
    /// The corrupt record column.
    pub(crate) corrupt: Option<usize>,
    pub(crate) rows: usize,
    /// Records that gave no row.
    pub(crate) dropped: u64,
}

impl Building {
    pub(crate) fn new(schema: SchemaRef, columns: Vec<Column>, corrupt: Option<usize>) -> Self {
        Self {
            schema,
            columns,
            corrupt,
            rows: 0,
            dropped: 0,
        }
    }

    /// Whether it is time to flush.
    pub(crate) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS
            || (self.rows % 64 == 63
                && self.columns.iter().map(Column::bytes).sum::<usize>() >= BATCH_BYTES)
    }

    pub(crate) fn push_nulls(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
        self.rows += 1;
    }

    /// Drops the record whose rows begin at `rows`.
    pub(crate) fn drop_record(&mut self, rows: usize) {
        self.take_back(rows);
        self.dropped += 1;
    }

    /// Forgets the rows from `rows` on.
    pub(crate) fn take_back(&mut self, rows: usize) {
        self.columns
            .iter_mut()
            .for_each(|column| column.truncate(rows));
        self.rows = rows;
    }

    /// Puts `record` into the corrupt record column of all rows from `from` on.
    pub(crate) fn mark_corrupt(&mut self, from: usize, record: &[u8]) {
        if let Some(Column::Utf8(values)) = self.corrupt.map(|index| &mut self.columns[index]) {
            values.truncate(from);
            for _ in from..self.rows {
                values.push(record.strip_suffix(b"\r").unwrap_or(record));
            }
        }
    }

    /// Why a record is malformed that has a value of another type in a column.
    pub(crate) fn wrong_type(&self, column: usize) -> String {
        format!(
            "the value of '{}' is no {}",
            self.schema.field(column).name(),
            self.columns[column].type_name()
        )
    }

    /// Hands out the rows so far, and how many records were dropped beside them. `format` is named
    /// in the error.
    pub(crate) fn flush(&mut self, format: &str) -> Result<(RecordBatch, u64)> {
        let context = |source| ConnectorError::Arrow {
            context: format!("building a batch from {format}"),
            source,
        };
        let arrays = self
            .columns
            .iter_mut()
            .map(Column::take)
            .collect::<Result<Vec<_>, _>>()
            .map_err(context)?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let schema = SchemaRef::clone(&self.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options).map_err(context)?;
        self.rows = 0;
        Ok((batch, std::mem::take(&mut self.dropped)))
    }
}
