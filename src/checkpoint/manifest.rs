//! Which files make the state of an epoch.
//!
//! The state of worker w at epoch e is its newest snapshot at or before e, then its deltas after
//! that, oldest first. A worker that changed nothing in a commit needs no file for it; one that
//! has no snapshot starts from nothing. The rows of the manifest are written in the transaction
//! of the commit that they belong to, so a file that is on disk and not in the manifest is
//! nobody's, and a file that is in the manifest was durable before.
//!
//! *Folding* adds files that say the same as several others: a snapshot made of a snapshot and
//! deltas, or a wide delta made of neighbouring deltas. Both stand beside what they were made of
//! until no retained epoch needs that.
//!
//! *Another number of workers*: rows are spread over workers by key hash, so files of n workers
//! mean nothing to m workers one by one. The restorer reads all of them and splits; the first
//! commit by m workers must then be a snapshot from each, so that a chain never mixes layouts.
//! [`Manifest::is_rescale`] tells, and the checkpoint refuses a commit that breaks the rule.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::CommitEntry;
use crate::time::{Epoch, EventTime};

/// What a state file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// What the epochs `first..=last` changed.
    Delta,
    /// Everything up to and with `last`.
    Snapshot,
}

impl FileKind {
    /// As it is stored and printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Snapshot => "snapshot",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A state file that is complete and durable, as the manifest remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// Its name in `state/`.
    pub name: String,
    /// What it holds.
    pub kind: FileKind,
    /// Whose state.
    pub worker: usize,
    /// Of how many workers.
    pub workers: usize,
    /// The first epoch that it covers; 0 for a snapshot.
    pub first: Epoch,
    /// The last epoch that it covers.
    pub last: Epoch,
    /// Its length.
    pub bytes: u64,
    /// The checksum in its trailer, which stands for all of its bytes.
    pub crc: u32,
}

/// A file that a retained epoch needs and that is not there as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFile {
    /// Its name in `state/`.
    pub name: String,
    /// How long it should be.
    pub bytes: u64,
    /// How long it is; `None`: it is not there.
    pub found: Option<u64>,
}

impl fmt::Display for MissingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found {
            None => write!(f, "{} is missing", self.name),
            Some(found) => {
                write!(
                    f,
                    "{} has {found} bytes instead of {}",
                    self.name, self.bytes
                )
            }
        }
    }
}

/// All files that the checkpoint knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<StateFile>,
}

impl Manifest {
    /// The manifest of these files.
    pub fn new(files: Vec<StateFile>) -> Self {
        Self { files }
    }

    /// The files, in no particular order.
    pub fn files(&self) -> &[StateFile] {
        &self.files
    }

    pub(super) fn add(&mut self, files: impl IntoIterator<Item = StateFile>) {
        for file in files {
            self.files.retain(|known| known.name != file.name);
            self.files.push(file);
        }
    }

    pub(super) fn forget(&mut self, names: &BTreeSet<String>) {
        self.files.retain(|file| !names.contains(&file.name));
    }

    /// The files that make the state of `epoch`, which `workers` workers committed: worker by
    /// worker, each worker's in the order in which they apply.
    pub fn files_for(&self, epoch: Epoch, workers: usize) -> Vec<StateFile> {
        (0..workers)
            .flat_map(|worker| self.chain(worker, workers, epoch))
            .cloned()
            .collect()
    }

    /// One worker's files for the state of `epoch`.
    pub(super) fn chain(&self, worker: usize, workers: usize, epoch: Epoch) -> Vec<&StateFile> {
        let own = || {
            self.files
                .iter()
                .filter(move |f| f.worker == worker && f.workers == workers && f.last <= epoch)
        };
        let snapshot = own()
            .filter(|file| file.kind == FileKind::Snapshot)
            .max_by_key(|file| file.last);
        let mut from = snapshot.map_or(0, |file| file.last + 1);
        let mut deltas: Vec<&StateFile> = own()
            .filter(|file| file.kind == FileKind::Delta && file.first >= from)
            .collect();
        // Wide deltas hold whole narrow ones, so the longest that starts first is always right.
        deltas.sort_by_key(|file| (file.first, std::cmp::Reverse(file.last)));
        let mut chain: Vec<&StateFile> = snapshot.into_iter().collect();
        for delta in deltas {
            if delta.first >= from {
                from = delta.last + 1;
                chain.push(delta);
            }
        }
        chain
    }

    /// Whether a first commit by `workers` workers after `previous` must be made of snapshots.
    pub fn is_rescale(&self, previous: Option<&CommitEntry>, workers: usize) -> bool {
        previous.is_some_and(|commit| {
            commit.workers != workers && !self.files_for(commit.last, commit.workers).is_empty()
        })
    }

    /// What is not there of the files for an epoch.
    pub fn missing(
        &self,
        epoch: Epoch,
        workers: usize,
        present: &BTreeMap<String, u64>,
    ) -> Vec<MissingFile> {
        self.files_for(epoch, workers)
            .into_iter()
            .filter_map(|file| {
                let found = present.get(&file.name).copied();
                (found != Some(file.bytes)).then_some(MissingFile {
                    name: file.name,
                    bytes: file.bytes,
                    found,
                })
            })
            .collect()
    }

    /// The names that none of the `retained` commits needs.
    pub(super) fn superfluous(&self, retained: &[CommitEntry]) -> BTreeSet<String> {
        let chains = retained.iter().flat_map(|commit| {
            let workers = 0..commit.workers;
            workers.map(|worker| self.chain(worker, commit.workers, commit.last))
        });
        let needed: HashSet<&str> = chains.flatten().map(|file| &file.name[..]).collect();
        self.files
            .iter()
            .filter(|file| !needed.contains(&file.name[..]))
            .map(|file| file.name.clone())
            .collect()
    }
}

/// The files that make the state of a committed epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// The epoch.
    pub epoch: Epoch,
    /// How many workers wrote the files.
    pub workers: usize,
    /// What has expired at it is not needed any more.
    pub watermark: EventTime,
    /// Worker by worker, each worker's in the order in which they apply.
    pub files: Vec<StateFile>,
}

impl RestorePlan {
    /// The files that one of `workers` workers reads. Where the number is the one that wrote
    /// them, they are its own and all rows in them are its; where it is not, they are all files,
    /// and the worker keeps the rows whose key hash is its share.
    pub fn files_of(&self, worker: usize, workers: usize) -> Vec<&StateFile> {
        let split = self.must_split(workers);
        self.files
            .iter()
            .filter(|file| split || file.worker == worker)
            .collect()
    }

    /// Whether `workers` workers must split the files by key hash as they read them, and must
    /// each begin the next commit with a snapshot.
    pub fn must_split(&self, workers: usize) -> bool {
        self.workers != workers && !self.files.is_empty()
    }

    /// How many bytes there are to read.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::checkpoint) fn file(
        kind: FileKind,
        worker: usize,
        workers: usize,
        first: Epoch,
        last: Epoch,
    ) -> StateFile {
        let name = format!("{kind}-{first}-{last}-{worker}of{workers}");
        StateFile {
            name,
            kind,
            worker,
            workers,
            first,
            last,
            bytes: 10,
            crc: 0,
        }
    }

    fn delta(worker: usize, workers: usize, first: Epoch, last: Epoch) -> StateFile {
        file(FileKind::Delta, worker, workers, first, last)
    }

    fn snapshot(worker: usize, workers: usize, last: Epoch) -> StateFile {
        file(FileKind::Snapshot, worker, workers, 0, last)
    }

    fn names(files: &[StateFile]) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn a_state_is_the_newest_snapshot_and_the_deltas_after_it() {
        let manifest = Manifest::new(vec![
            delta(0, 1, 3, 3),
            delta(0, 1, 0, 0),
            snapshot(0, 1, 1),
            delta(0, 1, 1, 1),
            delta(0, 1, 2, 2),
            snapshot(0, 1, 3),
        ]);
        assert_eq!(names(&manifest.files_for(0, 1)), ["delta-0-0-0of1"]);
        assert_eq!(names(&manifest.files_for(1, 1)), ["snapshot-0-1-0of1"]);
        assert_eq!(
            names(&manifest.files_for(2, 1)),
            ["snapshot-0-1-0of1", "delta-2-2-0of1"]
        );
        assert_eq!(names(&manifest.files_for(3, 1)), ["snapshot-0-3-0of1"]);
        assert_eq!(names(&manifest.files_for(9, 1)), ["snapshot-0-3-0of1"]);
    }

    #[test]
    fn a_wide_delta_stands_for_the_narrow_ones_only_where_it_fits_whole() {
        let manifest = Manifest::new(vec![
            delta(0, 1, 0, 0),
            delta(0, 1, 1, 1),
            delta(0, 1, 2, 2),
            delta(0, 1, 3, 3),
            delta(0, 1, 1, 2),
            delta(0, 1, 1, 3),
        ]);
        assert_eq!(
            names(&manifest.files_for(1, 1)),
            ["delta-0-0-0of1", "delta-1-1-0of1"]
        );
        assert_eq!(
            names(&manifest.files_for(2, 1)),
            ["delta-0-0-0of1", "delta-1-2-0of1"]
        );
        assert_eq!(
            names(&manifest.files_for(3, 1)),
            ["delta-0-0-0of1", "delta-1-3-0of1"]
        );
    }

    #[test]
    fn workers_may_be_folded_at_different_epochs() {
        let manifest = Manifest::new(vec![
            delta(0, 2, 0, 0),
            delta(1, 2, 0, 0),
            delta(0, 2, 1, 1),
            delta(1, 2, 1, 1),
            snapshot(0, 2, 1),
        ]);
        assert_eq!(
            names(&manifest.files_for(1, 2)),
            ["snapshot-0-1-0of2", "delta-0-0-1of2", "delta-1-1-1of2"]
        );
    }

    #[test]
    fn a_layout_that_comes_back_does_not_see_its_earlier_files() {
        let manifest = Manifest::new(vec![
            delta(0, 2, 0, 0),
            delta(1, 2, 0, 0),
            snapshot(0, 1, 1),
            delta(0, 1, 2, 2),
            snapshot(0, 2, 3),
            snapshot(1, 2, 3),
            delta(1, 2, 4, 4),
        ]);
        assert_eq!(
            names(&manifest.files_for(0, 2)),
            ["delta-0-0-0of2", "delta-0-0-1of2"]
        );
        assert_eq!(
            names(&manifest.files_for(2, 1)),
            ["snapshot-0-1-0of1", "delta-2-2-0of1"]
        );
        assert_eq!(
            names(&manifest.files_for(4, 2)),
            ["snapshot-0-3-0of2", "snapshot-0-3-1of2", "delta-4-4-1of2"]
        );
    }

    #[test]
    fn what_no_retained_epoch_needs_is_superfluous_and_nothing_else() {
        let manifest = Manifest::new(vec![
            delta(0, 1, 0, 0),
            delta(0, 1, 1, 1),
            snapshot(0, 1, 1),
            delta(0, 1, 2, 2),
        ]);
        let commit = |last| CommitEntry {
            first: last,
            last,
            ..CommitEntry::default()
        };
        let gone = manifest.superfluous(&[commit(1), commit(2)]);
        assert_eq!(
            gone.into_iter().collect::<Vec<_>>(),
            ["delta-0-0-0of1", "delta-1-1-0of1"]
        );
        assert!(
            manifest
                .superfluous(&[commit(0), commit(1), commit(2)])
                .contains("delta-1-1-0of1")
        );
        assert!(
            !manifest
                .superfluous(&[commit(0)])
                .contains("delta-0-0-0of1")
        );
    }

    #[test]
    fn another_number_of_workers_reads_all_files_and_splits_them() {
        let plan = RestorePlan {
            epoch: 1,
            workers: 2,
            watermark: 0,
            files: vec![delta(0, 2, 0, 1), delta(1, 2, 0, 1)],
        };
        assert!(!plan.must_split(2));
        assert_eq!(plan.files_of(1, 2), [&plan.files[1]]);
        assert!(plan.must_split(3));
        assert_eq!(plan.files_of(1, 3).len(), 2);
        let empty = RestorePlan {
            files: Vec::new(),
            ..plan
        };
        assert!(!empty.must_split(3), "nothing is split by nobody");
    }
}
