//! The whole result in the order that the query asks for.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{Fields, Schema, SchemaRef};
use tidemark_connectors::{Output, SinkWriter};

use super::{BATCH, Waiting, Writing, interleave};
use crate::operators::expression::record_batch;
use crate::operators::{EpochInfo, OperatorError};
use crate::plan::ResultOrder;
use crate::row::{Delta, KeyCodec};
use crate::time::Epoch;

/// Writes the rows of each epoch in order once they are all there.
pub(super) struct Sorted {
    operator: usize,
    order: ResultOrder,
    /// What is compared: what the rows are ordered by, then all that is shown.
    compared: Vec<usize>,
    codec: KeyCodec,
    schema: SchemaRef,
    waiting: Waiting,
}

impl Sorted {
    /// `schema` is that of the rows that come.
    pub(super) fn new(
        operator: usize,
        order: ResultOrder,
        schema: &Schema,
    ) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Row { operator, source };
        let ascending = SortOptions::new(false, true);
        let by = order.by.iter().map(|by| (by.column, by.options));
        let shown = (0..order.columns).map(|column| (column, ascending));
        let (compared, columns): (Vec<usize>, Vec<_>) = (by.chain(shown))
            .map(|(column, options)| (column, (schema.field(column).data_type().clone(), options)))
            .unzip();
        let result: Fields = schema
            .fields()
            .iter()
            .take(order.columns)
            .cloned()
            .collect();
        Ok(Self {
            operator,
            order,
            compared,
            codec: KeyCodec::new_with_options(&columns).map_err(failed)?,
            schema: Arc::new(Schema::new(result)),
            waiting: Waiting::default(),
        })
    }
}

impl Writing for Sorted {
    fn take(
        &mut self,
        delta: Delta,
        _: Epoch,
        _: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError> {
        self.waiting.push(delta);
        Ok(())
    }

    fn finish(
        &mut self,
        epoch: &EpochInfo,
        writer: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError> {
        let deltas = self.waiting.take(epoch.epoch);
        let encoded = (deltas.iter())
            .map(|delta| {
                let columns = self
                    .compared
                    .iter()
                    .map(|column| delta.batch.column(*column));
                self.codec.encode(&columns.cloned().collect::<Vec<_>>())
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| OperatorError::Row {
                operator: self.operator,
                source,
            })?;
        // Each row comes as often as it is there.
        let mut rows: Vec<(usize, usize)> = (deltas.iter().enumerate())
            .flat_map(|(batch, delta)| (0..delta.rows()).map(move |row| (batch, row)))
            .collect();
        rows.sort_by_key(|(batch, row)| encoded[*batch].get(*row));
        let rows = rows.into_iter().skip(self.order.skip);
        let rows: Vec<_> = rows.take(self.order.fetch.unwrap_or(usize::MAX)).collect();
        let batches: Vec<&RecordBatch> = deltas.iter().map(|delta| &delta.batch).collect();
        for rows in rows.chunks(BATCH) {
            let whole = interleave(&batches, rows)?;
            let shown = whole.columns()[..self.order.columns].to_vec();
            let batch = record_batch(&self.schema, shown, rows.len())?;
            let changes = None;
            writer.write(epoch.epoch, &Output { batch, changes })?;
        }
        Ok(())
    }
}
