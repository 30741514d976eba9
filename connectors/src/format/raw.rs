//! Records as they are: one STRING or BINARY column that holds all of each.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};

use super::building::Building;
use super::columns::Column;
use crate::{ConnectorError, Result};

/// Puts whole records into at most one column.
#[derive(Debug)]
pub struct RawDecoder {
    building: Building,
}

impl RawDecoder {
    /// A decoder into `schema`, which holds the column where it is wanted, and nothing else.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| match field.data_type() {
                DataType::Utf8 | DataType::Binary => Column::new(field.name(), field.data_type()),
                other => Err(ConnectorError::Schema(format!(
                    "column '{}' is a {other}, and 'format' = 'raw' gives bytes: declare it as BINARY or STRING",
                    field.name()
                ))),
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            building: Building::new(schema, columns, None),
        })
    }

    /// Takes a record, or one without a value.
    pub fn push(&mut self, record: Option<&[u8]>) {
        for column in &mut self.building.columns {
            match (record, column) {
                (None, column) => column.push_null(),
                // As Java does, bytes that are no UTF-8 become U+FFFD.
                (Some(record), Column::Utf8(values)) => {
                    values.push(String::from_utf8_lossy(record).as_bytes());
                }
                (Some(record), Column::Binary(values)) => values.push(record),
                (Some(_), column) => column.push_null(),
            }
        }
        self.building.rows += 1;
    }

    /// How many rows wait for [`Self::flush`].
    pub fn rows(&self) -> usize {
        self.building.rows
    }

    /// Whether it is time to flush.
    pub fn is_full(&self) -> bool {
        self.building.is_full()
    }

    /// Hands out the rows so far.
    pub fn flush(&mut self) -> Result<(RecordBatch, u64)> {
        self.building.flush("raw records")
    }
}
