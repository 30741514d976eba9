use std::{fs, io};

use serde_json::json;
use tidemark_connectors::storage::crash::{
    CrashStorage, Loss, Outcome as Effect, Then, memory_directory,
};

use super::*;
use crate::checkpoint::database::DATABASE;
use crate::checkpoint::fold::tests::concatenated;
use crate::checkpoint::{
    FORMAT_VERSION, Fingerprint, Holder, SourceRange, StateFileReader, StateFileWriter,
};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(memory_directory()).unwrap()
}

fn identity() -> Identity {
    Identity {
        name: "counts".into(),
        fingerprint: Fingerprint::new()
            .with("source 0", "file in/")
            .with("operator 2", "aggregate by user: count(*)"),
    }
}

fn entry(epoch: Epoch) -> OffsetEntry {
    OffsetEntry {
        epoch,
        watermark: epoch as i64 * 1_000_000,
        previous_watermark: (epoch as i64 - 1).max(0) * 1_000_000,
        timestamp_us: 5,
        partitions: Vec::new(),
        sources: vec![
            SourceRange {
                range: Some(range(epoch)),
            },
            SourceRange::default(),
        ],
        no_data: false,
    }
}

fn range(epoch: Epoch) -> PlannedRange {
    PlannedRange {
        start: json!(epoch),
        end: json!({ "file": epoch + 1 }),
        splits: Vec::new(),
    }
}

fn written(checkpoint: &Checkpoint, worker: usize, workers: usize, epoch: Epoch) -> StateFile {
    let mut writer = StateFileWriter::create(checkpoint.state_dir(), worker, workers).unwrap();
    writer
        .section(2, 0, format!("{epoch};").as_bytes())
        .unwrap();
    writer.finish(FileKind::Delta, epoch, epoch).unwrap()
}

fn commit_entry(epoch: Epoch, workers: usize) -> CommitEntry {
    CommitEntry {
        first: epoch,
        last: epoch,
        workers,
        watermark: epoch as i64 * 1_000_000,
        output_rows: 1,
        ..CommitEntry::default()
    }
}

fn advance(checkpoint: &mut Checkpoint, epoch: Epoch, workers: usize) {
    checkpoint.log_offsets(&[entry(epoch)]).unwrap();
    let files: Vec<_> = (0..workers)
        .map(|w| written(checkpoint, w, workers, epoch))
        .collect();
    checkpoint
        .commit(&commit_entry(epoch, workers), &files)
        .unwrap();
}

fn said<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("the test expects an error").to_string()
}

#[test]
fn a_checkpoint_comes_back_as_it_was_left() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    let query = checkpoint.query_id();
    advance(&mut checkpoint, 0, 2);
    advance(&mut checkpoint, 1, 2);
    checkpoint.log_offsets(&[entry(2)]).unwrap();
    let logs = checkpoint.logs().unwrap();
    drop(checkpoint);
    let checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    assert_eq!(checkpoint.query_id(), query);
    assert_eq!(checkpoint.logs().unwrap().groups, logs.groups);
    assert_eq!(checkpoint.logs().unwrap().commits, logs.commits);
    assert_eq!(checkpoint.logs().unwrap().present, logs.present);
    assert_eq!(
        checkpoint.source_log(0).unwrap(),
        [range(0), range(1), range(2)]
    );
    assert!(checkpoint.source_log(1).unwrap().is_empty());
    assert_eq!(checkpoint.restore_plan(1).unwrap().files.len(), 4);
    assert_eq!(checkpoint.restore_plan(0).unwrap().files.len(), 2);
    assert!(said(checkpoint.restore_plan(2)).contains("from epoch 0 to 1"));
    assert!(checkpoint.size_on_disk().unwrap() > logs.present.values().sum());
}

#[test]
fn another_query_is_refused_and_the_difference_is_named() {
    let dir = directory();
    drop(Checkpoint::open(dir.path(), &identity()).unwrap());
    let other = Identity {
        name: "other".into(),
        fingerprint: Fingerprint::new()
            .with("source 0", "file in/")
            .with("operator 2", "aggregate by page: count(*)"),
    };
    let text = said(Checkpoint::open(dir.path(), &other));
    assert!(text.contains("another query ('counts')"), "{text}");
    assert!(
        text.contains(
            "operator 2 was 'aggregate by user: count(*)' and is now 'aggregate by page: count(*)'"
        ),
        "{text}"
    );
}

#[test]
fn another_name_is_no_other_query() {
    let dir = directory();
    drop(Checkpoint::open(dir.path(), &identity()).unwrap());
    let renamed = Identity {
        name: "renamed".into(),
        ..identity()
    };
    drop(Checkpoint::open(dir.path(), &renamed).unwrap());
    assert_eq!(Checkpoint::inspect(dir.path()).unwrap().name, "renamed");
}

#[test]
fn a_directory_that_holds_something_else_is_refused_and_left_alone() {
    let dir = directory();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let text = said(Checkpoint::open(dir.path(), &identity()));
    assert!(text.contains("it holds 'notes.txt'"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_checkpoint_whose_database_is_gone_is_not_taken_for_a_new_one() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    advance(&mut checkpoint, 0, 1);
    drop(checkpoint);
    let database = dir.path().join(DATABASE);
    fs::write(&database, "").unwrap();
    let text = said(Checkpoint::open(dir.path(), &identity()));
    assert!(
        text.contains("it is empty, and there are state files"),
        "{text}"
    );
    fs::remove_file(&database).unwrap();
    let text = said(Checkpoint::open(dir.path(), &identity()));
    assert!(text.contains("it holds 'state/delta-0000000000"), "{text}");
    assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 1);
}

#[test]
fn a_path_that_is_a_file_is_refused() {
    let dir = directory();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let text = said(Checkpoint::open(&path, &identity()));
    assert!(text.contains("must name a directory"), "{text}");
}

#[test]
fn a_database_that_is_none_or_not_ours_or_newer_is_refused() {
    let dir = directory();
    let path = dir.path().join(DATABASE);
    fs::write(
        &path,
        "this is no database, however long it may be said to be",
    )
    .unwrap();
    assert!(said(Checkpoint::open(dir.path(), &identity())).contains("not a database"));
    fs::remove_file(&path).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE t (a)").unwrap();
    let text = said(Checkpoint::open(dir.path(), &identity()));
    assert!(text.contains("not a database of Tidemark's"), "{text}");
    drop(foreign);
    fs::remove_file(&path).unwrap();
    drop(Checkpoint::open(dir.path(), &identity()).unwrap());
    for (version, wanted) in [
        (
            FORMAT_VERSION + 1,
            "has format version 3, and this Tidemark reads versions up to 2; use a newer Tidemark",
        ),
        (
            FORMAT_VERSION - 1,
            "has format version 1, and this Tidemark reads version 2; go on with the Tidemark that wrote it",
        ),
    ] {
        let other = rusqlite::Connection::open(&path).unwrap();
        other.pragma_update(None, "user_version", version).unwrap();
        drop(other);
        for text in [
            said(Checkpoint::open(dir.path(), &identity())),
            said(Checkpoint::inspect(dir.path())),
        ] {
            assert!(text.contains(wanted), "{text}");
        }
    }
}

#[test]
fn a_checkpoint_in_use_is_refused() {
    let dir = directory();
    let _held = Checkpoint::open(dir.path(), &identity()).unwrap();
    let text = said(Checkpoint::open(dir.path(), &identity()));
    assert!(text.contains("in use by"), "{text}");
}

#[test]
fn a_flipped_bit_in_a_log_is_noticed() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    advance(&mut checkpoint, 0, 1);
    drop(checkpoint);
    for (table, column) in [
        ("offsets", "entry"),
        ("commits", "entry"),
        ("source_log", "range"),
    ] {
        let db = rusqlite::Connection::open(dir.path().join(DATABASE)).unwrap();
        let swap = |from: &str, to: &str| {
            let sql = format!("UPDATE {table} SET {column} = replace({column}, '{from}', '{to}')");
            assert_eq!(db.execute(&sql, []).unwrap(), 1, "{table}");
        };
        swap(":0", ":9");
        let read = Checkpoint::open(dir.path(), &identity())
            .and_then(|checkpoint| checkpoint.source_log(0));
        assert!(said(read).contains("checksum"), "{table}");
        swap(":9", ":0");
    }
    Checkpoint::open(dir.path(), &identity()).unwrap();
}

#[test]
fn steps_out_of_order_are_refused_and_change_nothing() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    assert!(said(checkpoint.log_offsets(&[entry(1)])).contains("epoch 0 is next"));
    assert!(said(checkpoint.log_offsets(&[entry(0), entry(2)])).contains("epoch 1 is next"));
    let back = OffsetEntry {
        watermark: -9,
        ..entry(1)
    };
    assert!(said(checkpoint.log_offsets(&[entry(0), back])).contains("goes back"));
    assert!(said(checkpoint.commit(&commit_entry(0, 1), &[])).contains("not logged"));
    checkpoint.log_offsets(&[entry(0), entry(1)]).unwrap();
    assert!(said(checkpoint.commit(&commit_entry(0, 1), &[])).contains("whole groups"));
    assert!(said(checkpoint.commit(&commit_entry(1, 1), &[])).contains("epoch 0 is next"));
    let group = CommitEntry {
        last: 1,
        ..commit_entry(0, 1)
    };
    let narrow = written(&checkpoint, 0, 1, 0);
    assert!(said(checkpoint.commit(&group, &[narrow])).contains("is not of the epochs 0 to 1"));
    let mut writer = StateFileWriter::create(checkpoint.state_dir(), 0, 1).unwrap();
    writer.section(2, 0, b"x").unwrap();
    let file = writer.finish(FileKind::Delta, 0, 1).unwrap();
    let twice = [file.clone(), file.clone()];
    assert!(said(checkpoint.commit(&group, &twice)).contains("two state files"));
    checkpoint.commit(&group, &[file]).unwrap();
    assert_eq!(checkpoint.last_commit().unwrap().last, 1);
}

#[test]
fn the_first_commit_after_a_rescale_must_be_whole() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    advance(&mut checkpoint, 0, 2);
    checkpoint.log_offsets(&[entry(1)]).unwrap();
    let delta = written(&checkpoint, 0, 1, 1);
    let text = said(checkpoint.commit(&commit_entry(1, 1), &[delta]));
    assert!(
        text.contains("must be a snapshot from each worker"),
        "{text}"
    );
    let writer = StateFileWriter::create(checkpoint.state_dir(), 0, 1).unwrap();
    let snapshot = writer.finish(FileKind::Snapshot, 1, 1).unwrap();
    checkpoint
        .commit(&commit_entry(1, 1), std::slice::from_ref(&snapshot))
        .unwrap();
    assert_eq!(checkpoint.restore_plan(1).unwrap().files, [snapshot]);
    assert_eq!(checkpoint.restore_plan(0).unwrap().workers, 2);
}

#[test]
fn a_stateless_query_may_change_its_workers_freely() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    for (epoch, workers) in [(0, 2), (1, 4), (2, 1)] {
        checkpoint.log_offsets(&[entry(epoch)]).unwrap();
        checkpoint
            .commit(&commit_entry(epoch, workers), &[])
            .unwrap();
    }
    assert!(!checkpoint.restore_plan(2).unwrap().must_split(3));
}

#[test]
fn the_source_log_forgets_only_what_it_is_told_to() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    checkpoint.log_offsets(&[entry(0)]).unwrap();
    assert_eq!(checkpoint.trim_source_log(0, 1, false).unwrap(), 0);
    assert_eq!(
        checkpoint.source_log(0).unwrap().len(),
        1,
        "nothing is committed yet"
    );
    checkpoint.commit(&commit_entry(0, 1), &[]).unwrap();
    for epoch in 1..6 {
        advance(&mut checkpoint, epoch, 1);
    }
    checkpoint.log_offsets(&[entry(6)]).unwrap();
    checkpoint.purge(1).unwrap();
    assert_eq!(
        checkpoint.source_log(0).unwrap().len(),
        7,
        "purging is not trimming"
    );
    assert_eq!(checkpoint.trim_source_log(0, 2, false).unwrap(), 2);
    assert_eq!(checkpoint.source_log(0).unwrap()[0], range(2));
    checkpoint.trim_source_log(0, 99, false).unwrap();
    assert_eq!(
        checkpoint.source_log(0).unwrap(),
        [range(6)],
        "an open epoch's range stays"
    );
}

#[test]
fn purging_keeps_the_retained_epochs_restorable() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    let fold: Fold = Arc::new(concatenated);
    checkpoint
        .fold_in_background(
            fold,
            FoldPolicy {
                min_bytes: 0,
                min_deltas: 2,
                max_deltas: 4,
            },
        )
        .unwrap();
    for epoch in 0..30 {
        advance(&mut checkpoint, epoch, 1);
        let done = checkpoint.maintain(5).unwrap();
        assert!(done.fold_failures.is_empty(), "{:?}", done.fold_failures);
        checkpoint.wait_for_folds();
        let present: Vec<_> = checkpoint.state.list().unwrap();
        for kept in epoch.saturating_sub(4)..=epoch {
            let plan = checkpoint.restore_plan(kept).unwrap();
            let mut state = String::new();
            for file in plan.files_of(0, 1) {
                let reader = StateFileReader::open(checkpoint.state_dir(), file).unwrap();
                for section in reader.sections() {
                    let section = reader.read(section).unwrap();
                    state.push_str(&io::read_to_string(section).unwrap());
                }
            }
            let expected: Vec<String> = (0..=kept).map(|epoch| format!("{epoch};")).collect();
            assert_eq!(state, expected.concat(), "epoch {kept} after {epoch}");
        }
        assert!(present.len() <= 14, "{present:?}");
    }
    let logs = checkpoint.logs().unwrap();
    assert_eq!((logs.commits.len(), logs.groups.len()), (5, 5));
}

#[test]
fn what_was_folded_at_the_end_of_a_run_is_there_in_the_next() {
    let dir = directory();
    let fold: Fold = Arc::new(concatenated);
    let policy = FoldPolicy {
        min_bytes: 0,
        min_deltas: 2,
        max_deltas: 4,
    };
    // One epoch a run, as of a query that something starts every hour.
    for epoch in 0..40 {
        let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
        checkpoint.recover(None).unwrap();
        checkpoint
            .fold_in_background(Arc::clone(&fold), policy)
            .unwrap();
        advance(&mut checkpoint, epoch, 1);
        checkpoint.maintain(1).unwrap();
        checkpoint.finish_folds().unwrap();
    }
    let shown = Checkpoint::inspect(dir.path()).unwrap();
    assert!(shown.is_sound() && shown.orphans.is_empty(), "{shown}");
    assert!(shown.files.len() < 10, "{shown}");
}

#[test]
fn a_fold_that_fails_is_told_and_harms_nothing() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    let fold: Fold = Arc::new(|_, _, _| Err("no such codec".into()));
    checkpoint
        .fold_in_background(
            fold,
            FoldPolicy {
                min_bytes: 0,
                min_deltas: 2,
                max_deltas: 4,
            },
        )
        .unwrap();
    let mut failures = Vec::new();
    for epoch in 0..10 {
        advance(&mut checkpoint, epoch, 1);
        failures.extend(checkpoint.maintain(100).unwrap().fold_failures);
        checkpoint.wait_for_folds();
    }
    assert_eq!(failures.len(), 1, "it is not tried again at once");
    let text = failures[0].to_string();
    assert!(
        text.contains("operator 2, trace 0") && text.contains("no such codec"),
        "{text}"
    );
    assert_eq!(checkpoint.restore_plan(9).unwrap().files.len(), 10);
}

#[test]
fn a_fold_that_panics_ends_the_folding_and_not_the_query() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    let fold: Fold = Arc::new(|_, _, _| panic!("the test's fold panics"));
    let policy = FoldPolicy {
        min_bytes: 0,
        min_deltas: 2,
        max_deltas: 4,
    };
    checkpoint.fold_in_background(fold, policy).unwrap();
    let mut failures = Vec::new();
    for epoch in 0..10 {
        advance(&mut checkpoint, epoch, 1);
        failures.extend(checkpoint.maintain(100).unwrap().fold_failures);
        checkpoint.wait_for_folds();
    }
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].to_string().contains("has ended"),
        "{}",
        failures[0]
    );
    assert_eq!(checkpoint.restore_plan(9).unwrap().files.len(), 10);
}

#[test]
fn a_full_disk_says_what_did_not_happen_and_the_query_can_go_on_later() {
    let dir = directory();
    let disk = CrashStorage::new(dir.path());
    let mut checkpoint =
        Checkpoint::open_with(dir.path(), &identity(), Arc::new(disk.clone())).unwrap();
    advance(&mut checkpoint, 0, 1);
    checkpoint.log_offsets(&[entry(1)]).unwrap();
    disk.fill(true);
    let error = StateFileWriter::create(checkpoint.state_dir(), 0, 1).unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::DidNotHappen));
    let text = error.to_string();
    assert!(
        text.contains("did not happen") && text.contains("free some space"),
        "{text}"
    );
    disk.fill(false);
    let file = written(&checkpoint, 0, 1, 1);
    checkpoint.commit(&commit_entry(1, 1), &[file]).unwrap();
}

#[test]
fn after_a_write_that_may_have_happened_nothing_more_is_written() {
    let dir = directory();
    let disk = CrashStorage::new(dir.path());
    let mut checkpoint =
        Checkpoint::open_with(dir.path(), &identity(), Arc::new(disk.clone())).unwrap();
    disk.stop(2, Effect::DidNotHappen, Then::Dies, io::ErrorKind::Other);
    let error = checkpoint.log_offsets(&[entry(0)]).unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::MayHaveHappened), "{error}");
    let text = said(checkpoint.log_offsets(&[entry(0)]));
    assert!(text.contains("start it again"), "{text}");
    drop(checkpoint);
    disk.restart(Loss::Process).unwrap();
    let checkpoint = Checkpoint::open_with(dir.path(), &identity(), Arc::new(disk)).unwrap();
    assert_eq!(checkpoint.logs().unwrap().last_logged(), Some(0));
}

#[test]
fn what_a_crash_left_in_state_is_removed_and_what_is_not_ours_stays() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    advance(&mut checkpoint, 0, 1);
    let kept = checkpoint.state.list().unwrap()[0].0.clone();
    let orphan = written(&checkpoint, 0, 1, 1);
    drop(checkpoint);
    for name in ["tmp-w0of1-7-7", "snapshot-0000000009-w0of1", "README"] {
        fs::write(dir.path().join("state").join(name), "x").unwrap();
    }
    let inspection = Checkpoint::inspect(dir.path()).unwrap();
    assert_eq!(inspection.orphans.len(), 3, "{:?}", inspection.orphans);
    let checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    let left: Vec<_> = checkpoint
        .state
        .list()
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(left, ["README", &kept]);
    assert!(!left.contains(&orphan.name));
}

#[test]
fn an_inspection_beside_a_running_query_tells_what_is_there_and_what_would_be_replayed() {
    let dir = directory();
    assert!(said(Checkpoint::inspect(dir.path())).contains("no checkpoint"));
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    advance(&mut checkpoint, 0, 2);
    checkpoint.log_offsets(&[entry(1)]).unwrap();
    let inspection = Checkpoint::inspect(dir.path()).unwrap();
    assert!(inspection.is_sound());
    assert_eq!(inspection.holder, Holder::Process(std::process::id()));
    let text = inspection.to_string();
    for expected in [
        "counts (",
        "operator 2: aggregate by user: count(*)",
        "committed up to epoch 0",
        "epoch 1   not committed, watermark 1970-01-01T00:00:01.000Z",
        "source 0: 1 to {\"file\":2}",
        ": worker 1 of 2",
        "replays epoch 1",
    ] {
        assert!(text.contains(expected), "'{expected}' in\n{text}");
    }
}

#[test]
fn an_inspection_names_the_damaged_file() {
    let dir = directory();
    let mut checkpoint = Checkpoint::open(dir.path(), &identity()).unwrap();
    advance(&mut checkpoint, 0, 1);
    let file = checkpoint.state.list().unwrap()[0].0.clone();
    drop(checkpoint);
    let path = dir.path().join("state").join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[33] ^= 1;
    fs::write(&path, bytes).unwrap();
    let inspection = Checkpoint::inspect(dir.path()).unwrap();
    assert!(!inspection.is_sound());
    let text = inspection.to_string();
    assert!(
        text.contains("operator 2, trace 0 does not have its checksum"),
        "{text}"
    );
}
