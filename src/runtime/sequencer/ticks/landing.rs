//! What becomes of a tick that is done: it joins those that are committed next, and the commit is made and told of.

use std::collections::BTreeMap;
use std::time::Instant;

use tidemark_connectors::{OutputMode, ReadLimit, Split};

use super::committer::{Job, Landed};
use super::{Group, Ticks};
use crate::compile::Part;
use crate::runtime::QueryError;
use crate::runtime::busy::BusyParts;
use crate::runtime::epoch::Decided;
use crate::runtime::sequencer::Sequencer;

impl Ticks {
    /// Takes in a tick that all workers are done with.
    pub(super) fn land(&mut self, sequencer: &mut Sequencer) -> Result<(), QueryError> {
        let workers = sequencer.reports.workers();
        let Some(mut tick) = self.closed.take_if(|closed| closed.done.len() == workers) else {
            return Ok(());
        };
        tick.done.sort_by_key(|done| done.worker);
        let planned = tick.entry.sources.iter().any(|of| of.range.is_some());
        if planned || !self.is_followed() {
            // What is there now comes before what the watermark asks for.
            self.next_poll = Instant::now();
        }
        let mut followed: BTreeMap<usize, Vec<Split>> = BTreeMap::new();
        for done in &mut tick.done {
            for (source, splits) in std::mem::take(&mut done.followed) {
                followed.entry(source).or_default().extend(splits);
            }
        }
        for (index, source) in sequencer.sources.iter_mut().enumerate() {
            if self.sources[index].followed {
                let mut splits = followed.remove(&index).unwrap_or_default();
                splits.sort_by(|a, b| a.partition.cmp(&b.partition));
                tick.entry.sources[index].range = source.followed(splits)?;
            }
        }
        tick.entry.no_data = tick.entry.sources.iter().all(|of| of.range.is_none());
        let mut outcome = sequencer.take_in(&tick.info, std::mem::take(&mut tick.done));
        for (read, reading) in outcome.read.iter().zip(&self.sources) {
            // What was planned arrived when it was read.
            if !reading.followed && read.rows > 0 {
                outcome.arrivals.push((tick.info.timestamp, read.rows));
            }
        }
        if let Some(sink) = &mut self.each {
            // A tick without rows changes nothing; a whole result of none does.
            if outcome.output_rows() > 0 || sequencer.plan.mode == OutputMode::Complete {
                let began = Instant::now();
                let call = sequencer.shared.outside.sink.begin();
                sink.commit(tick.info.epoch, &outcome.staged)?;
                drop(call);
                outcome.busy.add(Part::Sink, began.elapsed());
            }
            outcome.written = outcome.output_rows();
            outcome.staged.clear();
            outcome.acknowledge();
        }
        self.group.began.get_or_insert(tick.opened);
        self.group.last = Some(tick.info);
        self.group.entries.push(tick.entry);
        match &mut self.group.outcome {
            Some(all) => all.then(outcome),
            None => self.group.outcome = Some(outcome),
        }
        if tick.commits {
            self.storing = Some(std::mem::take(&mut self.group));
        }
        Ok(())
    }

    /// Hands a commit over once every worker has made its part of it durable.
    pub(super) fn store(&mut self, sequencer: &mut Sequencer) -> Result<(), QueryError> {
        if self.stored.len() < sequencer.reports.workers() {
            return Ok(());
        }
        let Some(Group {
            entries,
            outcome: Some(mut outcome),
            last: Some(last),
            began,
        }) = self.storing.take()
        else {
            return Ok(());
        };
        self.stored.sort_by_key(|stored| stored.worker);
        let mut busy = BusyParts::default();
        for stored in self.stored.drain(..) {
            busy.beside(&stored.busy);
            outcome.staged.extend(stored.staged);
            outcome.files.extend(stored.state);
            outcome.latencies.extend(stored.latencies);
        }
        outcome.busy.then(&busy);
        outcome.warnings.append(&mut sequencer.gathered());
        let partitions = sequencer.watermarks.partitions();
        let standing = sequencer.standing(&entries, partitions, &outcome);
        let sources = sequencer.sources.iter();
        self.committer.commit(Job {
            entries,
            standing,
            outcome,
            last,
            began: began.unwrap_or_else(Instant::now),
            local_workers: sequencer.reports.local_workers(),
            forgettable: sources
                .map(|source| (source.forgettable(), source.is_kept()))
                .collect(),
        })?;
        self.committing = true;
        Ok(())
    }

    /// Tells of what is committed.
    pub(super) fn committed(
        &mut self,
        sequencer: &mut Sequencer,
        landed: Landed,
    ) -> Result<(), QueryError> {
        self.committing = false;
        let entry = landed.entry;
        sequencer.tell_sources(entry.as_slice())?;
        for (source, trimmed) in sequencer.sources.iter_mut().zip(landed.trimmed) {
            source.forgotten(trimmed);
        }
        let mut latest = vec![];
        for source in &mut sequencer.sources {
            latest.push(source.latest_offset()?);
        }
        sequencer.shared.took(&landed.outcome.latencies);
        if let Some(entry) = entry {
            let mut durations = landed.durations;
            durations.insert("triggerExecution", landed.began.elapsed());
            let decided = Decided {
                entry,
                sink_holds: false,
                limits: vec![ReadLimit::default(); latest.len()],
                latest,
                durations,
                began: landed.began,
            };
            let status = "Processing records as they arrive";
            sequencer.shared.set_status(status, true, true);
            sequencer.report(
                decided,
                &landed.outcome,
                (&self.target.description, landed.standing),
            );
        }
        Ok(())
    }
}
