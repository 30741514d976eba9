//! Commits ticks on a thread of its own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::checkpoint::{CommitEntry, OffsetEntry};
use crate::operators::EpochInfo;
use crate::runtime::QueryError;
use crate::runtime::epoch::Outcome;
use crate::runtime::sequencer::ledger::Ledger;
use crate::runtime::worker::panicked;

/// Ticks to commit.
pub(super) struct Job {
    pub(super) entries: Vec<OffsetEntry>,
    pub(super) outcome: Outcome,
    /// The last of them.
    pub(super) last: EpochInfo,
    /// When the first was opened.
    pub(super) began: Instant,
    /// How things stand then.
    pub(super) standing: CommitEntry,
    pub(super) local_workers: usize,
    /// How many ranges each source's log can forget, and whether files go with them.
    pub(super) forgettable: Vec<(usize, bool)>,
}

/// Ticks that are committed.
pub(super) struct Landed {
    /// All ticks as one: a source tells others of it.
    pub(super) entry: Option<OffsetEntry>,
    pub(super) standing: CommitEntry,
    pub(super) outcome: Outcome,
    pub(super) began: Instant,
    pub(super) durations: BTreeMap<&'static str, Duration>,
    /// How many ranges of each source's log were forgotten.
    pub(super) trimmed: Vec<usize>,
}

/// See the module.
pub(super) struct Committer {
    jobs: Sender<Job>,
    landed: Receiver<Result<Landed, QueryError>>,
    thread: JoinHandle<Ledger>,
}

impl Committer {
    /// Starts the thread; `nudge` is called when a job is done.
    pub(super) fn start(
        mut ledger: Ledger,
        nudge: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, QueryError> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let (results, landed) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("tidemark-commit".into())
            .spawn(move || {
                for job in waiting {
                    let landed = catch_unwind(AssertUnwindSafe(|| commit(&mut ledger, job)));
                    let landed = landed.unwrap_or_else(|panic| {
                        Err(QueryError::Worker(panicked("a commit", &*panic)))
                    });
                    // A sequencer that has failed does not ask.
                    let _ = results.send(landed);
                    nudge();
                }
                ledger
            })
            .map_err(|error| QueryError::Start(error.to_string()))?;
        Ok(Self {
            jobs,
            landed,
            thread,
        })
    }

    /// Begins a commit; there is one at a time.
    pub(super) fn commit(&self, job: Job) -> Result<(), QueryError> {
        let gone = |_| QueryError::Worker("internal error: commits have ended".into());
        self.jobs.send(job).map_err(gone)
    }

    /// A commit that is done, or has failed.
    pub(super) fn landed(&self) -> Option<Result<Landed, QueryError>> {
        self.landed.try_recv().ok()
    }

    /// Ends the thread, after what it is at.
    pub(super) fn end(self) -> Result<Ledger, QueryError> {
        drop(self.jobs);
        self.thread
            .join()
            .map_err(|panic| QueryError::Worker(panicked("the thread of commits", &*panic)))
    }
}

fn commit(ledger: &mut Ledger, job: Job) -> Result<Landed, QueryError> {
    let Job {
        entries,
        mut outcome,
        last,
        began,
        standing,
        local_workers,
        forgettable,
    } = job;
    let mut durations = BTreeMap::new();
    let mut at = Instant::now();
    durations.insert("addBatch", began.elapsed());
    let mut lap = |phase| {
        durations.insert(phase, at.elapsed());
        at = Instant::now();
    };
    ledger.log_offsets(&entries)?;
    lap("walCommit");
    ledger.check_written(&outcome, local_workers)?;
    ledger.commit_sinks(&last, false, &mut outcome)?;
    outcome.acknowledge();
    lap("commitBatch");
    ledger.commit_checkpoint(&standing, &mut outcome)?;
    let trimmed = forgettable.into_iter().enumerate();
    let trimmed = trimmed
        .map(|(source, ranges)| ledger.trim(source, ranges))
        .collect::<Result<_, _>>()?;
    lap("commitOffsets");
    Ok(Landed {
        entry: whole(entries),
        standing,
        outcome,
        began,
        durations,
        trimmed,
    })
}

/// The ticks of a commit as one epoch, for whoever is told of it.
fn whole(entries: Vec<OffsetEntry>) -> Option<OffsetEntry> {
    entries.into_iter().reduce(|before, mut entry| {
        for (range, before) in entry.sources.iter_mut().zip(before.sources) {
            range.range = match (before.range, range.range.take()) {
                (Some(mut before), Some(later)) => {
                    before.end = later.end;
                    before.splits.extend(later.splits);
                    Some(before)
                }
                (before, later) => later.or(before),
            };
        }
        entry.timestamp_us = before.timestamp_us;
        entry
    })
}
