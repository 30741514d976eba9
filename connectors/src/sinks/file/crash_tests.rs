//! The file sink on a file system that dies at its n-th operation.
//!
//! A run of several epochs is stopped at each operation in turn, which then did not happen, or did
//! happen and reported an error all the same. What is left is read as it lies, then the query
//! starts again, is stopped once more, and must end with the result of the run that nothing
//! disturbed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::FileSink;
use super::crash_storage::{Crashing, Loss, Outcome};
use super::manifest::{self, MANIFEST_DIR};
use super::storage::Storage;
use crate::{Options, Output, OutputMode, Result, Sink, SinkConfig};

const ROOT: &str = "/data/out";
const EPOCHS: u64 = 4;

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

fn sink(storage: &Crashing, mode: OutputMode) -> Result<FileSink> {
    let config = SinkConfig {
        query_name: "q".into(),
        query_id: "1a2b3c4d".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("k", DataType::Utf8, true),
            Field::new("n", DataType::Int32, true),
        ])),
        mode,
        key: None,
    };
    let options: Options = [("path", ROOT), ("format", "json"), ("partitionBy", "k")]
        .into_iter()
        .collect();
    let mut sink = FileSink::on(Arc::new(storage.clone()), &options, config)?;
    sink.committer.set_fanout(2);
    Ok(sink)
}

/// A query: goes on behind what the sink holds. Says in `done` what it was told is committed.
fn drive(storage: &Crashing, mode: OutputMode, how: Run, done: &mut Option<u64>) -> Result<()> {
    let mut sink = sink(storage, mode)?;
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
fn read_rows(storage: &Crashing, files: &[PathBuf]) -> Vec<String> {
    let mut all = Vec::new();
    for file in files {
        let dir = file
            .parent()
            .and_then(|dir| dir.file_name())
            .unwrap()
            .to_str()
            .unwrap();
        let text = String::from_utf8(storage.read(file).unwrap()).unwrap();
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
fn committed(storage: &Crashing) -> (Vec<PathBuf>, Option<u64>) {
    let runs = manifest::committed_runs(storage, Path::new(ROOT))
        .unwrap()
        .unwrap_or_default();
    let files = runs.iter().flat_map(|run| &run.files);
    let files = files.map(|file| Path::new(ROOT).join(&file.path)).collect();
    (files, runs.last().map(|run| run.last))
}

/// Every data file that a listing of the directories shows.
fn listed(storage: &Crashing) -> Vec<PathBuf> {
    let world = storage.world();
    let manifest = Path::new(ROOT).join(MANIFEST_DIR);
    world
        .now
        .files
        .keys()
        .filter(|path| !path.starts_with(&manifest))
        .cloned()
        .collect()
}

/// What lies there is a whole number of epochs, and none that was committed is missing.
fn check_prefix(storage: &Crashing, mode: OutputMode, done: Option<u64>, place: &str) {
    let (files, newest) = committed(storage);
    assert!(
        newest >= done,
        "{place}: {done:?} was committed, {newest:?} is there"
    );
    assert_eq!(
        read_rows(storage, &files),
        expected(mode, newest),
        "{place}"
    );
    read_rows(storage, &listed(storage));
}

fn check_end(storage: &Crashing, mode: OutputMode, place: &str) {
    let (files, newest) = committed(storage);
    assert_eq!(newest, Some(EPOCHS - 1), "{place}");
    let all = expected(mode, newest);
    assert_eq!(read_rows(storage, &files), all, "{place}");
    assert_eq!(
        read_rows(storage, &listed(storage)),
        all,
        "{place}: by name"
    );
    let tmp = Path::new(ROOT).join(MANIFEST_DIR).join(manifest::TMP);
    assert_eq!(storage.list(&tmp).unwrap(), Vec::<String>::new(), "{place}");
}

fn operations(mode: OutputMode) -> usize {
    let storage = Crashing::new();
    drive(&storage, mode, Run::TwoWorkers, &mut None).unwrap();
    let operations = storage.world().operations;
    check_end(&storage, mode, "undisturbed");
    // What is there is durable too, but for the removal of what no longer counts.
    storage.world().restart(Loss::Unsynced);
    check_prefix(&storage, mode, Some(EPOCHS - 1), "after the end");
    operations
}

fn crash_everywhere(mode: OutputMode) {
    for at in 1..=operations(mode) {
        for outcome in [Outcome::DidNotHappen, Outcome::MayHaveHappened] {
            for loss in [Loss::Process, Loss::Unsynced, Loss::Some] {
                let place = format!("{mode}, operation {at}, {outcome:?}, {loss:?}");
                let storage = Crashing::stopping(at, outcome);
                let mut done = None;
                assert!(
                    drive(&storage, mode, Run::TwoWorkers, &mut done).is_err(),
                    "{place}"
                );
                storage.world().restart(loss);
                check_prefix(&storage, mode, done, &place);
                // The repair is disturbed as well, somewhere.
                storage.stop(at % 13 + 1, outcome);
                let mut again = done;
                let _ = drive(&storage, mode, Run::OneWorker, &mut again);
                storage.world().restart(loss);
                check_prefix(&storage, mode, again, &place);
                drive(&storage, mode, Run::OneWorker, &mut done)
                    .unwrap_or_else(|e| panic!("{place}: {e}"));
                check_end(&storage, mode, &place);
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
                let place = format!("{mode}, operation {at}, {outcome:?}");
                let storage = Crashing::stopping(at, outcome);
                storage.world().dies = false;
                let mut done = None;
                if drive(&storage, mode, Run::Retrying, &mut done).is_err() {
                    // Not a commit that failed: the query starts again.
                    check_prefix(&storage, mode, done, &place);
                    drive(&storage, mode, Run::Retrying, &mut done).unwrap();
                }
                check_prefix(&storage, mode, Some(EPOCHS - 1), &place);
            }
        }
    }
}

#[test]
fn a_full_disk_and_a_closed_directory_say_so() {
    for (kind, remedy) in [
        (io::ErrorKind::StorageFull, "free some space"),
        (io::ErrorKind::PermissionDenied, "check the permissions"),
    ] {
        for at in 1..=operations(OutputMode::Append) {
            let storage = Crashing::stopping(at, Outcome::DidNotHappen);
            storage.world().error = Some(kind);
            storage.world().dies = false;
            let Err(error) = drive(&storage, OutputMode::Append, Run::TwoWorkers, &mut None) else {
                // Only what lies above the directory may be closed to us.
                assert_eq!(kind, io::ErrorKind::PermissionDenied, "{at}");
                continue;
            };
            let error = error.to_string();
            assert!(
                error.contains(remedy) && error.contains("/data"),
                "{at}: {error}"
            );
        }
    }
}
