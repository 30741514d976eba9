//! Values of a database to batches.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::format::building::Building;
use crate::format::casts::Casts;
use crate::format::columns::Column;
use crate::{ConnectorError, Result};

/// The declared columns, none of them NOT NULL: what a database promises is its own business.
pub(super) fn check(declared: &SchemaRef, connector: &str) -> Result<SchemaRef> {
    let fields = (declared.fields().iter())
        .map(|field| {
            if field.data_type().is_nested() {
                return Err(ConnectorError::Schema(format!(
                    "column '{}' is a {}, which '{connector}' cannot give; declare it as STRING and take it apart with from_json",
                    field.name(),
                    field.data_type()
                )));
            }
            Column::new(field.name(), field.data_type())?;
            Ok(field.as_ref().clone().with_nullable(true))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// Rows under construction.
pub(super) struct Rows {
    building: Building,
    casts: Casts,
    place: String,
    connector: &'static str,
    /// How many rows were taken.
    taken: u64,
}

impl Rows {
    /// Rows of `columns` from `place`; times that name no zone are in that of `casts`.
    pub(super) fn new(
        columns: &[(String, Field)],
        casts: Casts,
        (connector, place): (&'static str, String),
    ) -> Result<Self> {
        let fields: Vec<Field> = columns.iter().map(|(_, field)| field.clone()).collect();
        let building = (fields.iter())
            .map(|field| Column::new(field.name(), field.data_type()))
            .collect::<Result<_>>()?;
        Ok(Self {
            building: Building::new(Arc::new(Schema::new(fields)), building, None),
            casts,
            place,
            connector,
            taken: 0,
        })
    }

    /// Puts a value into a column of the row at hand.
    pub(super) fn push(
        &mut self,
        column: usize,
        push: impl FnOnce(&mut Column, &Casts) -> Result<(), String>,
    ) -> Result<()> {
        push(&mut self.building.columns[column], &self.casts).map_err(|value| {
            let field = self.building.schema.field(column);
            ConnectorError::Schema(format!(
                "{}, row {}: the value {value} of '{}' is no {}. Declare the column with another type, such as STRING, or cast it in 'query'",
                self.place,
                self.taken + 1,
                field.name(),
                self.building.columns[column].type_name()
            ))
        })
    }

    /// The row at hand is complete.
    pub(super) fn end_row(&mut self) {
        self.building.rows += 1;
        self.taken += 1;
    }

    /// Whether it is time to take them.
    pub(super) fn is_full(&self) -> bool {
        self.building.is_full()
    }

    /// The rows so far, if there are any.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.building.rows == 0 {
            return Ok(None);
        }
        Ok(Some(self.building.flush(self.connector)?.0))
    }
}

/// A value as an error shows it.
pub(super) fn shown(text: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(MOST) {
        None => format!("'{text}'"),
        Some((end, _)) => format!("'{}...'", &text[..end]),
    }
}
