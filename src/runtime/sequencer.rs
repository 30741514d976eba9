//! The sequencer: decides each epoch, logs it, opens it, commits it. One a query, on its own thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemark_connectors::{OutputMode, PlannedRange, ReadLimit, Sink, Source, Staged};
use uuid::Uuid;

use crate::checkpoint::{
    Checkpoint, CommitEntry, OffsetEntry, OperatorSize, Replay, RestorePlan, SourceRange,
};
use crate::operators::{EpochInfo, OperatorStats, SourceProgress};
use crate::plan::{Node, Operator, Plan, Trigger};
use crate::row::hash;
use crate::runtime::control::{Command, Done, Order, Report, Start, Waker};
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::progress::{
    Progress, SinkProgress, SourceProgressReport, StateOperatorProgress, event_time, rate,
};
use crate::runtime::query::Shared;
use crate::runtime::watermark::Watermarks;
use crate::runtime::{QueryError, clock};
use crate::time::{Epoch, EventTime, NO_WATERMARK};

const SILENT: &str =
    "internal error: the workers ended without saying why; please report it with the query";

/// A sequencer that waits for its trigger looks for reports this often.
const NAP: Duration = Duration::from_millis(200);

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

/// See the module.
pub struct Sequencer {
    plan: Arc<Plan>,
    ids: (Uuid, Uuid),
    workers: usize,
    sources: Vec<Box<dyn Source>>,
    sink: Box<dyn Sink>,
    dead_letters: Option<DeadLetters>,
    checkpoint: Option<Checkpoint>,
    commands: Sender<Command>,
    reports: Receiver<Report>,
    waker: Waker,
    shared: Arc<Shared>,
    watermarks: Watermarks,
    /// The watermark of the last epoch.
    last_watermark: EventTime,
    next: Epoch,
    /// When the last epoch began, for rates.
    last_began: Option<i64>,
    stateful: bool,
    always_answers: bool,
}

/// An epoch as it was decided.
struct Decided {
    entry: OffsetEntry,
    /// The sink holds it already.
    sink_holds: bool,
    latest: Vec<Option<Value>>,
    durations: BTreeMap<&'static str, u64>,
    began: Instant,
}

impl Sequencer {
    #[expect(clippy::too_many_arguments, reason = "called once, from `start`")]
    pub(crate) fn new(
        plan: Arc<Plan>,
        ids: (Uuid, Uuid),
        workers: usize,
        sources: Vec<Box<dyn Source>>,
        (sink, dead_letters): (Box<dyn Sink>, Option<DeadLetters>),
        checkpoint: Option<Checkpoint>,
        (commands, reports, waker): (Sender<Command>, Receiver<Report>, Waker),
        shared: Arc<Shared>,
    ) -> Self {
        let watermarks = Watermarks::new(
            plan.settings.watermark_policy,
            plan.sources.iter().map(|source| source.watermark.as_ref()),
            clock::now(),
        );
        let stateful = any(&plan.root, &|operator| {
            matches!(
                operator,
                Operator::Aggregate(_) | Operator::SessionWindow(_)
            )
        });
        let always_answers = any(&plan.root, &|operator| match operator {
            Operator::Aggregate(aggregate) => aggregate.keys.is_empty(),
            Operator::Values { .. } => true,
            _ => false,
        });
        Self {
            plan,
            ids,
            workers,
            sources,
            sink,
            dead_letters,
            checkpoint,
            commands,
            reports,
            waker,
            shared,
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
        self.await_ready()?;
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
                self.process(decided)?;
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
        while !self.shared.is_stopping() {
            if let Some(decided) = self.decide()? {
                self.shared.set_status("Processing new data", true, true);
                self.process(decided)?;
            } else {
                self.shared
                    .set_status("Waiting for data to arrive", false, false);
                self.shared.note_idle();
                self.listen()?;
                if bounded || self.sources.iter().all(|source| source.exhausted()) {
                    return Ok(());
                }
                let waits = matches!(self.plan.trigger, Trigger::ProcessingTime(interval) if !interval.is_zero());
                if !waits {
                    let poll = self
                        .sources
                        .iter()
                        .map(|source| source.poll_interval())
                        .min();
                    self.sleep_until(Instant::now() + poll.unwrap_or(Duration::from_millis(100)))?;
                }
            }
            if let Trigger::ProcessingTime(interval) = self.plan.trigger
                && !interval.is_zero()
            {
                trigger = next_trigger(trigger, interval);
                self.shared
                    .set_status("Waiting for next trigger", false, false);
                self.sleep_until(trigger)?;
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
        let mut durations = BTreeMap::from([("latestOffset", millis(began))]);
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
        durations.insert("walCommit", millis(logging));
        self.next += 1;
        Ok(Some(Decided {
            entry,
            sink_holds: false,
            latest,
            durations,
            began,
        }))
    }

    /// Has an epoch processed and commits it.
    fn process(&mut self, decided: Decided) -> Result<(), QueryError> {
        let Decided {
            entry,
            sink_holds,
            latest,
            mut durations,
            began,
        } = decided;
        let info = EpochInfo {
            epoch: entry.epoch,
            watermark: entry.watermark,
            previous_watermark: entry.previous_watermark,
            timestamp: entry.timestamp_us,
            salt: salt(self.ids.0, entry.timestamp_us),
        };
        let splits = entry
            .sources
            .iter()
            .map(|source| {
                source
                    .range
                    .as_ref()
                    .map_or_else(Vec::new, |range| range.splits.clone())
            })
            .collect();
        let working = Instant::now();
        self.tell(Command::Open(Order {
            info,
            splits,
            commit_from: Some(entry.epoch),
        }));
        let mut done = self.await_done(entry.epoch)?;
        durations.insert("addBatch", millis(working));

        let mut read: Vec<SourceProgress> = vec![SourceProgress::default(); self.sources.len()];
        for report in &done {
            for (source, partitions) in &report.sources {
                for (partition, progress) in partitions {
                    self.watermarks
                        .observe(*source, partition, progress.max, info.timestamp);
                    read[*source].add(progress);
                }
            }
        }
        let mut operators: BTreeMap<usize, OperatorStats> = BTreeMap::new();
        for (operator, stats) in done.iter().flat_map(|report| &report.operators) {
            operators.entry(*operator).or_default().add(stats);
        }
        let staged: Vec<Staged> = done
            .iter()
            .filter_map(|report| report.staged.clone())
            .collect();
        let output_rows = staged.iter().map(|staged| staged.rows).sum();

        let letters = done
            .iter_mut()
            .flat_map(|report| std::mem::take(&mut report.dead_letters));
        let letters = match &mut self.dead_letters {
            Some(table) => Some(table.stage(&info, letters.collect())?),
            None => None,
        };
        let committing = Instant::now();
        if sink_holds {
            self.sink.discard_uncommitted()?;
        } else {
            self.sink.commit(entry.epoch, &staged)?;
        }
        if let (Some(table), Some(staged)) = (&mut self.dead_letters, &letters) {
            table.commit(entry.epoch, staged)?;
        }
        durations.insert("commitBatch", millis(committing));
        let committing = Instant::now();
        if let Some(checkpoint) = &mut self.checkpoint {
            let files: Vec<_> = done
                .iter()
                .filter_map(|report| report.state.clone())
                .collect();
            let commit = CommitEntry {
                first: entry.epoch,
                last: entry.epoch,
                workers: self.workers,
                watermark: entry.watermark,
                previous_watermark: entry.previous_watermark,
                partitions: self.watermarks.partitions(),
                timestamp_us: clock::now(),
                output_rows,
                operators: operators
                    .iter()
                    .map(|(operator, stats)| OperatorSize {
                        operator: *operator as u32,
                        name: stats.name.clone(),
                        rows: stats.rows_total,
                        bytes: stats.memory_used_bytes,
                    })
                    .collect(),
            };
            checkpoint.commit(&commit, &files)?;
            checkpoint.maintain(self.plan.settings.min_batches_to_retain)?;
        }
        for (source, range) in self.sources.iter_mut().zip(&entry.sources) {
            if let Some(range) = &range.range {
                source.committed(range)?;
            }
        }
        if let Some(checkpoint) = &mut self.checkpoint {
            for (index, source) in self.sources.iter().enumerate() {
                let forgettable = source.forgettable();
                if forgettable > 0 {
                    checkpoint.trim_source_log(index, forgettable)?;
                }
            }
        }
        durations.insert("commitOffsets", millis(committing));
        durations.insert("triggerExecution", millis(began));
        self.last_watermark = entry.watermark;
        let spent = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.tell_progress(
            &entry,
            &read,
            &operators,
            latest,
            output_rows,
            durations,
            spent,
        );
        Ok(())
    }

    /// Waits until every worker has built its dataflow and restored its state: damage shows at the
    /// start, not with the first data.
    fn await_ready(&self) -> Result<(), QueryError> {
        let mut ready = 0;
        while ready < self.workers {
            match self.reports.recv() {
                Ok(Report::Failed { error, .. }) => return Err(QueryError::Worker(error)),
                Ok(Report::StopAsked) => self.shared.ask_to_stop(),
                Ok(Report::Ready) => ready += 1,
                Ok(Report::Done(_)) => {}
                Err(_) => return Err(QueryError::Worker(SILENT.into())),
            }
        }
        Ok(())
    }

    /// Sleeps until `deadline`, with an ear for the workers.
    fn sleep_until(&self, deadline: Instant) -> Result<(), QueryError> {
        loop {
            self.listen()?;
            let nap = deadline.min(Instant::now() + NAP);
            if self.shared.sleep_until(nap) || nap == deadline {
                return Ok(());
            }
        }
    }

    /// What workers say while nothing is in flight: one failed, or a user of another process asks
    /// to stop.
    fn listen(&self) -> Result<(), QueryError> {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::Failed { error, .. } => return Err(QueryError::Worker(error)),
                Report::StopAsked => self.shared.ask_to_stop(),
                Report::Done(_) | Report::Ready => {}
            }
        }
        Ok(())
    }

    /// Waits for every worker's report of an epoch.
    fn await_done(&self, epoch: Epoch) -> Result<Vec<Done>, QueryError> {
        let mut all = vec![];
        while all.len() < self.workers {
            match self.reports.recv() {
                Ok(Report::Done(done)) if done.epoch == epoch => all.push(*done),
                Ok(Report::Done(_) | Report::Ready) => {}
                Ok(Report::StopAsked) => self.shared.ask_to_stop(),
                Ok(Report::Failed { error, .. }) => return Err(QueryError::Worker(error)),
                Err(_) => {
                    return Err(QueryError::Worker(SILENT.into()));
                }
            }
        }
        all.sort_by_key(|done| done.worker);
        Ok(all)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what an epoch gave, each of its own kind"
    )]
    fn tell_progress(
        &mut self,
        entry: &OffsetEntry,
        read: &[SourceProgress],
        operators: &BTreeMap<usize, OperatorStats>,
        latest: Vec<Option<Value>>,
        output_rows: u64,
        durations: BTreeMap<&'static str, u64>,
        spent: i64,
    ) {
        let since = self
            .last_began
            .map_or(0, |began| entry.timestamp_us - began);
        self.last_began = Some(entry.timestamp_us);
        let mut total = SourceProgress::default();
        read.iter().for_each(|progress| total.add(progress));
        let sources = self
            .sources
            .iter()
            .zip(&entry.sources)
            .zip(read)
            .zip(latest)
            .map(|(((source, range), read), latest)| SourceProgressReport {
                description: source.description(),
                start_offset: range
                    .range
                    .as_ref()
                    .map_or(Value::Null, |range| range.start.clone()),
                end_offset: range
                    .range
                    .as_ref()
                    .map_or(Value::Null, |range| range.end.clone()),
                latest_offset: latest.unwrap_or(Value::Null),
                num_input_rows: read.rows,
                input_rows_per_second: rate(read.rows, since),
                processed_rows_per_second: rate(read.rows, spent),
                num_dropped_records: read.dropped,
            })
            .collect();
        self.shared.push_progress(Progress {
            id: self.ids.0.to_string(),
            run_id: self.ids.1.to_string(),
            name: self.plan.name.clone(),
            timestamp: clock::iso(entry.timestamp_us),
            batch_id: entry.epoch,
            num_input_rows: total.rows,
            input_rows_per_second: rate(total.rows, since),
            processed_rows_per_second: rate(total.rows, spent),
            duration_ms: durations,
            event_time: event_time(&total, entry.watermark),
            state_operators: operators
                .values()
                .map(|stats| StateOperatorProgress {
                    operator_name: stats.name.clone(),
                    num_rows_total: stats.rows_total,
                    num_rows_updated: stats.rows_updated,
                    num_rows_removed: stats.rows_removed,
                    num_rows_dropped_by_watermark: stats.rows_dropped_by_watermark,
                    memory_used_bytes: stats.memory_used_bytes,
                })
                .collect(),
            sources,
            sink: SinkProgress {
                description: self.sink.description(),
                num_output_rows: output_rows,
            },
        });
    }
}

fn any(node: &Node, wanted: &dyn Fn(&Operator) -> bool) -> bool {
    wanted(&node.operator) || node.inputs.iter().any(|input| any(input, wanted))
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
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
