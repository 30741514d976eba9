//! When what is folded: a pure function of the manifest.

use super::super::{CommitEntry, FileKind, Manifest, StateFile};
use crate::time::{Epoch, EventTime, NO_WATERMARK};

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
            min_bytes: 64 << 10,
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

/// What to fold into what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::checkpoint) struct Job {
    pub(in crate::checkpoint) kind: FileKind,
    pub(in crate::checkpoint) worker: usize,
    pub(in crate::checkpoint) workers: usize,
    /// In the order in which they apply; never empty.
    pub(in crate::checkpoint) files: Vec<StateFile>,
    pub(in crate::checkpoint) watermark: EventTime,
}

impl Job {
    pub(in crate::checkpoint) fn first(&self) -> Epoch {
        self.files.first().map_or(0, |file| file.first)
    }

    pub(in crate::checkpoint) fn last(&self) -> Epoch {
        self.files.last().map_or(0, |file| file.last)
    }
}

/// What there is to fold of one worker's files, given the oldest retained commit and the newest.
pub(in crate::checkpoint) fn due(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::manifest::tests::file;

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
