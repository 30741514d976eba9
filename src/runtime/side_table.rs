//! A second sink of a query, for rows that are not part of its result: committed with each epoch.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use tidemark_connectors::{ConnectorError, Output, Sink, SinkWriter, Staged};

use crate::plan::Plan;
use crate::runtime::QueryError;
use crate::time::Epoch;

/// Such a sink with its one writer, on the sequencer's thread.
pub(super) struct SideTable {
    sink: Box<dyn Sink>,
    writer: Box<dyn SinkWriter>,
    /// The newest epoch that the sink holds.
    held: Option<Epoch>,
}

impl SideTable {
    /// Goes on where the sink is.
    pub(super) fn new(mut sink: Box<dyn Sink>) -> Result<Self, ConnectorError> {
        let held = sink.last_committed()?;
        sink.discard_uncommitted()?;
        Ok(Self {
            writer: sink.writer(0)?,
            sink,
            held,
        })
    }

    /// Takes rows of an epoch.
    pub(super) fn write(
        &mut self,
        epoch: Epoch,
        batch: Result<RecordBatch, ArrowError>,
    ) -> Result<(), QueryError> {
        let batch = batch.map_err(|source| ConnectorError::Arrow {
            context: "building a batch of rows that were set aside".into(),
            source,
        })?;
        let output = Output {
            batch,
            changes: None,
        };
        Ok(self.writer.write(epoch, &output)?)
    }

    /// Makes durable what was written up to an epoch.
    pub(super) fn stage(&mut self, epoch: Epoch) -> Result<Staged, QueryError> {
        Ok(self.writer.stage(epoch)?)
    }

    /// Makes what was staged visible, unless the sink holds the epoch already.
    pub(super) fn commit(&mut self, epoch: Epoch, staged: &Staged) -> Result<(), QueryError> {
        if self.held.is_some_and(|held| epoch <= held) {
            self.sink.discard_uncommitted()?;
        } else {
            self.sink.commit(epoch, std::slice::from_ref(staged))?;
        }
        Ok(())
    }
}

/// The sources' tables, by index.
pub(super) fn source_names(plan: &Plan) -> Vec<String> {
    (plan.sources.iter())
        .map(|source| source.name.clone())
        .collect()
}
