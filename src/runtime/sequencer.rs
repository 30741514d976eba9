//! The sequencer: decides each epoch, logs it, opens it, commits it. One a query, on its own thread.
//!
//! Where epochs follow each other without a pause, the next is decided and opened when the workers are done with
//! the one before, and they read and compute while that one is committed. So at most two epochs are logged and not
//! committed, and a restart replays both. Commits keep their order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tidemark_connectors::{OutputMode, PlannedRange, ReadLimit, Sink, Source};
use uuid::Uuid;

use crate::checkpoint::{
    Checkpoint, CommitEntry, OffsetEntry, OperatorSize, PartitionState, Replay, RestorePlan,
    SourceRange,
};
use crate::operators::EpochInfo;
use crate::plan::modes::is_stateful;
use crate::plan::{Node, Operator, Plan, Trigger};
use crate::row::hash;
use crate::runtime::control::{Command, Order, Start, Waker};
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::epoch::{Decided, Outcome};
use crate::runtime::late_rows::LateRows;
use crate::runtime::metrics::{Measured, Meter};
use crate::runtime::progress::Progress;
use crate::runtime::query::Shared;
use crate::runtime::reports::Reports;
use crate::runtime::watermark::Watermarks;
use crate::runtime::{QueryError, clock};
use crate::time::{Epoch, EventTime, NO_WATERMARK};

/// Where a run begins.
#[derive(Default)]
pub struct Beginning {
    /// The epoch to plan next, after the replays.
    pub next: Epoch,
    /// The commit whose state is restored.
    pub resume: Option<CommitEntry>,
    /// That state.
    pub restore: Option<RestorePlan>,
    /// What was logged and not committed.
    pub replay: Vec<Replay>,
}

/// The tables of rows that are not part of the result.
#[derive(Default)]
pub struct SideTables {
    /// Rows that could not be processed.
    pub dead_letters: Option<DeadLetters>,
    /// Rows that came too late.
    pub late_rows: Option<LateRows>,
}

/// An epoch that the workers are at.
struct Flight {
    decided: Decided,
    info: EpochInfo,
    opened: Instant,
}

/// See the module.
pub struct Sequencer {
    plan: Arc<Plan>,
    ids: (Uuid, Uuid),
    sources: Vec<Box<dyn Source>>,
    sink: Box<dyn Sink>,
    side: SideTables,
    checkpoint: Option<Checkpoint>,
    commands: Sender<Command>,
    reports: Reports,
    waker: Waker,
    shared: Arc<Shared>,
    meter: Option<Meter>,
    watermarks: Watermarks,
    /// The watermark of the last epoch.
    last_watermark: EventTime,
    next: Epoch,
    /// When the last epoch began, for rates.
    last_began: Option<i64>,
    stateful: bool,
    always_answers: bool,
}

impl Sequencer {
    pub(crate) fn new(
        plan: Arc<Plan>,
        ids: (Uuid, Uuid),
        sources: Vec<Box<dyn Source>>,
        (sink, side): (Box<dyn Sink>, SideTables),
        checkpoint: Option<Checkpoint>,
        (commands, reports, waker): (Sender<Command>, Reports, Waker),
        (shared, meter): (Arc<Shared>, Option<Meter>),
    ) -> Self {
        let watermarks = Watermarks::new(
            plan.settings.watermark_policy,
            plan.sources.iter().map(|source| source.watermark.as_ref()),
            clock::now(),
        );
        let stateful = is_stateful(&plan.root);
        let always_answers = any(&plan.root, &|operator| match operator {
            Operator::Aggregate(aggregate) => aggregate.keys.is_empty(),
            Operator::Values { .. } => true,
            _ => false,
        });
        Self {
            plan,
            ids,
            sources,
            sink,
            side,
            checkpoint,
            commands,
            reports,
            waker,
            shared,
            meter,
            watermarks,
            last_watermark: NO_WATERMARK,
            next: 0,
            last_began: None,
            stateful,
            always_answers,
        }
    }

    /// Runs to the end of a bounded trigger, a stop or a failure.
    pub(crate) fn run(&mut self, beginning: Beginning) -> Result<(), QueryError> {
        self.next = beginning.next;
        if let Some(resume) = &beginning.resume {
            self.watermarks
                .restore(resume.watermark, &resume.partitions, clock::now());
            self.last_watermark = resume.watermark;
        }
        let first_epoch = beginning
            .replay
            .first()
            .map_or(beginning.next, |replay| replay.group.first());
        self.tell(Command::Start(Start {
            query_id: self.ids.0,
            first_epoch,
            restore: beginning.restore,
        }));
        self.reports.ready()?;
        for replay in beginning.replay {
            let sink_holds = replay.sink_holds;
            for entry in replay.group.entries {
                self.watermarks
                    .restore(entry.watermark, &entry.partitions, clock::now());
                let decided = Decided {
                    latest: vec![None; self.sources.len()],
                    entry,
                    sink_holds,
                    durations: BTreeMap::new(),
                    began: Instant::now(),
                };
                let flight = self.open(decided);
                self.land(flight, false)?;
            }
        }
        let bounded = matches!(self.plan.trigger, Trigger::AvailableNow | Trigger::Once);
        for (source, table) in self.sources.iter_mut().zip(&self.plan.sources) {
            // A static table is read once, as it is now.
            if bounded || !table.streaming {
                source.freeze()?;
            }
        }
        let mut trigger = Instant::now();
        let paused =
            matches!(self.plan.trigger, Trigger::ProcessingTime(interval) if !interval.is_zero());
        let ahead = !paused && self.sink.overlaps();
        while !self.shared.is_stopping() {
            if let Some(decided) = self.decide()? {
                self.shared.set_status("Processing new data", true, true);
                let mut flight = Some(self.open(decided));
                while let Some(landing) = flight {
                    flight = self.land(landing, ahead)?;
                }
            } else {
                self.shared
                    .set_status("Waiting for data to arrive", false, false);
                self.shared.note_idle();
                self.reports.listen()?;
                if bounded || self.sources.iter().all(|source| source.exhausted()) {
                    return Ok(());
                }
                if !paused {
                    let poll = self
                        .sources
                        .iter()
                        .map(|source| source.poll_interval())
                        .min();
                    self.reports
                        .sleep_until(Instant::now() + poll.unwrap_or(Duration::from_millis(100)))?;
                }
            }
            if let Trigger::ProcessingTime(interval) = self.plan.trigger
                && !interval.is_zero()
            {
                trigger = next_trigger(trigger, interval);
                self.shared
                    .set_status("Waiting for next trigger", false, false);
                self.reports.sleep_until(trigger)?;
            }
        }
        Ok(())
    }

    /// Ends the workers, whatever they do.
    pub(crate) fn stop_workers(&mut self, cause: Option<String>) {
        self.tell(Command::Stop { cause });
        if let Some(checkpoint) = &mut self.checkpoint {
            // Files that cannot be recorded are orphans of the next start, which folds again.
            let _ = checkpoint.finish_folds();
        }
    }

    fn tell(&self, command: Command) {
        // Workers that have ended have said why in a report.
        let _ = self.commands.send(command);
        self.waker.wake();
    }

    /// Decides the next epoch and logs it; `None` when there is nothing to do.
    fn decide(&mut self) -> Result<Option<Decided>, QueryError> {
        let began = Instant::now();
        let mut ranges: Vec<Option<PlannedRange>> = vec![];
        let mut latest = vec![];
        let limit = ReadLimit::default();
        for source in &mut self.sources {
            let mut range = source.plan(limit)?;
            if self.plan.trigger == Trigger::Once {
                // All that is there in one epoch, whatever the source's own limits say.
                while let (Some(all), Some(more)) = (&mut range, source.plan(limit)?) {
                    all.end = more.end;
                    all.splits.extend(more.splits);
                }
            }
            ranges.push(range);
            latest.push(source.latest_offset()?);
        }
        let now = clock::now();
        let watermark = self.watermarks.decide(now);
        let has_data = ranges.iter().any(Option::is_some);
        let owed = watermark > self.last_watermark
            && self.stateful
            && self.plan.mode != OutputMode::Complete;
        let first = self.next == 0 && self.always_answers;
        if !(has_data || owed || first) {
            return Ok(None);
        }
        let mut durations = BTreeMap::from([("latestOffset", began.elapsed())]);
        let entry = OffsetEntry {
            epoch: self.next,
            watermark,
            previous_watermark: self.last_watermark,
            timestamp_us: now,
            partitions: self.watermarks.partitions(),
            sources: ranges
                .into_iter()
                .map(|range| SourceRange { range })
                .collect(),
            no_data: !has_data,
        };
        let logging = Instant::now();
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.log_offsets(std::slice::from_ref(&entry))?;
        }
        durations.insert("walCommit", logging.elapsed());
        self.next += 1;
        Ok(Some(Decided {
            entry,
            sink_holds: false,
            latest,
            durations,
            began,
        }))
    }

    /// Has the workers begin an epoch.
    fn open(&mut self, decided: Decided) -> Flight {
        let entry = &decided.entry;
        let info = EpochInfo {
            epoch: entry.epoch,
            watermark: entry.watermark,
            previous_watermark: entry.previous_watermark,
            timestamp: entry.timestamp_us,
            salt: salt(self.ids.0, entry.timestamp_us),
        };
        let ranges = entry.sources.iter().map(|source| source.range.as_ref());
        let splits = ranges
            .map(|range| range.map_or_else(Vec::new, |range| range.splits.clone()))
            .collect();
        self.last_watermark = entry.watermark;
        self.tell(Command::Open(Order {
            info,
            splits,
            commit_from: Some(entry.epoch),
        }));
        Flight {
            decided,
            info,
            opened: Instant::now(),
        }
    }

    /// Waits until an epoch is done, commits it and tells of it. With `ahead`, the next one is opened before
    /// the commit, if there is one.
    fn land(&mut self, flight: Flight, ahead: bool) -> Result<Option<Flight>, QueryError> {
        let Flight {
            mut decided,
            info,
            opened,
        } = flight;
        let done = self.reports.done(info.epoch)?;
        for (source, partitions) in done.iter().flat_map(|report| &report.sources) {
            for (partition, progress) in partitions {
                self.watermarks
                    .observe(*source, partition, progress.max, info.timestamp);
            }
        }
        let partitions = self.watermarks.partitions();
        let mut outcome = Outcome::new(self.sources.len(), done);
        decided.durations.insert("addBatch", opened.elapsed());
        let mut next = None;
        if ahead && !self.shared.is_stopping() {
            next = self.decide()?.map(|decided| self.open(decided));
        }
        if let Some(checkpoint) = &self.checkpoint {
            let local = self.reports.local_workers();
            checkpoint.check_written(outcome.files.iter().filter(|file| file.worker >= local))?;
        }
        let committing = Instant::now();
        self.commit_sinks(&decided, &info, &mut outcome)?;
        decided
            .durations
            .insert("commitBatch", committing.elapsed());
        let committing = Instant::now();
        self.commit_checkpoint(&decided.entry, partitions, &mut outcome)?;
        let durations = &mut decided.durations;
        durations.insert("commitOffsets", committing.elapsed());
        durations.insert("triggerExecution", decided.began.elapsed());
        let began = decided.entry.timestamp_us;
        let last_began = self.last_began.replace(began);
        let measured = self
            .meter
            .as_ref()
            .map(|_| Measured::new(&decided, &outcome, &self.sources, &self.watermarks));
        let progress = Progress::new(
            (&self.plan.name, self.ids),
            decided,
            &outcome,
            last_began,
            (&self.sources, &*self.sink),
        );
        if let (Some(meter), Some(measured)) = (&self.meter, measured) {
            meter.record(&progress, measured);
        }
        self.shared.push_progress(progress);
        Ok(next)
    }

    /// Makes the output of an epoch visible, where it is not yet.
    fn commit_sinks(
        &mut self,
        decided: &Decided,
        info: &EpochInfo,
        outcome: &mut Outcome,
    ) -> Result<(), QueryError> {
        let letters = std::mem::take(&mut outcome.letters);
        let letters = match &mut self.side.dead_letters {
            Some(table) => Some(table.stage(info, letters)?),
            None => None,
        };
        let late_rows = std::mem::take(&mut outcome.late_rows);
        let late_rows = match &mut self.side.late_rows {
            Some(table) => Some(table.stage(info, late_rows)?),
            None => None,
        };
        if decided.sink_holds {
            self.sink.discard_uncommitted()?;
        } else {
            self.sink.commit(info.epoch, &outcome.staged)?;
        }
        if let (Some(table), Some(staged)) = (&mut self.side.dead_letters, &letters) {
            table.commit(info.epoch, staged)?;
        }
        if let (Some(table), Some(staged)) = (&mut self.side.late_rows, &late_rows) {
            table.commit(info.epoch, staged)?;
        }
        Ok(())
    }

    /// Writes down that an epoch is done, with its state.
    fn commit_checkpoint(
        &mut self,
        entry: &OffsetEntry,
        partitions: Vec<PartitionState>,
        outcome: &mut Outcome,
    ) -> Result<(), QueryError> {
        if let Some(checkpoint) = &mut self.checkpoint {
            let commit = CommitEntry {
                first: entry.epoch,
                last: entry.epoch,
                workers: self.reports.workers(),
                watermark: entry.watermark,
                previous_watermark: entry.previous_watermark,
                partitions,
                timestamp_us: clock::now(),
                output_rows: outcome.output_rows(),
                operators: outcome
                    .operators
                    .iter()
                    .map(|(operator, stats)| OperatorSize {
                        operator: *operator as u32,
                        name: stats.name.clone(),
                        rows: stats.rows_total,
                        bytes: stats.memory_used_bytes,
                    })
                    .collect(),
            };
            checkpoint.commit(&commit, &outcome.files)?;
            let done = checkpoint.maintain(self.plan.settings.min_batches_to_retain)?;
            let failures = done.fold_failures.iter();
            outcome.warnings.extend(failures.map(ToString::to_string));
        }
        for (source, range) in self.sources.iter_mut().zip(&entry.sources) {
            if let Some(range) = &range.range {
                source.committed(range)?;
            }
        }
        for (index, source) in self.sources.iter_mut().enumerate() {
            let mut forgettable = source.forgettable();
            if let Some(checkpoint) = &mut self.checkpoint {
                forgettable = checkpoint.trim_source_log(index, forgettable)?;
            }
            source.forgotten(forgettable);
        }
        Ok(())
    }
}

fn any(node: &Node, wanted: &dyn Fn(&Operator) -> bool) -> bool {
    wanted(&node.operator) || node.inputs.iter().any(|input| any(input, wanted))
}

/// The next multiple of the interval since the first trigger; triggers that were missed are skipped.
fn next_trigger(last: Instant, interval: Duration) -> Instant {
    let late = last.elapsed().as_nanos() / interval.as_nanos().max(1);
    last + interval * (u32::try_from(late).unwrap_or(u32::MAX).saturating_add(1))
}

/// A number of the epoch that a query began at `timestamp_us`: of what is logged alone, so that a
/// replay has the same.
fn salt(query: Uuid, timestamp_us: i64) -> i64 {
    let mut bytes = query.as_bytes().to_vec();
    bytes.extend(timestamp_us.to_le_bytes());
    hash(&bytes).cast_signed()
}
