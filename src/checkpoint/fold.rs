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
//! It holds a few blocks of each file at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;

use super::error::{CheckpointError, Outcome, Result};
use super::{
    CommitEntry, FileKind, Manifest, SectionReader, SectionWriter, StateDir, StateFile,
    StateFileWriter, StateFiles,
};
use crate::state::{HEADER_LEN, Input, Sections};
use crate::time::{Epoch, EventTime, NO_WATERMARK};

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

/// When files are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldPolicy {
    /// Deltas that weigh less than this together are folded only when there are many.
    pub min_bytes: u64,
    /// As many deltas become a wide one before a snapshot is made of them.
    pub min_deltas: usize,
    /// More deltas than this are folded, however small.
    pub max_deltas: usize,
}

impl Default for FoldPolicy {
    fn default() -> Self {
        Self {
            min_bytes: 1 << 20,
            min_deltas: 8,
            max_deltas: 32,
        }
    }
}

/// A snapshot is made of the base when its deltas weigh more than the snapshot's share of one in this.
/// The smaller the share, the less room a checkpoint takes, and the more often a snapshot is written.
const BASE_SHARE: u64 = 4;

/// A snapshot of the newest epoch is made when what comes after its first file weighs more than so many
/// times that file.
const RESTART_LIMIT: u64 = 2;

/// How many commits a worker's files are left alone after a fold of them has failed.
const PATIENCE: u64 = 16;

/// What to fold into what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) kind: FileKind,
    pub(super) worker: usize,
    pub(super) workers: usize,
    /// In the order in which they apply; never empty.
    pub(super) files: Vec<StateFile>,
    pub(super) watermark: EventTime,
}

impl Job {
    fn first(&self) -> Epoch {
        self.files.first().map_or(0, |file| file.first)
    }

    fn last(&self) -> Epoch {
        self.files.last().map_or(0, |file| file.last)
    }
}

/// What there is to fold of one worker's files, given the oldest retained commit and the newest.
pub(super) fn due(
    manifest: &Manifest,
    (oldest, newest): (&CommitEntry, &CommitEntry),
    worker: usize,
    policy: FoldPolicy,
) -> Option<Job> {
    let job = |kind, files: &[&StateFile], watermark| {
        let files = files.iter().copied().cloned().collect();
        Some(Job {
            kind,
            worker,
            workers: newest.workers,
            files,
            watermark,
        })
    };
    // One epoch behind: what fell due in the last epoch is the last epoch's to have seen.
    let snapshot = |chain: &[&StateFile], commit: &CommitEntry| {
        job(FileKind::Snapshot, chain, commit.previous_watermark)
    };
    // A retraction must outlive what it retracts, which is in an older file: nothing expires here.
    let wide = |deltas: &[&StateFile]| job(FileKind::Delta, deltas, NO_WATERMARK);

    // The files of another number of workers go as a whole.
    if oldest.workers == newest.workers {
        let base = manifest.chain(worker, oldest.workers, oldest.last);
        let whole = base
            .iter()
            .take_while(|file| file.kind == FileKind::Snapshot)
            .count();
        let (whole, deltas) = base.split_at(whole);
        let heavy =
            weight(deltas) > policy.min_bytes && weight(deltas) > weight(whole) / BASE_SHARE;
        if heavy && base.len() > 1 {
            return if whole.is_empty() || deltas.len() < policy.min_deltas {
                snapshot(&base, oldest)
            } else {
                wide(deltas)
            };
        }
        if deltas.len() > policy.max_deltas.max(1) {
            return wide(&deltas[newest_of_a_size(deltas)..]);
        }
    }
    let chain = manifest.chain(worker, newest.workers, newest.last);
    let (first, others) = chain.split_first()?;
    let heavy = weight(others) > policy.min_bytes && weight(others) > first.bytes * RESTART_LIMIT;
    heavy.then(|| snapshot(&chain, newest)).flatten()
}

fn weight(files: &[&StateFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

/// Where the newest deltas begin of which the next older one is not much larger than they are together:
/// if they are folded, each byte is rewritten a logarithmic number of times before the next snapshot.
fn newest_of_a_size(deltas: &[&StateFile]) -> usize {
    let mut from = deltas.len() - 1;
    let mut sum = deltas[from].bytes;
    while from > 0 && deltas[from - 1].bytes <= 2 * sum {
        from -= 1;
        sum += deltas[from].bytes;
    }
    if deltas.len() - from < 2 { 0 } else { from }
}

/// Does a job: reads, merges trace by trace, writes.
pub(super) fn run(job: &Job, dir: &StateDir, fold: &Fold, stop: &AtomicBool) -> Result<StateFile> {
    let files = StateFiles::open(dir, &job.files)?;
    let mut writer = StateFileWriter::create(dir, job.worker, job.workers)?;
    for (operator, trace) in files.traces() {
        if stop.load(Ordering::Relaxed) {
            return Err(fold_error(
                job,
                operator,
                trace,
                "the query is stopping".into(),
            ));
        }
        let parts = files.readers(operator, trace)?;
        let mut section = writer.stream(operator, trace);
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

/// The thread that folds, as the checkpoint holds it.
pub(super) struct Folder {
    dir: PathBuf,
    policy: FoldPolicy,
    jobs: Option<Sender<Job>>,
    results: Receiver<(usize, Result<StateFile>)>,
    /// The names that each worker's running job reads and will write.
    busy: BTreeMap<usize, BTreeSet<String>>,
    /// Up to which epoch a worker is left alone.
    failed: BTreeMap<usize, Epoch>,
    stop: Arc<AtomicBool>,
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
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (outbox, results) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let path = dir.path().to_path_buf();
        let home = path.clone();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("tidemark-fold".into())
            .spawn(move || {
                for job in inbox {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let result = run(&job, &dir, &fold, &stopped);
                    if outbox.send((job.worker, result)).is_err() {
                        return;
                    }
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
            jobs: Some(jobs),
            results,
            busy: BTreeMap::new(),
            failed: BTreeMap::new(),
            stop,
            thread: Some(thread),
        })
    }

    /// The names that must not be removed now.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &String> {
        self.busy.values().flatten()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.busy.is_empty()
    }

    /// Starts what is due, given the retained commits, the oldest first. Returns how many jobs.
    pub(super) fn start_due(&mut self, manifest: &Manifest, commits: &[CommitEntry]) -> usize {
        let (Some(jobs), Some(oldest), Some(newest)) =
            (&self.jobs, commits.first(), commits.last())
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
                if jobs.send(job).is_ok() {
                    self.busy.insert(worker, names);
                    started += 1;
                }
            }
        }
        started
    }

    /// What has been finished since the last time; with `wait`, everything that was started.
    pub(super) fn finished(
        &mut self,
        committed: Epoch,
        wait: bool,
    ) -> (Vec<StateFile>, Vec<CheckpointError>) {
        let mut files = Vec::new();
        let mut errors = Vec::new();
        while !self.busy.is_empty() {
            let result = if wait {
                self.results.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.results.try_recv()
            };
            let (worker, result) = match result {
                Ok(result) => result,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.busy.clear();
                    self.jobs = None;
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
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been shown by the panic hook; there is nobody to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::checkpoint::manifest::tests::file;

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

    /// A snapshot of epoch 0 and deltas from epoch 1 on, and a commit for each of their epochs.
    fn chain(snapshot: Option<u64>, deltas: &[u64]) -> (Manifest, Vec<CommitEntry>) {
        let mut files = Vec::new();
        if let Some(bytes) = snapshot {
            files.push(StateFile {
                bytes,
                ..file(FileKind::Snapshot, 0, 1, 0, 0)
            });
        }
        for (i, bytes) in deltas.iter().enumerate() {
            let epoch = i as Epoch + 1;
            files.push(StateFile {
                bytes: *bytes,
                ..file(FileKind::Delta, 0, 1, epoch, epoch)
            });
        }
        let commits = (0..=deltas.len() as Epoch).map(|epoch| CommitEntry {
            last: epoch,
            previous_watermark: epoch as EventTime,
            ..CommitEntry::default()
        });
        (Manifest::new(files), commits.collect())
    }

    const POLICY: FoldPolicy = FoldPolicy {
        min_bytes: 0,
        min_deltas: 3,
        max_deltas: 4,
    };

    /// What is folded where the newest `retained` commits are: of what kind, how many files, and at
    /// which watermark they expire.
    fn decided(
        retained: usize,
        snapshot: Option<u64>,
        deltas: &[u64],
    ) -> Option<(FileKind, usize, EventTime)> {
        let (manifest, commits) = chain(snapshot, deltas);
        let ends = (
            &commits[commits.len() - retained],
            &commits[commits.len() - 1],
        );
        due(&manifest, ends, 0, POLICY).map(|job| (job.kind, job.files.len(), job.watermark))
    }

    #[test]
    fn deltas_that_weigh_a_quarter_of_the_snapshot_are_folded_with_it() {
        assert_eq!(
            decided(1, Some(40), &[6, 5]),
            Some((FileKind::Snapshot, 3, 2))
        );
        assert_eq!(decided(1, Some(44), &[6, 5]), None);
        assert_eq!(
            decided(1, Some(40), &[11]),
            Some((FileKind::Snapshot, 2, 1))
        );
        assert_eq!(decided(1, None, &[1, 1]), Some((FileKind::Snapshot, 2, 2)));
    }

    #[test]
    fn what_a_retained_epoch_needs_alone_is_not_folded() {
        assert_eq!(decided(2, Some(40), &[6, 5]), None);
        assert_eq!(
            decided(2, Some(40), &[6, 5, 1]),
            Some((FileKind::Snapshot, 3, 2))
        );
        assert_eq!(decided(3, Some(40), &[6, 5, 60]), None);
    }

    #[test]
    fn a_restart_does_not_read_much_more_than_the_state() {
        assert_eq!(
            decided(4, Some(40), &[40, 39, 1]),
            None,
            "all three can be asked for"
        );
        assert_eq!(
            decided(4, Some(40), &[40, 40, 1]),
            Some((FileKind::Snapshot, 4, 3))
        );
    }

    #[test]
    fn several_deltas_become_one_before_the_snapshot_is_written_again() {
        assert_eq!(
            decided(1, Some(40), &[4, 4, 4]),
            Some((FileKind::Delta, 3, NO_WATERMARK))
        );
        // As after that, with deltas of the same keys.
        assert_eq!(decided(1, Some(40), &[6, 4]), None);
        assert_eq!(
            decided(1, Some(40), &[8, 4]),
            Some((FileKind::Snapshot, 3, 2))
        );
    }

    #[test]
    fn a_single_file_is_left_alone() {
        assert_eq!(decided(1, None, &[100]), None);
        assert_eq!(decided(1, Some(1), &[]), None);
    }

    #[test]
    fn little_state_is_folded_when_its_deltas_are_many() {
        let few = FoldPolicy {
            min_bytes: 1000,
            ..POLICY
        };
        for (deltas, folded) in [(4, None), (5, Some(5))] {
            let (manifest, commits) = chain(Some(10), &vec![90; deltas]);
            let newest = &commits[deltas];
            let job = due(&manifest, (newest, newest), 0, few);
            assert_eq!(job.map(|job| job.files.len()), folded);
        }
    }

    #[test]
    fn many_small_deltas_become_a_wide_one_and_nothing_in_them_expires() {
        assert_eq!(decided(1, Some(1000), &[1; 4]), None);
        assert_eq!(
            decided(1, Some(1000), &[1; 5]),
            Some((FileKind::Delta, 5, NO_WATERMARK))
        );
    }

    #[test]
    fn a_delta_that_is_much_wider_than_the_new_ones_is_left_out() {
        assert_eq!(
            decided(1, Some(1000), &[100, 1, 1, 1, 1]),
            Some((FileKind::Delta, 4, NO_WATERMARK))
        );
        assert_eq!(
            decided(1, Some(1000), &[8, 1, 1, 1, 1]),
            Some((FileKind::Delta, 5, NO_WATERMARK))
        );
    }

    #[test]
    fn deltas_of_falling_size_are_folded_all_together() {
        assert_eq!(
            decided(1, Some(10_000), &[1000, 300, 90, 27, 8]),
            Some((FileKind::Delta, 5, NO_WATERMARK))
        );
    }
}
