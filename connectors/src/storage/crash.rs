//! A file system that fails and crashes, for the tests of whatever writes through a [`Storage`].
//!
//! [`CrashStorage`] works on a real directory and remembers beside it what of that is durable: bytes
//! become durable by syncing their file, names by syncing their directory, a rename all at once. It
//! stops at its n-th operation, and [`restart`](CrashStorage::restart) leaves of the directory what
//! that crash leaves.
//!
//! Files in the directory that come by another way, such as those of a database that syncs for itself,
//! are put back as they were when the storage died: what their owner's destructors did to them later
//! (a database that is closed moves its log), no process that is killed does. They count as durable,
//! and go with a directory whose name was not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, Entry, Moment, Storage, StorageReader, StorageWriter};

/// What becomes of the operation at which the storage stops. It reports an error either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    DidNotHappen,
    /// It happened all the same; of bytes to be written, the first half.
    MayHaveHappened,
}

/// What comes after the operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// All goes on: it was that operation alone.
    GoesOn,
    /// Every other operation fails, too: the process has been killed.
    Dies,
}

/// What a crash takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process is killed: nothing.
    Process,
    /// The power fails: all that was not synced.
    Unsynced,
    /// The power fails: of what was not synced, every other name and the second half of the bytes.
    Some,
    /// The power fails when the names have reached the disk and the bytes that were not synced have not.
    Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    at: usize,
    outcome: Outcome,
    then: Then,
    error: io::ErrorKind,
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
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Debug, Default)]
struct World {
    root: PathBuf,
    inodes: Vec<Inode>,
    now: Names,
    durable: Names,
    unsynced: Vec<Change>,
    operations: usize,
    stop: Option<Stop>,
    stopped: Option<String>,
    full: bool,
    /// Since the storage died: what others had in the directory at that moment.
    dead: Option<BTreeMap<PathBuf, Vec<u8>>>,
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
            self.unsynced
                .retain(|other| !matches!(other, Change::Link(path, _) if path == from));
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

    /// The file of a name that is to be written from its beginning.
    fn link(&mut self, path: &Path) -> usize {
        if let Some(inode) = self.now.files.get(path) {
            self.inodes[*inode] = Inode::default();
            return *inode;
        }
        self.inodes.push(Inode::default());
        let inode = self.inodes.len() - 1;
        self.change(Change::Link(path.into(), inode));
        inode
    }

    /// What others have in the directory. A log before its database: what moves meanwhile, moves
    /// from the log to the database.
    fn foreign(&self) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut all = files_under(&self.root)?;
        all.retain(|path| !self.now.files.contains_key(path));
        all.into_iter()
            .rev()
            .filter_map(|path| match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                read => Some(read.map(|bytes| (path, bytes))),
            })
            .collect()
    }

    fn lose(&mut self, loss: Loss) {
        if loss == Loss::Process {
            return;
        }
        for (position, change) in std::mem::take(&mut self.unsynced).iter().enumerate() {
            if loss == Loss::Bytes || loss == Loss::Some && position % 2 == 1 {
                self.persist(change);
            }
        }
        self.now = self.durable.clone();
        let (root, dirs) = (self.root.clone(), self.now.dirs.clone());
        let whole = |path: &PathBuf| {
            path.ancestors()
                .skip(1)
                .take_while(|dir| dir.starts_with(&root) && **dir != root)
                .all(|dir| dirs.contains(dir))
        };
        self.now.files.retain(|path, _| whole(path));
        self.now.dirs.retain(whole);
        self.durable = self.now.clone();
        for Inode { bytes, synced } in &mut self.inodes {
            let lost = bytes.len() - *synced;
            bytes.truncate(if loss == Loss::Some {
                *synced + lost / 2
            } else {
                *synced
            });
            *synced = bytes.len();
        }
    }

    fn restart(&mut self, loss: Loss) -> io::Result<()> {
        let foreign = match self.dead.take() {
            Some(foreign) => foreign,
            None => self.foreign()?,
        };
        (self.stop, self.stopped, self.operations) = (None, None, 0);
        self.lose(loss);
        for entry in Disk.list(&self.root)? {
            let path = self.root.join(entry.name);
            match entry.bytes {
                Some(_) => fs::remove_file(path)?,
                None => fs::remove_dir_all(path)?,
            }
        }
        // A directory comes before what is in it.
        for dir in &self.now.dirs {
            fs::create_dir(dir)?;
        }
        for (path, inode) in &self.now.files {
            fs::write(path, &self.inodes[*inode].bytes)?;
        }
        for (path, bytes) in foreign {
            if path.parent().is_some_and(Path::is_dir) {
                fs::write(path, bytes)?;
            }
        }
        Ok(())
    }
}

/// Where a test keeps its directories: in memory if there is such a place, since it is not the real
/// disk that is tested.
pub fn memory_directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.into()
    } else {
        std::env::temp_dir()
    }
}

/// All files under a directory, in order.
fn files_under(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in Disk.list(dir)? {
        let path = dir.join(entry.name);
        match entry.bytes {
            Some(_) => all.push(path),
            None => all.extend(files_under(&path)?),
        }
    }
    Ok(all)
}

/// The storage. Clones are the same one.
#[derive(Clone, Debug)]
pub struct CrashStorage(Arc<Mutex<World>>);

impl CrashStorage {
    /// A storage in `root`, an empty directory whose name is durable.
    pub fn new(root: &Path) -> Self {
        Self(Arc::new(Mutex::new(World {
            root: root.into(),
            ..World::default()
        })))
    }

    /// The `at`-th operation from now on, counted from 1, reports this error.
    pub fn stop(&self, at: usize, outcome: Outcome, then: Then, error: io::ErrorKind) {
        let mut world = self.world();
        world.operations = 0;
        world.stop = Some(Stop {
            at,
            outcome,
            then,
            error,
        });
    }

    /// Whether there is room for more; where not, what would add bytes or names fails.
    pub fn fill(&self, full: bool) {
        self.world().full = full;
    }

    /// How many operations were asked for since the last start or [`stop`](Self::stop).
    pub fn operations(&self) -> usize {
        self.world().operations
    }

    /// The operation at which it stopped, if it came so far.
    pub fn stopped(&self) -> Option<String> {
        self.world().stopped.clone()
    }

    /// Comes back after a crash, or after all was ended in order: nobody uses it now.
    pub fn restart(&self, loss: Loss) -> io::Result<()> {
        self.world().restart(loss)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One operation. It says itself what it is when it happens only in part.
    fn step<T>(
        &self,
        (what, path): (&str, &Path),
        operation: impl FnOnce(&mut World, Part) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut world = self.world();
        if world.dead.is_some() {
            return Err(io::Error::other("the storage is dead"));
        }
        world.operations += 1;
        let Some(stop) = world.stop.filter(|stop| stop.at == world.operations) else {
            return operation(&mut world, Part::Whole);
        };
        world.stopped = Some(format!("{what} {}", path.display()));
        if stop.outcome == Outcome::MayHaveHappened {
            // What cannot be done has no effect.
            let _ = operation(&mut world, Part::Half);
        }
        if stop.then == Then::Dies {
            world.dead = Some(world.foreign()?);
        }
        Err(stop.error.into())
    }

    /// One operation that needs room.
    fn adding<T>(
        &self,
        what: (&str, &Path),
        operation: impl FnOnce(&mut World, Part) -> io::Result<T>,
    ) -> io::Result<T> {
        self.step(what, |world, part| {
            if world.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            operation(world, part)
        })
    }

    fn link(
        &self,
        path: &Path,
        open: impl FnOnce(&Path) -> io::Result<File>,
    ) -> io::Result<Box<dyn StorageWriter>> {
        self.adding(("create", path), |world, _| {
            let file = open(path)?;
            let inode = world.link(path);
            Ok(Box::new(Writing {
                storage: self.clone(),
                path: path.into(),
                file,
                inode,
            }) as _)
        })
    }
}

/// How much of an operation happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Half,
}

impl Part {
    fn of(self, bytes: &[u8]) -> &[u8] {
        match self {
            Self::Whole => bytes,
            Self::Half => &bytes[..bytes.len() / 2],
        }
    }
}

impl Storage for CrashStorage {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.adding(("create the directory", path), |world, _| {
            if path.is_dir() {
                return Ok(());
            }
            fs::create_dir(path)?;
            world.change(Change::Mkdir(path.into()));
            Ok(())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>> {
        self.link(path, |path| File::create(path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>> {
        self.link(path, |path| File::create_new(path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageReader>> {
        self.step(("open", path), |_, _| {
            let file = Disk.open(path)?;
            Ok(Box::new(Reading {
                storage: self.clone(),
                path: path.into(),
                file,
            }) as _)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(("rename to", to), |world, _| {
            fs::rename(from, to)?;
            if let Some(inode) = world.now.files.get(from).copied() {
                world.change(Change::Rename(from.into(), to.into(), inode));
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(("remove", path), |world, _| {
            fs::remove_file(path)?;
            world.change(Change::Unlink(path.into()));
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.step(("list", path), |_, _| Disk.list(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.step(("look for", path), |_, _| Disk.exists(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.adding(("sync the directory", path), |world, _| {
            world.sync_dir(path);
            path.is_dir()
                .then_some(())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn moment(&self, moment: Moment) -> io::Result<()> {
        let what = match moment {
            Moment::BeforeTransaction => "before a transaction",
            Moment::AfterTransaction => "after a transaction",
        };
        self.step((what, Path::new("")), |_, _| Ok(()))
    }
}

#[derive(Debug)]
struct Writing {
    storage: CrashStorage,
    path: PathBuf,
    file: File,
    inode: usize,
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self {
            storage,
            path,
            file,
            inode,
        } = self;
        storage.adding(("write to", path), |world, part| {
            let bytes = part.of(bytes);
            file.write_all(bytes)?;
            world.inodes[*inode].bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageWriter for Writing {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Self {
            storage,
            path,
            file,
            inode,
        } = self;
        storage.adding(("write into", path), |world, part| {
            let bytes = part.of(bytes);
            let (inode, from) = (&mut world.inodes[*inode], offset as usize);
            assert!(inode.synced <= from, "what is durable is not written over");
            inode.bytes[from..from + bytes.len()].copy_from_slice(bytes);
            StorageWriter::write_at(file, offset, bytes)
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.storage.adding(("sync", &self.path), |world, _| {
            let inode = &mut world.inodes[self.inode];
            inode.synced = inode.bytes.len();
            Ok(())
        })
    }
}

#[derive(Debug)]
struct Reading {
    storage: CrashStorage,
    path: PathBuf,
    file: Box<dyn StorageReader>,
}

impl StorageReader for Reading {
    fn length(&self) -> io::Result<u64> {
        let what = ("look at", self.path.as_path());
        self.storage.step(what, |_, _| self.file.length())
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let what = ("read", self.path.as_path());
        self.storage
            .step(what, |_, _| self.file.read_at(offset, into))
    }
}
