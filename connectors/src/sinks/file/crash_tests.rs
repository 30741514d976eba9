//! The file sink on a file system that dies at its n-th operation.
//!
//! A run of several epochs is stopped at each operation in turn, which then did not happen, or did
//! happen and reported an error all the same. What is left is read as it lies, then the query
//! starts again, is stopped once more, and must end with the result of the run that nothing
//! disturbed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use arrow::array::{Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::FileSink;
use super::manifest::{self, MANIFEST_DIR};
use crate::storage::Disk;
use crate::storage::crash::{CrashStorage, Loss, Outcome, Then, memory_directory};
use crate::{Options, Output, OutputMode, Result, Sink, SinkConfig};

const EPOCHS: u64 = 4;

/// A directory on a storage that stops.
struct Place {
    dir: tempfile::TempDir,
    storage: CrashStorage,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(memory_directory()).unwrap();
        let storage = CrashStorage::new(dir.path());
        Self { dir, storage }
    }

    fn stopping(at: usize, outcome: Outcome, then: Then, error: io::ErrorKind) -> Self {
        let place = Self::new();
        place.storage.stop(at, outcome, then, error);
        place
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn restart(&self, loss: Loss) {
        self.storage.restart(loss).unwrap();
    }
}

/// How the query runs. Another number of workers gives an epoch's files other names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Run {
    OneWorker,
    TwoWorkers,
    /// Two workers; a commit that fails is tried once more.
    Retrying,
}

/// The rows that a worker has in an epoch: directory `k`, number `n`.
fn rows(epoch: u64, worker: usize) -> Vec<(String, i32)> {
    let number = |row: i32| epoch as i32 * 100 + worker as i32 * 10 + row;
    match (epoch, worker) {
        // An epoch without rows, and a worker without any.
        (2, _) | (3, 1) => Vec::new(),
        _ => vec![("a".into(), number(0)), (format!("e{epoch}"), number(1))],
    }
}

fn sink(place: &Place, mode: OutputMode) -> Result<FileSink> {
    let config = SinkConfig {
        query_name: "q".into(),
        query_id: "1a2b3c4d".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("k", DataType::Utf8, true),
            Field::new("n", DataType::Int32, true),
        ])),
        mode,
        key: None,
        storage: Arc::new(place.storage.clone()),
        continuous: false,
    };
    let root = place.root().display().to_string();
    let options: Options = [
        ("path", root.as_str()),
        ("format", "json"),
        ("partitionBy", "k"),
    ]
    .into_iter()
    .collect();
    let mut sink = FileSink::open(&options, config)?;
    sink.committer.set_fanout(2);
    Ok(sink)
}

/// A query: goes on behind what the sink holds. Says in `done` what it was told is committed.
fn drive(place: &Place, mode: OutputMode, how: Run, done: &mut Option<u64>) -> Result<()> {
    let mut sink = sink(place, mode)?;
    let first = sink.last_committed()?.map_or(0, |newest| newest + 1);
    sink.discard_uncommitted()?;
    let workers = if how == Run::OneWorker { 1 } else { 2 };
    let mut writers = (0..workers)
        .map(|worker| sink.writer(worker))
        .collect::<Result<Vec<_>>>()?;
    for epoch in first..EPOCHS {
        let mut staged = Vec::new();
        for (worker, writer) in writers.iter_mut().enumerate() {
            let rows = match how {
                Run::OneWorker => [rows(epoch, 0), rows(epoch, 1)].concat(),
                _ => rows(epoch, worker),
            };
            let columns = vec![
                Arc::new(rows.iter().map(|row| Some(&row.0)).collect::<StringArray>()) as _,
                Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int32Array>()) as _,
            ];
            let schema = Arc::new(Schema::new(vec![
                Field::new("k", DataType::Utf8, true),
                Field::new("n", DataType::Int32, true),
            ]));
            let batch = RecordBatch::try_new(schema, columns).unwrap();
            let changes = matches!(mode, OutputMode::Update | OutputMode::Changelog)
                .then(|| vec![crate::ChangeType::Insert; rows.len()]);
            writer.write(epoch, &Output { batch, changes })?;
            staged.push(writer.stage(epoch)?);
        }
        let committed = sink.commit(epoch, &staged);
        if committed.is_err() && how == Run::Retrying {
            sink.commit(epoch, &staged)?;
        } else {
            committed?;
        }
        *done = Some(epoch);
    }
    Ok(())
}

/// The rows of these files, as `directory number`, sorted.
fn read_rows(files: &[PathBuf]) -> Vec<String> {
    let mut all = Vec::new();
    for file in files {
        let dir = file
            .parent()
            .and_then(|dir| dir.file_name())
            .unwrap()
            .to_str()
            .unwrap();
        let text = String::from_utf8(fs::read(file).unwrap()).unwrap();
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).expect("a file is whole");
            all.push(format!("{dir} {}", row["n"]));
        }
    }
    all.sort();
    all
}

/// What the result is when `newest` is the newest epoch.
fn expected(mode: OutputMode, newest: Option<u64>) -> Vec<String> {
    let Some(newest) = newest else {
        return Vec::new();
    };
    let first = if mode == OutputMode::Complete {
        newest
    } else {
        0
    };
    let mut all: Vec<_> = (first..=newest)
        .flat_map(|epoch| [rows(epoch, 0), rows(epoch, 1)].concat())
        .map(|(k, n)| format!("k={k} {n}"))
        .collect();
    all.sort();
    all
}

/// The committed files, and the newest epoch.
fn committed(place: &Place) -> (Vec<PathBuf>, Option<u64>) {
    let runs = manifest::committed_runs(&Disk, &place.root())
        .unwrap()
        .unwrap_or_default();
    let files = runs.iter().flat_map(|run| &run.files);
    let files = files.map(|file| place.root().join(&file.path)).collect();
    (files, runs.last().map(|run| run.last))
}

/// Every data file that a listing of the directories shows.
fn listed(place: &Place) -> Vec<PathBuf> {
    fn add(dir: &Path, all: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_file() {
                all.push(entry.path());
            } else if entry.file_name() != MANIFEST_DIR {
                add(&entry.path(), all);
            }
        }
    }
    let mut all = Vec::new();
    add(&place.root(), &mut all);
    all
}

/// What lies there is a whole number of epochs, and none that was committed is missing.
fn check_prefix(place: &Place, mode: OutputMode, done: Option<u64>, when: &str) {
    let (files, newest) = committed(place);
    assert!(
        newest >= done,
        "{when}: {done:?} was committed, {newest:?} is there"
    );
    assert_eq!(read_rows(&files), expected(mode, newest), "{when}");
    read_rows(&listed(place));
}

fn check_end(place: &Place, mode: OutputMode, when: &str) {
    let (files, newest) = committed(place);
    assert_eq!(newest, Some(EPOCHS - 1), "{when}");
    let all = expected(mode, newest);
    assert_eq!(read_rows(&files), all, "{when}");
    assert_eq!(read_rows(&listed(place)), all, "{when}: by name");
    let tmp = place.root().join(MANIFEST_DIR).join(manifest::TMP);
    assert_eq!(fs::read_dir(tmp).unwrap().count(), 0, "{when}");
}

fn operations(mode: OutputMode) -> usize {
    let place = Place::new();
    drive(&place, mode, Run::TwoWorkers, &mut None).unwrap();
    let operations = place.storage.operations();
    check_end(&place, mode, "undisturbed");
    // What is there is durable too, but for the removal of what no longer counts.
    place.restart(Loss::Unsynced);
    check_prefix(&place, mode, Some(EPOCHS - 1), "after the end");
    operations
}

fn crash_everywhere(mode: OutputMode) {
    for at in 1..=operations(mode) {
        for outcome in [Outcome::DidNotHappen, Outcome::MayHaveHappened] {
            for loss in [Loss::Process, Loss::Unsynced, Loss::Some, Loss::Bytes] {
                let when = format!("{mode}, operation {at}, {outcome:?}, {loss:?}");
                let place = Place::stopping(at, outcome, Then::Dies, io::ErrorKind::Other);
                let mut done = None;
                let _ = drive(&place, mode, Run::TwoWorkers, &mut done);
                assert!(place.storage.stopped().is_some(), "{when}");
                place.restart(loss);
                check_prefix(&place, mode, done, &when);
                // The repair is disturbed as well, somewhere.
                let again_at = at % 13 + 1;
                place
                    .storage
                    .stop(again_at, outcome, Then::Dies, io::ErrorKind::Other);
                let mut again = done;
                let _ = drive(&place, mode, Run::OneWorker, &mut again);
                place.restart(loss);
                check_prefix(&place, mode, again, &when);
                drive(&place, mode, Run::OneWorker, &mut done)
                    .unwrap_or_else(|e| panic!("{when}: {e}"));
                check_end(&place, mode, &when);
            }
        }
    }
}

#[test]
fn a_crash_at_any_operation_loses_and_repeats_nothing_in_append_mode() {
    crash_everywhere(OutputMode::Append);
}

#[test]
fn a_crash_at_any_operation_loses_and_repeats_nothing_in_complete_mode() {
    crash_everywhere(OutputMode::Complete);
}

#[test]
fn a_commit_that_failed_can_be_tried_again() {
    for mode in [OutputMode::Append, OutputMode::Complete] {
        for at in 1..=operations(mode) {
            for outcome in [Outcome::DidNotHappen, Outcome::MayHaveHappened] {
                let when = format!("{mode}, operation {at}, {outcome:?}");
                let place = Place::stopping(at, outcome, Then::GoesOn, io::ErrorKind::Other);
                let mut done = None;
                if drive(&place, mode, Run::Retrying, &mut done).is_err() {
                    // Not a commit that failed: the query starts again.
                    check_prefix(&place, mode, done, &when);
                    drive(&place, mode, Run::Retrying, &mut done).unwrap();
                }
                check_prefix(&place, mode, Some(EPOCHS - 1), &when);
            }
        }
    }
}

#[test]
fn a_full_disk_and_a_closed_directory_say_so() {
    for (kind, remedy) in [
        (io::ErrorKind::StorageFull, "free some space"),
        (io::ErrorKind::PermissionDenied, "check the permissions"),
        (io::ErrorKind::ReadOnlyFilesystem, "is read-only"),
    ] {
        for at in 1..=operations(OutputMode::Append) {
            let place = Place::stopping(at, Outcome::DidNotHappen, Then::GoesOn, kind);
            let done = drive(&place, OutputMode::Append, Run::TwoWorkers, &mut None);
            let stopped = place.storage.stopped();
            let Err(error) = done else {
                // Only what lies above the directory may be closed to us.
                assert_eq!(kind, io::ErrorKind::PermissionDenied, "{at}: {stopped:?}");
                continue;
            };
            let error = error.to_string();
            let root = place.dir.path().display().to_string();
            assert!(
                error.contains(remedy) && error.contains(&root),
                "{stopped:?}: {error}"
            );
        }
    }
}
