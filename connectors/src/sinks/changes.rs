//! What the output modes add to a row: the columns `_epoch` and `_change_type`, and which changes a
//! mode tells of at all.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{ChangeType, ConnectorError, Output, OutputMode, Result};

/// The epoch that a row of a log belongs to, BIGINT.
pub const EPOCH_COLUMN: &str = "_epoch";

/// What happened to the row, as in Delta's change data feed.
pub const CHANGE_TYPE_COLUMN: &str = "_change_type";

/// `schema` with the columns that a log of `mode` has after the query's own.
pub(crate) fn log_schema(schema: &SchemaRef, mode: OutputMode) -> Result<SchemaRef> {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    if matches!(mode, OutputMode::Update | OutputMode::Changelog) {
        fields.push(Arc::new(Field::new(EPOCH_COLUMN, DataType::Int64, false)));
    }
    if mode == OutputMode::Changelog {
        fields.push(Arc::new(Field::new(
            CHANGE_TYPE_COLUMN,
            DataType::Utf8,
            false,
        )));
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    unique_names(&schema)?;
    Ok(Arc::new(schema))
}

/// The rows of `output` as a log of `mode` holds them: see [`log_schema`].
///
/// Update mode is a log of upserts: deletes and the rows before an update are left out.
pub(crate) fn log_rows(
    output: &Output,
    mode: OutputMode,
    epoch: u64,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let batch = match mode {
        OutputMode::Append | OutputMode::Complete => return Ok(output.batch.clone()),
        OutputMode::Update => upserts(output)?,
        OutputMode::Changelog => output.batch.clone(),
    };
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_value(
        epoch as i64,
        batch.num_rows(),
    )));
    if mode == OutputMode::Changelog {
        columns.push(change_types(output));
    }
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|source| ConnectorError::Arrow {
        context: format!("the rows of epoch {epoch} do not fit the sink's columns"),
        source,
    })
}

/// The rows of `output` that are there after the epoch.
pub(crate) fn upserts(output: &Output) -> Result<RecordBatch> {
    keep(output, |change| {
        matches!(change, ChangeType::Insert | ChangeType::UpdatePostimage)
    })
}

/// The rows of `output` whose change is wanted.
pub(crate) fn keep(output: &Output, wanted: impl Fn(ChangeType) -> bool) -> Result<RecordBatch> {
    let Some(changes) = &output.changes else {
        return Ok(output.batch.clone());
    };
    if changes.iter().all(|change| wanted(*change)) {
        return Ok(output.batch.clone());
    }
    let mask: BooleanArray = changes.iter().map(|change| Some(wanted(*change))).collect();
    arrow::compute::filter_record_batch(&output.batch, &mask).map_err(|source| {
        ConnectorError::Arrow {
            context: "cannot select the changed rows".into(),
            source,
        }
    })
}

/// The column `_change_type`.
pub(crate) fn change_types(output: &Output) -> ArrayRef {
    Arc::new(match &output.changes {
        Some(changes) => StringArray::from_iter_values(changes.iter().map(|change| change.name())),
        None => StringArray::from_iter_values(std::iter::repeat_n(
            ChangeType::Insert.name(),
            output.batch.num_rows(),
        )),
    })
}

/// Refuses two columns of one name: no reader could tell them apart.
fn unique_names(schema: &Schema) -> Result<()> {
    for (index, field) in schema.fields().iter().enumerate() {
        let twin = |other: &Arc<Field>| other.name().eq_ignore_ascii_case(field.name());
        if schema.fields()[..index].iter().any(twin) {
            return Err(ConnectorError::Schema(format!(
                "two columns of the result are called '{}'; rename one of them with AS",
                field.name()
            )));
        }
    }
    Ok(())
}
