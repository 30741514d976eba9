//! The file sink on a file system that dies at its n-th operation.
//!
//! [`Crashing`] keeps what is there now apart from what is durable: bytes become durable by
//! syncing their file, names by syncing their directory, a rename all at once. A run of several
//! epochs is stopped at each operation in turn, which then did not happen, or did happen and
//! reported an error all the same (of a write: half of it). What is left is read as it lies, then
//! the query starts again and must end with the result of the run that nothing disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::{Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::FileSink;
use super::manifest::{self, MANIFEST_DIR};
use super::storage::{Storage, StorageFile};
use crate::{Options, Output, OutputMode, Result, Sink, SinkConfig};

const ROOT: &str = "/data/out";
const EPOCHS: u64 = 5;

/// What becomes of the operation at which the world stops.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    DidNotHappen,
    MayHaveHappened,
}

/// What a crash takes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    /// The process is killed: nothing.
    Process,
    /// The power fails: all that was not synced.
    Unsynced,
    /// The power fails: unsynced bytes, and every other name that was not synced.
    Some,
}

#[derive(Clone, Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
    Mkdir(PathBuf),
}

impl Change {
    fn touches(&self, dir: &Path) -> bool {
        let within = |path: &PathBuf| path.parent() == Some(dir);
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Mkdir(path) => within(path),
            Self::Rename(from, to, _) => within(from) || within(to),
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(path, inode) => {
                names.files.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.files.remove(path);
            }
            Self::Rename(from, to, inode) => {
                names.files.remove(from);
                names.files.insert(to.clone(), *inode);
            }
            Self::Mkdir(path) => {
                names.dirs.insert(path.clone());
            }
        }
    }
}

#[derive(Debug, Default)]
struct World {
    /// Bytes, and how many of them are durable.
    inodes: Vec<(Vec<u8>, usize)>,
    now: Names,
    durable: Names,
    unsynced: Vec<Change>,
    operations: usize,
    stop: Option<(usize, Outcome)>,
    /// After the stop, everything fails; otherwise only that one operation does.
    dies: bool,
    dead: bool,
    error: Option<io::ErrorKind>,
}

impl World {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    fn persist(&mut self, change: &Change) {
        change.apply(&mut self.durable);
        if let Change::Rename(from, ..) = change {
            // The name it had can no longer become durable.
            self.unsynced.retain(|other| !matches!(other, Change::Link(path, _) if path == from));
        }
    }

    fn sync_dir(&mut self, dir: &Path) {
        let all = std::mem::take(&mut self.unsynced);
        let (synced, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.touches(dir));
        self.unsynced = rest;
        for change in synced {
            self.persist(&change);
        }
    }

    fn restart(&mut self, loss: Loss) {
        (self.dead, self.stop, self.operations) = (false, None, 0);
        if loss == Loss::Process {
            return;
        }
        let unsynced = std::mem::take(&mut self.unsynced);
        if loss == Loss::Some {
            for change in unsynced.iter().skip(1).step_by(2) {
                self.persist(change);
            }
        }
        self.now = self.durable.clone();
        let dirs = self.now.dirs.clone();
        let whole = |path: &PathBuf| {
            path.ancestors().skip(1).all(|dir| dir == Path::new("/") || dirs.contains(dir))
        };
        self.now.files.retain(|path, _| whole(path));
        self.now.dirs.retain(whole);
        self.durable = self.now.clone();
        for (bytes, synced) in &mut self.inodes {
            bytes.truncate(*synced);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Crashing(Arc<Mutex<World>>);

impl Crashing {
    fn new() -> Self {
        let storage = Self::default();
        storage.world().now.dirs.insert("/data".into());
        storage.world().durable.dirs.insert("/data".into());
        storage
    }

    fn stopping(at: usize, outcome: Outcome) -> Self {
        let storage = Self::new();
        storage.stop(at, outcome);
        storage
    }

    fn stop(&self, at: usize, outcome: Outcome) {
        let mut world = self.world();
        (world.stop, world.dies) = (Some((at, outcome)), true);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn living(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world();
        if world.dead { Err(io::Error::other("the storage is dead")) } else { Ok(world) }
    }

    /// One operation that changes something; `half`: what is left of it when it is cut short.
    fn step<T>(
        &self,
        whole: impl FnOnce(&mut World) -> io::Result<T>,
        half: impl FnOnce(&mut World),
    ) -> io::Result<T> {
        let mut world = self.living()?;
        world.operations += 1;
        match world.stop {
            Some((at, outcome)) if at == world.operations => {
                if outcome == Outcome::MayHaveHappened {
                    half(&mut world);
                }
                world.dead = world.dies;
                Err(world.error.map_or_else(|| io::Error::other("stopped here"), io::Error::from))
            }
            _ => whole(&mut world),
        }
    }

    fn change(&self, change: &Change) -> io::Result<()> {
        self.step(
            |world| {
                world.change(change.clone());
                Ok(())
            },
            |world| world.change(change.clone()),
        )
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Storage for Crashing {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if !self.living()?.now.dirs.contains(path.parent().unwrap_or(path)) {
            return Err(not_found());
        }
        if self.living()?.now.dirs.contains(path) {
            return Ok(());
        }
        self.change(&Change::Mkdir(path.into()))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let inode = {
            let mut world = self.living()?;
            if !world.now.dirs.contains(path.parent().unwrap_or(path)) {
                return Err(not_found());
            }
            world.inodes.push((Vec::new(), 0));
            world.inodes.len() - 1
        };
        self.change(&Change::Link(path.into(), inode))?;
        Ok(Box::new(CrashingFile { storage: self.clone(), inode }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        if self.exists(path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = *self.living()?.now.files.get(from).ok_or_else(not_found)?;
        if !self.living()?.now.dirs.contains(to.parent().unwrap_or(to)) {
            return Err(not_found());
        }
        self.change(&Change::Rename(from.into(), to.into(), inode))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.living()?.now.files.contains_key(path) {
            return Err(not_found());
        }
        self.change(&Change::Unlink(path.into()))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.living()?;
        if !world.now.dirs.contains(path) {
            return Err(not_found());
        }
        let within = world.now.files.keys().chain(&world.now.dirs);
        Ok(within
            .filter(|name| name.parent() == Some(path))
            .filter_map(|name| Some(name.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let world = self.living()?;
        let root = path == Path::new("/");
        Ok(root || world.now.files.contains_key(path) || world.now.dirs.contains(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let world = self.living()?;
        let inode = world.now.files.get(path).ok_or_else(not_found)?;
        Ok(world.inodes[*inode].0.clone())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(
            |world| {
                world.sync_dir(path);
                Ok(())
            },
            |world| world.sync_dir(path),
        )
    }
}

struct CrashingFile {
    storage: Crashing,
    inode: usize,
}

impl Write for CrashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let inode = self.inode;
        self.storage.step(
            |world| {
                world.inodes[inode].0.extend_from_slice(bytes);
                Ok(bytes.len())
            },
            |world| world.inodes[inode].0.extend_from_slice(&bytes[..bytes.len() / 2]),
        )
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageFile for CrashingFile {
    fn sync(&mut self) -> io::Result<()> {
        let inode = self.inode;
        let sync = |world: &mut World| world.inodes[inode].1 = world.inodes[inode].0.len();
        self.storage.step(
            |world| {
                sync(world);
                Ok(())
            },
            sync,
        )
    }
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
    let options: Options =
        [("path", ROOT), ("format", "json"), ("partitionBy", "k")].into_iter().collect();
    let mut sink = FileSink::on(Arc::new(storage.clone()), &options, config)?;
    sink.committer.set_fanout(2);
    Ok(sink)
}

/// A query: goes on behind what the sink holds. Says in `done` what it was told is committed.
fn drive(storage: &Crashing, mode: OutputMode, retry: bool, done: &mut Option<u64>) -> Result<()> {
    let mut sink = sink(storage, mode)?;
    let first = sink.last_committed()?.map_or(0, |newest| newest + 1);
    sink.discard_uncommitted()?;
    let mut writers = vec![sink.writer(0)?, sink.writer(1)?];
    for epoch in first..EPOCHS {
        let mut staged = Vec::new();
        for (worker, writer) in writers.iter_mut().enumerate() {
            let rows = rows(epoch, worker);
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
        if committed.is_err() && retry {
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
        let dir = file.parent().and_then(|dir| dir.file_name()).unwrap().to_str().unwrap();
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
    let Some(newest) = newest else { return Vec::new() };
    let first = if mode == OutputMode::Complete { newest } else { 0 };
    let mut all: Vec<_> = (first..=newest)
        .flat_map(|epoch| [rows(epoch, 0), rows(epoch, 1)].concat())
        .map(|(k, n)| format!("k={k} {n}"))
        .collect();
    all.sort();
    all
}

/// The committed files, and the newest epoch.
fn committed(storage: &Crashing) -> (Vec<PathBuf>, Option<u64>) {
    let runs = manifest::committed_runs(storage, Path::new(ROOT)).unwrap().unwrap_or_default();
    let files = runs.iter().flat_map(|run| &run.files);
    let files = files.map(|file| Path::new(ROOT).join(&file.path)).collect();
    (files, runs.last().map(|run| run.last))
}

/// Every data file that a listing of the directories shows.
fn listed(storage: &Crashing) -> Vec<PathBuf> {
    let world = storage.world();
    let manifest = Path::new(ROOT).join(MANIFEST_DIR);
    world.now.files.keys().filter(|path| !path.starts_with(&manifest)).cloned().collect()
}

/// What lies there is a whole number of epochs, and none that was committed is missing.
fn check_prefix(storage: &Crashing, mode: OutputMode, done: Option<u64>, place: &str) {
    let (files, newest) = committed(storage);
    assert!(newest >= done, "{place}: {done:?} was committed, {newest:?} is there");
    assert_eq!(read_rows(storage, &files), expected(mode, newest), "{place}");
    read_rows(storage, &listed(storage));
}

fn check_end(storage: &Crashing, mode: OutputMode, place: &str) {
    let (files, newest) = committed(storage);
    assert_eq!(newest, Some(EPOCHS - 1), "{place}");
    let all = expected(mode, newest);
    assert_eq!(read_rows(storage, &files), all, "{place}");
    assert_eq!(read_rows(storage, &listed(storage)), all, "{place}: by name");
    let tmp = Path::new(ROOT).join(MANIFEST_DIR).join(manifest::TMP);
    assert_eq!(storage.list(&tmp).unwrap(), Vec::<String>::new(), "{place}");
}

fn operations(mode: OutputMode) -> usize {
    let storage = Crashing::new();
    drive(&storage, mode, false, &mut None).unwrap();
    check_end(&storage, mode, "undisturbed");
    // What is there is durable too, but for the removal of what no longer counts.
    storage.world().restart(Loss::Unsynced);
    check_prefix(&storage, mode, Some(EPOCHS - 1), "after the end");
    let mut counted = None;
    let storage = Crashing::new();
    drive(&storage, mode, false, &mut counted).unwrap();
    let operations = storage.world().operations;
    operations
}

fn crash_everywhere(mode: OutputMode) {
    for at in 1..=operations(mode) {
        for outcome in [Outcome::DidNotHappen, Outcome::MayHaveHappened] {
            for loss in [Loss::Process, Loss::Unsynced, Loss::Some] {
                let place = format!("{mode}, operation {at}, {outcome:?}, {loss:?}");
                let storage = Crashing::stopping(at, outcome);
                let mut done = None;
                assert!(drive(&storage, mode, false, &mut done).is_err(), "{place}");
                storage.world().restart(loss);
                check_prefix(&storage, mode, done, &place);
                // The repair is disturbed as well, somewhere.
                storage.stop(at % 13 + 1, outcome);
                let mut again = done;
                let _ = drive(&storage, mode, false, &mut again);
                storage.world().restart(loss);
                check_prefix(&storage, mode, again, &place);
                drive(&storage, mode, false, &mut done).unwrap_or_else(|e| panic!("{place}: {e}"));
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
                if drive(&storage, mode, true, &mut done).is_err() {
                    // Not a commit that failed: the query starts again.
                    check_prefix(&storage, mode, done, &place);
                    drive(&storage, mode, true, &mut done).unwrap();
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
            let error = drive(&storage, OutputMode::Append, false, &mut None).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(remedy) && error.contains("/data"), "{at}: {error}");
        }
    }
}
