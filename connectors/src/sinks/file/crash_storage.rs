//! A file system that crashes, for tests.
//!
//! [`Crashing`] keeps what is there now apart from what is durable: bytes become durable by
//! syncing their file, names by syncing their directory, a rename all at once. It can be told to
//! stop at its n-th operation, and what a crash takes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{Storage, StorageFile};

/// What becomes of the operation at which the world stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    DidNotHappen,
    MayHaveHappened,
}

/// What a crash takes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Loss {
    /// The process is killed: nothing.
    Process,
    /// The power fails: all that was not synced.
    Unsynced,
    /// The power fails: unsynced bytes, and every other name that was not synced.
    Some,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) files: BTreeMap<PathBuf, usize>,
    pub(super) dirs: BTreeSet<PathBuf>,
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
pub(super) struct World {
    /// Bytes, and how many of them are durable.
    inodes: Vec<(Vec<u8>, usize)>,
    pub(super) now: Names,
    durable: Names,
    unsynced: Vec<Change>,
    pub(super) operations: usize,
    stop: Option<(usize, Outcome)>,
    /// After the stop, everything fails; otherwise only that one operation does.
    pub(super) dies: bool,
    dead: bool,
    pub(super) error: Option<io::ErrorKind>,
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

    pub(super) fn restart(&mut self, loss: Loss) {
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
            path.ancestors()
                .skip(1)
                .all(|dir| dir == Path::new("/") || dirs.contains(dir))
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
pub(super) struct Crashing(Arc<Mutex<World>>);

impl Crashing {
    pub(super) fn new() -> Self {
        let storage = Self::default();
        storage.world().now.dirs.insert("/data".into());
        storage.world().durable.dirs.insert("/data".into());
        storage
    }

    pub(super) fn stopping(at: usize, outcome: Outcome) -> Self {
        let storage = Self::new();
        storage.stop(at, outcome);
        storage
    }

    pub(super) fn stop(&self, at: usize, outcome: Outcome) {
        let mut world = self.world();
        (world.stop, world.dies) = (Some((at, outcome)), true);
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn living(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world();
        if world.dead {
            Err(io::Error::other("the storage is dead"))
        } else {
            Ok(world)
        }
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
                Err(world
                    .error
                    .map_or_else(|| io::Error::other("stopped here"), io::Error::from))
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
        if !self
            .living()?
            .now
            .dirs
            .contains(path.parent().unwrap_or(path))
        {
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
        Ok(Box::new(CrashingFile {
            storage: self.clone(),
            inode,
        }))
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
            |world| {
                world.inodes[inode]
                    .0
                    .extend_from_slice(&bytes[..bytes.len() / 2]);
            },
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
