//! Folding: several state files of a worker become one, in a thread of its own.
//!
//! A commit adds a delta, so without folding a restart would read everything that ever changed, and
//! nothing would ever go. What the oldest retained epoch needs may be folded without keeping a copy for
//! others: those files are its *base*, a snapshot and the deltas up to it. They go as soon as what was
//! made of them is recorded. There are three folds:
//!
//! - the base's deltas become one *wide delta* when there are many. Keys that change again and again
//!   cost their bytes once then, and a large snapshot is left alone.
//! - the base becomes one *snapshot* when its deltas weigh more than a quarter of the one before.
//! - the newest epoch's files become a snapshot when all deltas together weigh more than twice theirs:
//!   what a restart reads is bounded even if the retained epochs changed everything many times.
//!
//! The work is proportional to what changed. The thread reads files that the manifest names and writes
//! a file that it does not name yet; the owner of the database records the file with the next commit.
//! Nothing waits for the thread: an epoch that it is too slow for is committed with one more delta.
//! It holds a few blocks of each file at a time, and gives way to the epochs that run beside it (`pace`).
//! It also removes what folds have replaced: some dozens of files at once, which would hold up an epoch.
//! When to fold what is decided by `due`, a pure function of the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;

mod due;
mod pace;

pub use self::due::FoldPolicy;
use self::due::{Job, due};
pub(super) use self::pace::Pace;
use self::pace::Wishes;
use super::error::{CheckpointError, Outcome, Result};
use super::{
    CommitEntry, Manifest, SectionReader, SectionWriter, StateDir, StateFile, StateFileWriter,
    StateFiles,
};
use crate::state::{HEADER_LEN, Input, Sections};
use crate::time::{Epoch, EventTime};

/// Merges sections of one trace, oldest first, into one that says the same; it may leave out what
/// the watermark has expired. Returns the bytes for which it left room in front.
pub type Fold = Arc<
    dyn Fn(Vec<SectionReader>, EventTime, &mut SectionWriter<'_>) -> Result<Vec<u8>, String>
        + Send
        + Sync,
>;

/// The [`Fold`] of what traces write.
pub fn fold_rows(
    parts: Vec<SectionReader>,
    watermark: EventTime,
    out: &mut SectionWriter<'_>,
) -> Result<Vec<u8>, String> {
    out.leave(HEADER_LEN).map_err(|error| error.to_string())?;
    let inputs = parts.into_iter().map(Input::from).collect();
    Sections::open(vec![inputs])
        .and_then(|sections| sections.fold(watermark, out))
        .map(|header| header.to_vec())
        .map_err(|error| error.to_string())
}

/// How many commits a worker's files are left alone after a fold of them has failed.
const PATIENCE: u64 = 16;

/// Does a job: reads, merges trace by trace, writes.
fn run(job: &Job, dir: &StateDir, fold: &Fold, pace: &Arc<Pace>) -> Result<StateFile> {
    let files = StateFiles::open(dir, &job.files)?.gently(pace);
    let mut writer = StateFileWriter::create(dir, job.worker, job.workers)?;
    for (operator, trace) in files.traces() {
        let parts = files.readers(operator, trace)?;
        let mut section = writer.stream(operator, trace).gently(pace);
        let head = fold(
            parts.into_iter().flatten().collect(),
            job.watermark,
            &mut section,
        )
        .map_err(|reason| fold_error(job, operator, trace, reason))?;
        section.end(&head)?;
    }
    writer.finish(job.kind, job.first(), job.last())
}

fn fold_error(job: &Job, operator: u32, trace: u32, reason: String) -> CheckpointError {
    CheckpointError::Fold {
        worker: job.worker,
        last: job.last(),
        operator,
        trace,
        reason,
    }
}

/// What the thread is told to do.
enum Task {
    Fold(Job),
    Remove(BTreeSet<String>),
}

/// What it has done.
enum Done {
    Folded(usize, Result<StateFile>),
    Removed,
}

/// The thread that folds, as the checkpoint holds it.
pub(super) struct Folder {
    dir: PathBuf,
    policy: FoldPolicy,
    tasks: Option<Sender<Task>>,
    results: Receiver<Done>,
    /// How many removals are under way.
    removals: usize,
    /// The names that each worker's running job reads and will write.
    busy: BTreeMap<usize, BTreeSet<String>>,
    /// Up to which epoch a worker is left alone.
    failed: BTreeMap<usize, Epoch>,
    wishes: Arc<Wishes>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder")
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

impl Folder {
    pub(super) fn start(dir: StateDir, fold: Fold, policy: FoldPolicy) -> Result<Self> {
        let (tasks, inbox) = mpsc::channel::<Task>();
        let (outbox, results) = mpsc::channel();
        let wishes = Arc::<Wishes>::default();
        let path = dir.path().to_path_buf();
        let home = path.clone();
        let told = Arc::clone(&wishes);
        let thread = std::thread::Builder::new()
            .name("tidemark-fold".into())
            .spawn(move || {
                for task in inbox {
                    let done = match task {
                        Task::Fold(_) if told.stop.load(Ordering::Relaxed) => continue,
                        Task::Fold(job) => {
                            let result = run(&job, &dir, &fold, &Arc::new(Pace::new(&told)));
                            Done::Folded(job.worker, result)
                        }
                        Task::Remove(names) => {
                            // One that stays is an orphan of the next start.
                            names.iter().for_each(|name| drop(dir.remove(name)));
                            Done::Removed
                        }
                    };
                    // Nobody asks any more when the query stops.
                    let _ = outbox.send(done);
                }
            })
            .map_err(|source| CheckpointError::Write {
                action: "start the thread that folds",
                path,
                source,
                outcome: Outcome::DidNotHappen,
            })?;
        Ok(Self {
            dir: home,
            policy,
            tasks: Some(tasks),
            results,
            removals: 0,
            busy: BTreeMap::new(),
            failed: BTreeMap::new(),
            wishes,
            thread: Some(thread),
        })
    }

    /// The names that must not be removed now.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &String> {
        self.busy.values().flatten()
    }

    /// Removes files in the background.
    pub(super) fn remove(&mut self, names: BTreeSet<String>) {
        if let Some(tasks) = &self.tasks
            && tasks.send(Task::Remove(names)).is_ok()
        {
            self.removals += 1;
        }
    }

    /// Starts what is due, given the retained commits, the oldest first. Returns how many jobs.
    pub(super) fn start_due(&mut self, manifest: &Manifest, commits: &[CommitEntry]) -> usize {
        let (Some(tasks), Some(oldest), Some(newest)) =
            (&self.tasks, commits.first(), commits.last())
        else {
            return 0;
        };
        let mut started = 0;
        for worker in 0..newest.workers {
            let tired = self
                .failed
                .get(&worker)
                .is_some_and(|until| newest.last < *until);
            if tired || self.busy.contains_key(&worker) {
                continue;
            }
            if let Some(job) = due(manifest, (oldest, newest), worker, self.policy) {
                let names = job.files.iter().map(|file| file.name.clone()).collect();
                if tasks.send(Task::Fold(job)).is_ok() {
                    self.busy.insert(worker, names);
                    started += 1;
                }
            }
        }
        started
    }

    /// The files that have been made since the last time; with `wait`, all that were started, and what is
    /// to be removed is gone.
    pub(super) fn finished(
        &mut self,
        committed: Epoch,
        wait: bool,
    ) -> (Vec<StateFile>, Vec<CheckpointError>) {
        let mut files = Vec::new();
        let mut errors = Vec::new();
        self.wishes.hurry.store(wait, Ordering::Relaxed);
        while !self.busy.is_empty() || self.removals > 0 {
            let result = if wait {
                self.results.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.results.try_recv()
            };
            let (worker, result) = match result {
                Ok(Done::Folded(worker, result)) => (worker, result),
                Ok(Done::Removed) => {
                    self.removals -= 1;
                    continue;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.busy.clear();
                    self.removals = 0;
                    self.tasks = None;
                    errors.push(CheckpointError::FoldingEnded {
                        dir: self.dir.clone(),
                    });
                    break;
                }
            };
            self.busy.remove(&worker);
            match result {
                Ok(file) => files.push(file),
                Err(error) => {
                    self.failed.insert(worker, committed + PATIENCE);
                    errors.push(error);
                }
            }
        }
        (files, errors)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.wishes.stop.store(true, Ordering::Relaxed);
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been shown by the panic hook; there is nobody to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A fold of sections that are added up by being written one behind the other.
    pub(in crate::checkpoint) fn concatenated(
        parts: Vec<SectionReader>,
        _: EventTime,
        out: &mut SectionWriter<'_>,
    ) -> Result<Vec<u8>, String> {
        for mut part in parts {
            std::io::copy(&mut part, out).map_err(|error| error.to_string())?;
        }
        Ok(Vec::new())
    }
}
