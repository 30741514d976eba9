//! How large a checkpoint grows over some hundred epochs, by what is retained and what changes.

use std::sync::Arc;

use rand::prelude::*;
use tidemark_connectors::storage::crash::memory_directory;

use super::*;
use crate::state::tests::info;
use crate::state::{HEADER_LEN, Recorder, Sections, Table, TableKind};
use crate::time::{Epoch, NEVER, NO_WATERMARK, Time};

const KEYS: u64 = 3000;

/// A table of which a share changes each epoch, and its checkpoint.
struct Run {
    checkpoint: Checkpoint,
    table: Table,
    recorder: Recorder,
    rng: StdRng,
    epoch: Epoch,
    /// The bytes of each epoch's delta.
    deltas: Vec<u64>,
    _dir: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(memory_directory()).unwrap();
        let identity = Identity {
            name: "sizes".into(),
            fingerprint: Fingerprint::new(),
        };
        let mut checkpoint = Checkpoint::open(dir.path(), &identity).unwrap();
        let policy = FoldPolicy {
            min_bytes: 0,
            ..FoldPolicy::default()
        };
        checkpoint
            .fold_in_background(Arc::new(fold_rows), policy)
            .unwrap();
        let recorder = Recorder::new();
        Self {
            table: Table::new(TableKind::AppendOnly, info(), recorder.clone(), None).unwrap(),
            checkpoint,
            recorder,
            rng: StdRng::seed_from_u64(5),
            epoch: 0,
            deltas: vec![],
            _dir: dir,
        }
    }

    /// An epoch in which so many of the keys below `below` get a value.
    fn step(&mut self, mut count: usize, below: u64, retained: u64) {
        let epoch = self.epoch;
        let entry = OffsetEntry {
            epoch,
            watermark: 0,
            previous_watermark: 0,
            timestamp_us: 0,
            partitions: vec![],
            sources: vec![],
            no_data: false,
        };
        self.checkpoint.log_offsets(&[entry]).unwrap();
        let mut changes = self.table.changes();
        for key in 0..below {
            // Each set of as many keys is as likely as any other.
            if self.rng.random_range(0..below - key) < count as u64 {
                count -= 1;
                let value: [u8; 12] = self.rng.random();
                changes.push(&(key * 7919).to_be_bytes(), None, Some(&value), NEVER);
            }
        }
        self.table.apply(Time::new(epoch, 0), &changes).unwrap();
        let mut writer = StateFileWriter::create(self.checkpoint.state_dir(), 0, 1).unwrap();
        for batch in self.recorder.take(epoch) {
            let mut bytes = vec![];
            batch.encode(&mut bytes);
            writer.section(0, 0, &bytes).unwrap();
        }
        let file = writer.finish(FileKind::Delta, epoch, epoch).unwrap();
        self.deltas.push(file.bytes);
        let commit = CommitEntry {
            first: epoch,
            last: epoch,
            workers: 1,
            ..CommitEntry::default()
        };
        self.checkpoint.commit(&commit, &[file]).unwrap();
        let done = self.checkpoint.maintain(retained).unwrap();
        assert!(done.fold_failures.is_empty(), "{:?}", done.fold_failures);
        self.epoch += 1;
    }

    /// The bytes of the files that the manifest names.
    fn bytes(&self) -> u64 {
        let files = self.checkpoint.logs().unwrap().manifest;
        files.files().iter().map(|file| file.bytes).sum()
    }

    /// The bytes of all files, those included that a fold has made since.
    fn bytes_with_folds(&mut self) -> u64 {
        self.checkpoint.wait_for_folds();
        let files = self.checkpoint.state_dir().list().unwrap();
        files.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The bytes of a snapshot, made for nothing but to be measured.
    fn live(&self) -> u64 {
        let plan = self.checkpoint.restore_plan(self.epoch - 1).unwrap();
        let files = StateFiles::open(self.checkpoint.state_dir(), plan.files_of(0, 1)).unwrap();
        let mut bytes = vec![];
        let sections = Sections::open(files.sections(0, 0).unwrap()).unwrap();
        sections.fold(NO_WATERMARK, &mut bytes).unwrap();
        (bytes.len() + HEADER_LEN) as u64
    }
}

/// Retains so many epochs, in each of which so many of the keys below `below` change, and gives in times
/// of a snapshot: the greatest size of the checkpoint after an epoch, the greatest one with what a
/// fold has made beside it, the largest delta, and the state as progress reports it.
fn sizes(retained: u64, changed: usize, below: u64) -> [f64; 4] {
    let mut run = Run::new();
    run.step(KEYS as usize, KEYS, retained);
    let live = run.live() as f64;
    let (mut settled, mut folding) = (0, 0);
    for epoch in 0..300 {
        run.step(changed, below, retained);
        let bytes = run.bytes();
        let with_folds = run.bytes_with_folds();
        // The epoch that made all keys is retained at first, too.
        if epoch > retained * 9 / 8 {
            settled = settled.max(bytes);
            folding = folding.max(with_folds);
        }
    }
    let delta = run.deltas.iter().skip(1).max().copied().unwrap_or_default();
    [settled, folding, delta, run.table.size().bytes].map(|bytes| bytes as f64 / live)
}

#[test]
fn a_checkpoint_is_little_larger_than_its_state_and_what_changed_in_the_retained_epochs() {
    for (retained, changed, below) in [
        (1, 30, KEYS),
        (1, 750, KEYS),
        (5, 750, KEYS),
        (100, 30, KEYS),
        (100, 30, 30),
    ] {
        let [settled, folding, delta, reported] = sizes(retained, changed, below);
        let case = format!(
            "{retained} retained, {changed} of {below} change: {settled:.2}, {folding:.2} with folds, a delta {delta:.4}, reported {reported:.2}"
        );
        println!("{case}");
        // Deltas of the base weigh a quarter of it before it is folded, and two come meanwhile.
        let bound = 1.25 + (retained + retained / 8 + 2) as f64 * delta;
        assert!(
            settled < bound && folding < bound + 1.05,
            "{bound:.2}: {case}"
        );
        assert!(folding < 2.5 * reported, "{case}");
        let little = (retained as f64) * delta < 0.2;
        assert!(!little || folding < 2.5, "{case}");
    }
}
