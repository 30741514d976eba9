//! The sequencer: decides each epoch, logs it, opens it, commits it. One a query, on its own thread.
//!
//! Where epochs follow each other without a pause, the next is decided and opened when the workers are done with
//! the one before, and they read and compute while that one is committed. So at most two epochs are logged and not
//! committed, and a restart replays both. Commits keep their order.
//!
//! | module | what it does |
//! |---|---|
//! | here | epochs one by one: each planned, logged, run and committed |
//! | `seat` | where the sequencer's thread and the first worker find it |
//! | `ticks` | continuous queries: epochs that take in what arrives, many to a commit |
//! | `ledger` | the sink and the checkpoint: how an epoch, or the ticks of a commit, become final |

mod ledger;
mod seat;
mod ticks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tidemark_connectors::{OutputMode, PlannedRange, ReadLimit, Sink, Source};
use uuid::Uuid;

use crate::checkpoint::{
    Checkpoint, CommitEntry, History, OffsetEntry, PartitionState, Replay, RestorePlan, SourceRange,
};
use crate::operators::EpochInfo;
use crate::plan::broadcast::spread_joins;
use crate::plan::modes::is_stateful;
use crate::plan::{Node, Operator, Plan, Trigger};
use crate::row::hash;
use crate::runtime::control::{Command, Done, Order, Start, Tick, Waker};
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::epoch::{Decided, Outcome};
use crate::runtime::intake::Limits;
use crate::runtime::late_rows::LateRows;
use crate::runtime::metrics::{Measured, Meter};
use crate::runtime::progress::Progress;
use crate::runtime::query::Shared;
use crate::runtime::reports::Reports;
use crate::runtime::watermark::Watermarks;
use crate::runtime::{QueryError, clock};
use crate::time::{Epoch, EventTime, NO_WATERMARK};
use ledger::Ledger;
pub use seat::Seat;

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
    /// Empty while it is lent to the commits of ticks.
    ledger: Ledger,
    commands: Sender<Command>,
    reports: Reports,
    waker: Waker,
    shared: Arc<Shared>,
    meter: Option<Meter>,
    watermarks: Watermarks,
    limits: Limits,
    /// What the query has done since it first began.
    history: History,
    /// The watermark of the last epoch.
    last_watermark: EventTime,
    next: Epoch,
    /// When the last epoch began, for rates.
    last_began: Option<i64>,
    stateful: bool,
    always_answers: bool,
    /// What is to be said with the next epoch.
    warnings: Vec<String>,
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
        let limits = Limits::new(&plan);
        let stateful = is_stateful(&plan.root);
        let always_answers = any(&plan.root, &|operator| match operator {
            Operator::Aggregate(aggregate) => aggregate.keys.is_empty(),
            Operator::Values { .. } => true,
            _ => false,
        });
        Self {
            ids,
            sources,
            ledger: Ledger {
                sink: Some(sink),
                side,
                checkpoint,
                min_batches: plan.settings.min_batches_to_retain,
                calls: Arc::clone(&shared.outside.sink),
            },
            plan,
            commands,
            reports,
            waker,
            shared,
            meter,
            watermarks,
            limits,
            history: History::default(),
            last_watermark: NO_WATERMARK,
            next: 0,
            last_began: None,
            stateful,
            always_answers,
            warnings: vec![],
        }
    }

    /// Says something with the next epoch.
    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// What is to be said with the epoch at hand.
    fn gathered(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        for source in &mut self.sources {
            warnings.append(&mut source.warnings());
        }
        warnings
    }

    /// Runs to the end of a bounded trigger, a stop or a failure; or to where ticks begin, which are committed this
    /// often.
    fn run(&mut self, beginning: Beginning) -> Result<Option<Duration>, QueryError> {
        self.next = beginning.next;
        if let Some(resume) = &beginning.resume {
            self.watermarks
                .restore(resume.watermark, &resume.partitions, clock::now());
            self.last_watermark = resume.watermark;
            self.history.clone_from(&resume.history);
            self.shared.set_standing(resume.clone());
        }
        let first_epoch = beginning
            .replay
            .first()
            .map_or(beginning.next, |replay| replay.group.first());
        self.command(Command::Start(Start {
            query_id: self.ids.0,
            first_epoch,
            restore: beginning.restore,
            spread: spread_joins(&self.plan),
        }));
        self.reports.ready()?;
        self.shared.set_ready(true);
        for replay in beginning.replay {
            self.replay(replay)?;
        }
        let bounded = matches!(self.plan.trigger, Trigger::AvailableNow | Trigger::Once);
        for (source, table) in self.sources.iter_mut().zip(&self.plan.sources) {
            // A static table is read as it is now, and once unless it says otherwise.
            if bounded || (!table.streaming && table.refresh.is_none()) {
                source.freeze()?;
            }
        }
        if let Trigger::Continuous(interval) = self.plan.trigger {
            return Ok(Some(interval));
        }
        let mut trigger = Instant::now();
        let paused =
            matches!(self.plan.trigger, Trigger::ProcessingTime(interval) if !interval.is_zero());
        let ahead = !paused && self.ledger.sink().overlaps();
        while !self.shared.is_stopping() {
            if let Some(decided) = self.decide()? {
                self.shared.set_status("Processing new data", true, true);
                let epoch = decided.entry.epoch;
                let mut flight = Some(self.open(decided, Some(epoch)));
                while let Some(landing) = flight {
                    let entries = [landing.decided.entry.clone()];
                    flight = self.land(landing, ahead, (None, &entries))?;
                }
            } else {
                self.shared
                    .set_status("Waiting for data to arrive", false, false);
                self.shared.note_idle();
                self.reports.listen()?;
                if bounded || self.sources.iter().all(|source| source.exhausted()) {
                    return Ok(None);
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
        Ok(None)
    }

    /// Ends the workers, whatever they do. `again`: after what time the query starts again, if it does.
    fn stop_workers(&mut self, cause: Option<String>, again: Option<Duration>) {
        self.command(Command::Stop { cause, again });
        if let Some(checkpoint) = &mut self.ledger.checkpoint {
            // Files that cannot be recorded are orphans of the next start, which folds again.
            let _ = checkpoint.finish_folds();
        }
    }

    fn command(&self, command: Command) {
        self.tell(command);
        self.wake();
    }

    /// The workers do not look before they are woken.
    fn tell(&self, command: Command) {
        // Workers that have ended have said why in a report.
        let _ = self.commands.send(command);
    }

    fn wake(&self) {
        self.waker.wake();
    }

    /// Decides the next epoch and logs it; `None` when there is nothing to do.
    fn decide(&mut self) -> Result<Option<Decided>, QueryError> {
        let began = Instant::now();
        let mut ranges: Vec<Option<PlannedRange>> = vec![];
        let mut latest = vec![];
        let limits: Vec<ReadLimit> = (0..self.sources.len())
            .map(|source| self.limits.of(source))
            .collect();
        for (source, limit) in self.sources.iter_mut().zip(limits.iter().copied()) {
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
        self.ledger.log_offsets(std::slice::from_ref(&entry))?;
        durations.insert("walCommit", logging.elapsed());
        self.next += 1;
        Ok(Some(Decided {
            entry,
            sink_holds: false,
            latest,
            limits,
            durations,
            began,
        }))
    }

    /// Runs what was logged and not committed once more, and commits it.
    fn replay(&mut self, replay: Replay) -> Result<(), QueryError> {
        let sink_holds = replay.sink_holds;
        let first = replay.group.first();
        let last = replay.group.last();
        let mut before: Option<Outcome> = None;
        let mut entries = vec![];
        for entry in replay.group.entries {
            self.watermarks
                .restore(entry.watermark, &entry.partitions, clock::now());
            let epoch = entry.epoch;
            entries.push(entry.clone());
            let decided = Decided {
                latest: vec![None; self.sources.len()],
                entry,
                sink_holds,
                limits: vec![ReadLimit::default(); self.sources.len()],
                durations: BTreeMap::new(),
                began: Instant::now(),
            };
            let flight = self.open(decided, (epoch == last).then_some(first));
            if epoch < last {
                let outcome = self.observe(&flight.info)?;
                match &mut before {
                    Some(before) => before.then(outcome),
                    None => before = Some(outcome),
                }
            } else {
                self.land(flight, false, (before.take(), &entries))?;
            }
        }
        Ok(())
    }

    /// Has the workers begin an epoch, and make all from `commit_from` on durable when it is done.
    fn open(&mut self, decided: Decided, commit_from: Option<Epoch>) -> Flight {
        let info = self.order(&decided.entry, commit_from, None);
        Flight {
            decided,
            info,
            opened: Instant::now(),
        }
    }

    fn order(
        &mut self,
        entry: &OffsetEntry,
        commit_from: Option<Epoch>,
        tick: Option<Tick>,
    ) -> EpochInfo {
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
        self.command(Command::Open(Order {
            info,
            splits,
            commit_from,
            tick,
        }));
        info
    }

    /// Waits until an epoch is done: what came of it.
    fn observe(&mut self, info: &EpochInfo) -> Result<Outcome, QueryError> {
        let done = self.reports.done(info.epoch)?;
        Ok(self.take_in(info, done))
    }

    /// What the workers made of an epoch; what they saw of event time counts from here on.
    fn take_in(&mut self, info: &EpochInfo, done: Vec<Done>) -> Outcome {
        for (source, partitions) in done.iter().flat_map(|report| &report.sources) {
            for (partition, progress) in partitions {
                let now = (info.epoch, info.timestamp);
                self.watermarks.observe(*source, partition, progress, now);
            }
        }
        Outcome::new(self.sources.len(), info, done)
    }

    /// Waits until an epoch is done, commits it and tells of it. With `ahead`, the next one is opened before
    /// the commit, if there is one. `group`: what is committed with it, it itself the last.
    fn land(
        &mut self,
        flight: Flight,
        ahead: bool,
        (before, entries): (Option<Outcome>, &[OffsetEntry]),
    ) -> Result<Option<Flight>, QueryError> {
        let Flight {
            mut decided,
            info,
            opened,
        } = flight;
        let mut outcome = self.observe(&info)?;
        if let Some(mut before) = before {
            before.then(outcome);
            outcome = before;
        }
        let partitions = self.watermarks.partitions();
        outcome.warnings.append(&mut self.gathered());
        decided.durations.insert("addBatch", opened.elapsed());
        let mut next = None;
        if ahead && !self.shared.is_stopping() {
            next = self.decide()?.map(|decided| {
                let epoch = decided.entry.epoch;
                self.open(decided, Some(epoch))
            });
        }
        let local = self.reports.local_workers();
        self.ledger.check_written(&outcome, local)?;
        let committing = Instant::now();
        self.ledger
            .commit_sinks(&info, decided.sink_holds, &mut outcome)?;
        decided
            .durations
            .insert("commitBatch", committing.elapsed());
        let committing = Instant::now();
        let commit = self.standing(entries, partitions, &outcome);
        self.ledger.commit_checkpoint(&commit, &mut outcome)?;
        self.tell_sources(entries)?;
        for (index, source) in self.sources.iter_mut().enumerate() {
            let asked = (source.forgettable(), source.is_kept());
            let forgotten = self.ledger.trim(index, asked)?;
            source.forgotten(forgotten);
        }
        let durations = &mut decided.durations;
        durations.insert("commitOffsets", committing.elapsed());
        durations.insert("triggerExecution", decided.began.elapsed());
        let rows = outcome.read.iter().map(|read| read.rows);
        self.limits.landed(clock::now(), rows, opened.elapsed());
        let sink = self.ledger.sink().description();
        self.report(decided, &outcome, (&sink, commit));
        Ok(next)
    }

    /// How things stand once epochs are done.
    fn standing(
        &mut self,
        entries: &[OffsetEntry],
        partitions: Vec<PartitionState>,
        outcome: &Outcome,
    ) -> CommitEntry {
        let mut commit = CommitEntry {
            workers: self.reports.workers(),
            partitions,
            timestamp_us: clock::now(),
            output_rows: outcome.output_rows(),
            operators: outcome.sizes(),
            ..CommitEntry::default()
        };
        if let ([first, ..], [.., last]) = (entries, entries) {
            self.history.add(last, &outcome.deeds());
            commit.first = first.epoch;
            commit.last = last.epoch;
            commit.watermark = last.watermark;
            commit.previous_watermark = last.previous_watermark;
        }
        commit.history = self.history.clone();
        commit
    }

    /// Tells the sources what is committed.
    fn tell_sources(&mut self, entries: &[OffsetEntry]) -> Result<(), QueryError> {
        for entry in entries {
            for (source, range) in self.sources.iter_mut().zip(&entry.sources) {
                if let Some(range) = &range.range {
                    source.committed(range)?;
                }
            }
        }
        Ok(())
    }

    /// Tells of what is committed.
    fn report(
        &mut self,
        decided: Decided,
        outcome: &Outcome,
        (sink, standing): (&str, CommitEntry),
    ) {
        let began = decided.entry.timestamp_us;
        let last_began = self.last_began.replace(began);
        let busy = outcome.busy.with(&decided.durations);
        let measured = self.meter.as_ref().map(|_| {
            let busy = busy.named(&self.plan);
            Measured::new(&decided, outcome, busy, (&self.sources, &self.watermarks))
        });
        let mut progress = Progress::new(
            (&self.plan.name, self.ids),
            decided,
            outcome,
            last_began,
            (&self.sources, sink),
        );
        progress.spent(&self.plan, &busy);
        if let (Some(meter), Some(measured)) = (&self.meter, measured) {
            meter.record(&progress, measured);
        }
        self.shared.set_standing(standing);
        self.shared.push_progress(progress);
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
