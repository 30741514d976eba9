//! Continuous queries: epochs are ticks, and many of them are one commit.
//!
//! A tick is open while its rows come: followed partitions are read as records arrive, and a stateless result is
//! written at once. It is closed as soon as the one before it is done. Where rows leave as they are written, the next
//! one is open from then on: a tick is as long as the work of the one before, and what arrives waits for nothing else.
//! Where they are staged, it is opened when that is done.
//!
//! Where readers of the target see rows only once they are committed, ticks would be work for nobody: then a
//! tick lasts from one commit to the next.
//!
//! The ticks since the last commit are committed together, once an interval: the last of them has the workers
//! stage their output and write their state, and a thread of its own ([`Committer`]) logs the ranges, commits the
//! sink and the checkpoint, in the order of any epoch. Ticks go on meanwhile, unless the sink cannot
//! ([`Sink::overlaps`]). What was read since the last commit is in no log: after a crash it is read again, in ticks
//! cut anew. The log of a commit names every tick, so that one that stopped between sink and checkpoint is replayed
//! as it was.

mod committer;
mod landing;

use std::time::{Duration, Instant};

use tidemark_connectors::{Delivery, OutputMode, PlannedRange, Sink, Split, Visible};

use self::committer::Committer;
use super::Sequencer;
use crate::checkpoint::{OffsetEntry, SourceRange};
use crate::compile::source_uses;
use crate::operators::EpochInfo;
use crate::runtime::control::{Command, Done, Report, Stored, Tick};
use crate::runtime::epoch::Outcome;
use crate::runtime::{QueryError, clock};

/// A tick that keeps state, or commits to its sink, is at least this long: shorter ones cost more than they give.
const STATEFUL: Duration = Duration::from_micros(500);

/// A tick whose rows have left before it ends may be longer: its end is work for every worker, and nobody waits for it but
/// who measures latencies.
const STATELESS: Duration = Duration::from_millis(10);

/// Somebody who asks to stop is heard this soon, and so is time that passes: watermarks of idle partitions, say.
const LOOK: Duration = Duration::from_millis(50);

/// New partitions are looked for this often.
const PARTITIONS: Duration = Duration::from_secs(1);

/// What came of hearing reports on a worker's thread.
pub(super) enum Heard {
    /// All was done. When there is more to do, if nothing is reported.
    All(Option<Instant>),
    /// The sequencer's own thread is to look.
    Calls,
}

/// What is known of continuous running.
pub(super) struct Ticks {
    interval: Duration,
    committer: Committer,
    /// The sink, where each tick is committed to it.
    each: Option<Box<dyn Sink>>,
    target: Target,
    /// How long a tick lasts at least.
    pace: Duration,
    /// By source: what is known of its partitions.
    sources: Vec<Reading>,
    /// What is to be read in the next tick.
    planned: Vec<Option<PlannedRange>>,
    /// What is to be followed from the next tick on.
    follow: Vec<Vec<(u32, Split)>>,
    open: Option<Open>,
    /// A tick that is closed and not done.
    closed: Option<Open>,
    group: Group,
    /// Ticks that workers are making durable.
    storing: Option<Group>,
    stored: Vec<Stored>,
    /// The committer is at work.
    committing: bool,
    last_commit: Instant,
    next_poll: Instant,
    /// The sources that are not followed were just asked.
    asked: bool,
    next_look: Instant,
    /// The first tick has something to say though nothing came: a count of nothing, where reading begins.
    first: bool,
}

/// What is known of the sink.
struct Target {
    description: String,
    visible: Visible,
    /// Writers know when rows have arrived.
    acknowledged: bool,
    /// Rows can be written while others are committed.
    overlaps: bool,
}

impl Target {
    fn of(sink: &dyn Sink) -> Self {
        let visible = sink.visible();
        let at_least_once = sink.delivery() == Delivery::AtLeastOnce;
        Self {
            description: sink.description(),
            visible,
            acknowledged: visible == Visible::AsWritten && at_least_once,
            overlaps: sink.overlaps(),
        }
    }
}

/// How a source is read.
#[derive(Default)]
struct Reading {
    /// Its partitions are followed; else it is planned.
    followed: bool,
    /// How many partitions are.
    partitions: u32,
}

/// A tick.
struct Open {
    entry: OffsetEntry,
    info: EpochInfo,
    opened: Instant,
    /// There is a reason to close it.
    fresh: bool,
    /// It takes no more.
    full: bool,
    done: Vec<Done>,
    commits: bool,
}

/// The ticks since the last commit that are done.
#[derive(Default)]
struct Group {
    entries: Vec<OffsetEntry>,
    outcome: Option<Outcome>,
    last: Option<EpochInfo>,
    began: Option<Instant>,
}

impl Ticks {
    pub(super) fn start(sequencer: &mut Sequencer, interval: Duration) -> Result<Self, QueryError> {
        let uses = source_uses(&sequencer.plan);
        let mut sources = vec![];
        let mut follow = vec![];
        for (index, source) in sequencer.sources.iter_mut().enumerate() {
            source.wake(sequencer.reports.nudge());
            let mut reading = Reading::default();
            let mut partitions = vec![];
            // Two readers of a partition would not stop at the same place.
            let once = uses.iter().filter(|of| **of == index).count() == 1;
            if once
                && sequencer.plan.sources[index].streaming
                && let Some(splits) = source.follow()?
            {
                reading.followed = true;
                partitions = reading.number(splits);
            }
            sources.push(reading);
            follow.push(partitions);
        }
        let mut ledger = std::mem::take(&mut sequencer.ledger);
        let target = Target::of(ledger.sink());
        let each = match target.visible {
            Visible::EachTick => ledger.sink.take(),
            _ => None,
        };
        let now = Instant::now();
        Ok(Self {
            interval,
            committer: Committer::start(ledger, sequencer.reports.nudge())?,
            each,
            pace: if sequencer.stateful || target.visible == Visible::EachTick {
                STATEFUL
            } else {
                STATELESS
            },
            target,
            planned: sources.iter().map(|_| None).collect(),
            sources,
            follow,
            open: None,
            closed: None,
            group: Group::default(),
            storing: None,
            stored: vec![],
            committing: false,
            last_commit: now,
            next_poll: now,
            asked: false,
            next_look: now + PARTITIONS,
            first: sequencer.next == 0,
        })
    }

    /// Gives the sequencer back what it lent.
    pub(super) fn end(self, sequencer: &mut Sequencer) -> Result<(), QueryError> {
        let mut ledger = self.committer.end()?;
        if let Some(sink) = self.each {
            ledger.sink = Some(sink);
        }
        sequencer.ledger = ledger;
        Ok(())
    }

    /// Does all that is to be done; until when there is no more if nobody says anything. Nothing where the query is
    /// stopped, or has read all that there will ever be.
    pub(super) fn turn(
        &mut self,
        sequencer: &mut Sequencer,
    ) -> Result<Option<Instant>, QueryError> {
        self.listen(sequencer)?;
        while let Some(landed) = self.committer.landed() {
            self.committed(sequencer, landed?)?;
        }
        self.land(sequencer)?;
        self.store(sequencer)?;
        let stopping = sequencer.shared.is_stopping();
        if !stopping {
            self.look(sequencer)?;
            self.plan(sequencer)?;
            self.mark(sequencer);
        }
        self.close(sequencer);
        if self.is_quiet() {
            if stopping || sequencer.sources.iter().all(|source| source.exhausted()) {
                return Ok(None);
            }
            sequencer.shared.note_idle();
        }
        self.open(sequencer);
        Ok(Some(self.until()))
    }

    /// Does what is to be done about reports without asking anybody outside, on a worker's thread.
    pub(super) fn attend(&mut self, sequencer: &mut Sequencer) -> Result<Heard, QueryError> {
        // A worker waits for no sink.
        if self.each.is_some() || !self.is_followed() {
            return Ok(Heard::Calls);
        }
        self.listen(sequencer)?;
        if sequencer.shared.is_stopping() {
            return Ok(Heard::Calls);
        }
        self.land(sequencer)?;
        self.mark(sequencer);
        self.close(sequencer);
        self.open(sequencer);
        let is_stored = self.stored.len() >= sequencer.reports.workers();
        let asks = self.is_polled() && self.next_poll <= Instant::now();
        Ok(if is_stored || asks {
            Heard::Calls
        } else {
            Heard::All(self.ripe())
        })
    }

    fn listen(&mut self, sequencer: &Sequencer) -> Result<(), QueryError> {
        while let Some(report) = sequencer.reports.heard()? {
            self.hear(report);
        }
        Ok(())
    }

    /// Nothing is under way and nothing waits.
    fn is_quiet(&self) -> bool {
        let waiting = self.open.as_ref().is_some_and(|open| open.fresh);
        !waiting
            && self.closed.is_none()
            && self.group.entries.is_empty()
            && self.storing.is_none()
            && !self.committing
            && self.planned.iter().all(Option::is_none)
    }

    /// Until when nothing is to be done if nobody says anything.
    fn until(&self) -> Instant {
        let now = Instant::now();
        let mut until = now + LOOK;
        if self.is_polled() && self.planned.iter().all(Option::is_none) {
            until = until.min(self.next_poll);
        }
        if let Some(ripe) = self.ripe() {
            until = until.min(ripe);
        }
        let fresh = self.open.as_ref().is_some_and(|open| open.fresh);
        let uncommitted = fresh || !self.group.entries.is_empty();
        if uncommitted && self.may_commit() && self.closed.is_none() {
            until = until.min(self.last_commit + self.interval);
        }
        until
    }

    /// When the open tick has lasted long enough, if there is a reason to close it.
    fn ripe(&self) -> Option<Instant> {
        let fresh = self.open.as_ref().filter(|open| open.fresh)?;
        (self.closed.is_none() && self.is_eager()).then(|| fresh.opened + self.pace)
    }

    /// Ticks are shorter than commits.
    fn is_eager(&self) -> bool {
        self.target.visible != Visible::WhenCommitted
    }

    fn is_followed(&self) -> bool {
        self.sources.iter().any(|source| source.followed)
    }

    fn is_polled(&self) -> bool {
        self.sources.iter().any(|source| !source.followed)
    }

    /// No commit is under way.
    fn may_commit(&self) -> bool {
        self.storing.is_none() && !self.committing
    }

    /// A commit is to be made, if there is something to commit.
    fn is_due(&self, sequencer: &Sequencer) -> bool {
        let hurry = sequencer.shared.is_stopping()
            || sequencer.shared.is_hurried()
            || sequencer.sources.iter().all(|source| source.exhausted());
        self.may_commit() && (hurry || self.last_commit.elapsed() >= self.interval)
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Arrived { epoch, full } => {
                if let Some(open) = self.open.as_mut().filter(|o| o.info.epoch == epoch) {
                    open.fresh = true;
                    open.full |= full;
                }
            }
            Report::Done(done) => {
                if let Some(closed) = self.closed.as_mut()
                    && closed.info.epoch == done.epoch
                {
                    closed.done.push(*done);
                }
            }
            Report::Stored(stored) => self.stored.push(*stored),
            Report::Nudge => self.next_poll = Instant::now(),
            Report::Ready | Report::Failed { .. } | Report::StopAsked => {}
        }
    }

    /// Looks for new partitions.
    fn look(&mut self, sequencer: &mut Sequencer) -> Result<(), QueryError> {
        let now = Instant::now();
        if now < self.next_look || !self.is_followed() {
            return Ok(());
        }
        self.next_look = now + PARTITIONS;
        for (index, reading) in self.sources.iter_mut().enumerate() {
            if reading.followed
                && let Some(splits) = sequencer.sources[index].follow()?
                && !splits.is_empty()
            {
                self.follow[index].extend(reading.number(splits));
            }
        }
        Ok(())
    }

    /// Asks the sources that are not followed for what is new, if it is time and nothing of them waits.
    fn plan(&mut self, sequencer: &mut Sequencer) -> Result<(), QueryError> {
        let now = Instant::now();
        let waits = self.planned.iter().any(Option::is_some);
        self.asked = !self.is_polled();
        if !self.is_polled() || waits || now < self.next_poll {
            return Ok(());
        }
        self.next_poll = now + LOOK;
        // What is seen only once it is committed need not be read before.
        let due =
            self.is_eager() || (self.is_followed() && self.may_commit()) || self.is_due(sequencer);
        if !due {
            if self.may_commit() {
                self.next_poll = self.next_poll.min(self.last_commit + self.interval);
            }
            return Ok(());
        }
        self.asked = true;
        for (index, source) in sequencer.sources.iter_mut().enumerate() {
            if !self.sources[index].followed {
                self.planned[index] = source.plan(sequencer.limits.of(index))?;
                self.next_poll = self.next_poll.min(now + source.poll_interval());
            }
        }
        Ok(())
    }

    /// Finds reasons beside arrivals to close the open tick.
    fn mark(&mut self, sequencer: &mut Sequencer) {
        let owed = sequencer.stateful && sequencer.plan.mode != OutputMode::Complete;
        let watermark = sequencer.watermarks.decide(clock::now());
        let waits = self.planned.iter().any(Option::is_some)
            || self.follow.iter().any(|fresh| !fresh.is_empty());
        if let Some(open) = &mut self.open {
            open.fresh |= waits || (owed && watermark > open.info.watermark);
        }
    }

    /// Opens a tick where none is open: at once where something is followed, else for what there is to read.
    /// Whether one was.
    fn open(&mut self, sequencer: &mut Sequencer) -> bool {
        if self.open.is_some() || (!self.target.overlaps && !self.may_commit()) {
            return false;
        }
        // What is staged, or is one transaction, must not hold rows of a later tick.
        let apart = self.target.visible != Visible::AsWritten;
        let closed = self.closed.as_ref();
        if closed.is_some_and(|closed| apart || (closed.commits && !self.target.overlaps)) {
            return false;
        }
        let now = clock::now();
        let watermark = sequencer.watermarks.decide(now);
        // An epoch is run for the watermark alone only where no input waits.
        let owed = watermark > sequencer.last_watermark
            && (self.asked || self.is_followed())
            && sequencer.stateful
            && sequencer.plan.mode != OutputMode::Complete;
        let planned = self.planned.iter().any(Option::is_some);
        let first = self.first && (sequencer.always_answers || self.is_followed());
        let committed = self.closed.as_ref().is_some_and(|closed| closed.commits);
        let commit = !committed && !self.group.entries.is_empty() && self.is_due(sequencer);
        let something = self.is_followed() || planned || owed || first;
        if !commit && (!something || sequencer.shared.is_stopping()) {
            return false;
        }
        let entry = OffsetEntry {
            epoch: sequencer.next,
            watermark,
            previous_watermark: sequencer.last_watermark,
            timestamp_us: now,
            partitions: sequencer.watermarks.partitions(),
            sources: self
                .planned
                .iter_mut()
                .map(|range| SourceRange {
                    range: range.take(),
                })
                .collect(),
            no_data: false,
        };
        sequencer.next += 1;
        self.first = false;
        if planned {
            // There may be more.
            self.next_poll = Instant::now();
        }
        let tick = Tick {
            follow: self.follow.iter_mut().map(std::mem::take).collect(),
            stage: self.each.is_some(),
            acknowledged: self.target.acknowledged,
        };
        let info = sequencer.order(&entry, None, Some(tick));
        self.open = Some(Open {
            entry,
            info,
            opened: Instant::now(),
            fresh: planned || first || !self.is_followed(),
            full: false,
            done: vec![],
            commits: false,
        });
        true
    }

    /// Closes the open tick if it is time.
    fn close(&mut self, sequencer: &mut Sequencer) {
        if self.closed.is_some() {
            return;
        }
        let Some(open) = &self.open else {
            return;
        };
        let something = open.fresh || !self.group.entries.is_empty();
        let full = open.full && !self.is_eager() && self.may_commit();
        let commit = something && (full || self.is_due(sequencer));
        let eager = open.fresh
            && self.is_eager()
            && (open.full || !self.is_followed() || open.opened.elapsed() >= self.pace);
        if !(commit || eager) {
            return;
        }
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.commits = commit;
        let first = self
            .group
            .entries
            .first()
            .map_or(open.info.epoch, |e| e.epoch);
        sequencer.tell(Command::Close {
            epoch: open.info.epoch,
            commit_from: commit.then_some(first),
        });
        if commit {
            self.last_commit = Instant::now();
        }
        self.closed = Some(open);
        // Woken once for both.
        if !self.open(sequencer) {
            sequencer.wake();
        }
    }
}

impl Reading {
    /// Numbers partitions; those of a source are dealt out to the workers by their numbers.
    fn number(&mut self, splits: Vec<Split>) -> Vec<(u32, Split)> {
        let first = self.partitions;
        self.partitions += splits.len() as u32;
        (first..).zip(splits).collect()
    }
}
