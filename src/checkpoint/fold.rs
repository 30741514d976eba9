//! Folding: several state files of a worker become one, in a thread of its own.
//!
//! A commit adds a delta, so without folding a restart would read everything that ever changed.
//! There are two folds. When the deltas outweigh the snapshot, both become a new *snapshot*: the
//! work stays proportional to what changed, and the files at most about twice the state. When
//! there are merely many deltas, the newest ones become one *wide delta*, as in a log-structured
//! merge tree, and a large snapshot is left alone.
//!
//! The thread reads files that the manifest names and writes a file that it does not name yet;
//! the owner of the database records the file with the next commit. Nothing waits for the thread:
//! an epoch that it is too slow for is committed with one more delta.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;

use super::error::{CheckpointError, Outcome, Result};
use super::{
    CommitEntry, FileKind, Manifest, StateDir, StateFile, StateFileReader, StateFileWriter,
};
use crate::time::{Epoch, EventTime, NO_WATERMARK};

/// Merges sections of one trace, oldest first, into one that says the same; it may leave out what
/// the watermark has expired.
pub type Fold = Arc<dyn Fn(&[&[u8]], EventTime) -> Result<Vec<u8>, String> + Send + Sync>;

/// When files are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldPolicy {
    /// Fewer deltas than this are left alone, however large.
    pub min_deltas: usize,
    /// More deltas than this are folded, however small.
    pub max_deltas: usize,
}

impl Default for FoldPolicy {
    fn default() -> Self {
        Self {
            min_deltas: 8,
            max_deltas: 32,
        }
    }
}

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

/// What there is to fold of one worker's files as of `commit`.
pub(super) fn due(
    manifest: &Manifest,
    commit: &CommitEntry,
    worker: usize,
    policy: FoldPolicy,
) -> Option<Job> {
    let chain = manifest.chain(worker, commit.workers, commit.last);
    let bytes = |files: &[&StateFile]| files.iter().map(|file| file.bytes).sum::<u64>();
    let snapshots = chain
        .iter()
        .take_while(|file| file.kind == FileKind::Snapshot)
        .count();
    let (snapshot, deltas) = chain.split_at(snapshots);
    if deltas.len() < policy.min_deltas.max(1) {
        return None;
    }
    let job = |kind, files: &[&StateFile], watermark| {
        let files = files.iter().copied().cloned().collect();
        Some(Job {
            kind,
            worker,
            workers: commit.workers,
            files,
            watermark,
        })
    };
    if bytes(deltas) > bytes(snapshot) {
        // One epoch behind: what fell due in the last epoch is the last epoch's to have seen.
        return job(FileKind::Snapshot, &chain, commit.previous_watermark);
    }
    if deltas.len() <= policy.max_deltas.max(1) {
        return None;
    }
    // The newest deltas, as long as the next older one is not much larger than they are together:
    // so each byte is rewritten a logarithmic number of times before the next snapshot.
    let mut from = deltas.len() - 1;
    let mut sum = deltas[from].bytes;
    while from > 0 && deltas[from - 1].bytes <= 2 * sum {
        from -= 1;
        sum += deltas[from].bytes;
    }
    if deltas.len() - from < 2 {
        from = 0;
    }
    // A retraction must outlive what it retracts, which is in an older file: nothing expires here.
    job(FileKind::Delta, &deltas[from..], NO_WATERMARK)
}

/// Does a job: reads, merges section by section, writes.
pub(super) fn run(job: &Job, dir: &StateDir, fold: &Fold, stop: &AtomicBool) -> Result<StateFile> {
    let mut readers = job
        .files
        .iter()
        .map(|file| StateFileReader::open(dir, file))
        .collect::<Result<Vec<_>>>()?;
    let traces: BTreeSet<(u32, u32)> = readers
        .iter()
        .flat_map(StateFileReader::sections)
        .map(|section| (section.operator, section.trace))
        .collect();
    let mut writer = StateFileWriter::create(dir, job.worker, job.workers)?;
    for (operator, trace) in traces {
        if stop.load(Ordering::Relaxed) {
            return Err(fold_error(
                job,
                operator,
                trace,
                "the query is stopping".into(),
            ));
        }
        let mut parts = Vec::new();
        for reader in &mut readers {
            let of_trace: Vec<_> = reader
                .sections()
                .iter()
                .filter(|s| (s.operator, s.trace) == (operator, trace))
                .copied()
                .collect();
            for section in of_trace {
                parts.push(reader.read(&section)?);
            }
        }
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let merged = fold(&slices, job.watermark)
            .map_err(|reason| fold_error(job, operator, trace, reason))?;
        drop(parts);
        writer.section(operator, trace, &merged)?;
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

    /// Starts what is due as of `commit`. Returns how many jobs.
    pub(super) fn start_due(&mut self, manifest: &Manifest, commit: &CommitEntry) -> usize {
        let Some(jobs) = &self.jobs else { return 0 };
        let mut started = 0;
        for worker in 0..commit.workers {
            let tired = self
                .failed
                .get(&worker)
                .is_some_and(|until| commit.last < *until);
            if tired || self.busy.contains_key(&worker) {
                continue;
            }
            if let Some(job) = due(manifest, commit, worker, self.policy) {
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
mod tests {
    use super::*;
    use crate::checkpoint::manifest::tests::file;

    fn chain(snapshot: Option<u64>, deltas: &[u64]) -> (Manifest, CommitEntry) {
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
        let last = deltas.len() as Epoch;
        let commit = CommitEntry {
            last,
            previous_watermark: 7,
            ..CommitEntry::default()
        };
        (Manifest::new(files), commit)
    }

    const POLICY: FoldPolicy = FoldPolicy {
        min_deltas: 2,
        max_deltas: 4,
    };

    fn decided(snapshot: Option<u64>, deltas: &[u64]) -> Option<(FileKind, usize, EventTime)> {
        let (manifest, commit) = chain(snapshot, deltas);
        due(&manifest, &commit, 0, POLICY).map(|job| (job.kind, job.files.len(), job.watermark))
    }

    #[test]
    fn deltas_that_outweigh_the_snapshot_are_folded_with_it() {
        assert_eq!(decided(Some(10), &[6, 5]), Some((FileKind::Snapshot, 3, 7)));
        assert_eq!(decided(Some(11), &[6, 5]), None);
        assert_eq!(decided(None, &[1, 1]), Some((FileKind::Snapshot, 2, 7)));
    }

    #[test]
    fn a_single_delta_is_left_alone() {
        assert_eq!(decided(None, &[100]), None);
        assert_eq!(decided(Some(1), &[100]), None);
        assert_eq!(decided(Some(1), &[]), None);
    }

    #[test]
    fn many_small_deltas_become_a_wide_one_and_nothing_in_them_expires() {
        assert_eq!(decided(Some(1000), &[1; 4]), None);
        assert_eq!(
            decided(Some(1000), &[1; 5]),
            Some((FileKind::Delta, 5, NO_WATERMARK))
        );
    }

    #[test]
    fn a_delta_that_is_much_wider_than_the_new_ones_is_left_out() {
        assert_eq!(
            decided(Some(1000), &[100, 1, 1, 1, 1]),
            Some((FileKind::Delta, 4, NO_WATERMARK))
        );
        assert_eq!(
            decided(Some(1000), &[8, 1, 1, 1, 1]),
            Some((FileKind::Delta, 5, NO_WATERMARK))
        );
    }

    #[test]
    fn deltas_of_falling_size_are_folded_all_together() {
        assert_eq!(
            decided(Some(10_000), &[1000, 300, 90, 27, 8]),
            Some((FileKind::Delta, 5, NO_WATERMARK))
        );
    }
}
