//! How epochs become final: the sink, the tables of rows set aside and the checkpoint, in the order of the design.

use std::sync::Arc;

use tidemark_connectors::Sink;

use crate::checkpoint::{Checkpoint, CommitEntry, OffsetEntry};
use crate::operators::EpochInfo;
use crate::operators::calls::Calls;
use crate::runtime::QueryError;
use crate::runtime::epoch::Outcome;
use crate::runtime::sequencer::SideTables;

/// What commits are made with.
#[derive(Default)]
pub(super) struct Ledger {
    /// `None` while somebody else commits each tick to it.
    pub(super) sink: Option<Box<dyn Sink>>,
    pub(super) side: SideTables,
    pub(super) checkpoint: Option<Checkpoint>,
    /// How many commits stay restorable.
    pub(super) min_batches: u64,
    /// Where calls to the sink are noted.
    pub(super) calls: Arc<Calls>,
}

impl Ledger {
    /// The sink, for what it says of itself.
    pub(super) fn sink(&self) -> &dyn Sink {
        let sink = self.sink.as_deref();
        sink.expect("only the ledger of ticks is without its sink")
    }

    /// Logs what is read, before its rows are committed.
    pub(super) fn log_offsets(&mut self, entries: &[OffsetEntry]) -> Result<(), QueryError> {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.log_offsets(entries)?;
        }
        Ok(())
    }

    /// Whether the state files of workers behind the first `local` are where they should be.
    pub(super) fn check_written(&self, outcome: &Outcome, local: usize) -> Result<(), QueryError> {
        if let Some(checkpoint) = &self.checkpoint {
            let files = outcome.files.iter();
            checkpoint.check_written(files.filter(|file| file.worker >= local))?;
        }
        Ok(())
    }

    /// Makes the output up to an epoch visible, where it is not yet.
    pub(super) fn commit_sinks(
        &mut self,
        info: &EpochInfo,
        sink_holds: bool,
        outcome: &mut Outcome,
    ) -> Result<(), QueryError> {
        for aside in outcome.aside.drain(..) {
            if let Some(table) = &mut self.side.dead_letters {
                table.write(&aside.epoch, aside.letters)?;
            }
            if let Some(table) = &mut self.side.late_rows {
                table.write(&aside.epoch, aside.late_rows)?;
            }
        }
        let letters = self.side.dead_letters.as_mut();
        let letters = letters.map(|table| table.stage(info.epoch)).transpose()?;
        let late_rows = self.side.late_rows.as_mut();
        let late_rows = late_rows.map(|table| table.stage(info.epoch)).transpose()?;
        let call = self.calls.begin();
        match &mut self.sink {
            Some(sink) if sink_holds => sink.discard_uncommitted()?,
            Some(sink) => sink.commit(info.epoch, &outcome.staged)?,
            None => {}
        }
        drop(call);
        if let (Some(table), Some(staged)) = (&mut self.side.dead_letters, &letters) {
            table.commit(info.epoch, staged)?;
        }
        if let (Some(table), Some(staged)) = (&mut self.side.late_rows, &late_rows) {
            table.commit(info.epoch, staged)?;
        }
        Ok(())
    }

    /// Writes down that epochs are done, with their state.
    pub(super) fn commit_checkpoint(
        &mut self,
        commit: &CommitEntry,
        outcome: &mut Outcome,
    ) -> Result<(), QueryError> {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.commit(commit, &outcome.files)?;
            let done = checkpoint.maintain(self.min_batches)?;
            let failures = done.fold_failures.iter();
            outcome.warnings.extend(failures.map(ToString::to_string));
        }
        Ok(())
    }

    /// Forgets the `forgettable` oldest ranges of a source's log, as far as they are committed: how many. Where
    /// files go with them (`kept`), only those whose epochs can never be run again.
    pub(super) fn trim(
        &mut self,
        source: usize,
        (forgettable, kept): (usize, bool),
    ) -> Result<usize, QueryError> {
        match &mut self.checkpoint {
            Some(checkpoint) => Ok(checkpoint.trim_source_log(source, forgettable, kept)?),
            None => Ok(forgettable),
        }
    }
}
