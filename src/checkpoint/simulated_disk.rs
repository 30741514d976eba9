//! A disk in memory that forgets what was not synced, and that dies at its n-th operation.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{Moment, Storage, StorageReader, StorageWriter};

/// What is left after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process was killed: the operating system still has everything.
    Killed,
    /// The power failed: names and bytes that were not synced are gone.
    PowerLost,
    /// The power failed after the names had reached the disk and before the bytes had.
    BytesLost,
}

/// Where a test keeps its database: in memory if there is such a place, since it is not the
/// database's syncs that are tested.
pub(super) fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.or_else(|_| tempfile::tempdir())
        .expect("there is a temporary directory")
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

type File = Arc<Mutex<Content>>;

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, File>,
    synced: BTreeMap<PathBuf, File>,
    operations: u64,
    dies_at: Option<u64>,
    full: bool,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no test panics while it holds the disk")
    }

    /// Every operation after the next `n` fails; the one that is the (n+1)-th is not done.
    pub(super) fn die_after(&self, n: u64) {
        let mut state = self.state();
        state.operations = 0;
        state.dies_at = Some(n);
    }

    pub(super) fn is_dead(&self) -> bool {
        let state = self.state();
        state.dies_at.is_some_and(|n| state.operations > n)
    }

    /// From now on nothing more can be written.
    pub(super) fn fill(&self, full: bool) {
        self.state().full = full;
    }

    /// Comes back after a crash.
    pub(super) fn restart(&self, crash: Crash) {
        let mut state = self.state();
        state.dies_at = None;
        if crash == Crash::PowerLost {
            state.names = state.synced.clone();
        }
        for file in state.names.values() {
            let mut file = file.lock().expect("no test panics while it holds a file");
            if crash != Crash::Killed {
                file.bytes = file.synced.clone();
            }
            file.synced = file.bytes.clone();
        }
        state.synced = state.names.clone();
    }

    /// Counts an operation that the test itself does.
    pub(super) fn tick(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operations += 1;
        match state.dies_at {
            Some(n) if state.operations > n => Err(io::Error::other("the disk has died")),
            _ => Ok(()),
        }
    }

    fn writable(&self) -> io::Result<()> {
        self.tick()?;
        if self.state().full {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Storage for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>> {
        self.writable()?;
        let file = File::default();
        self.state()
            .names
            .insert(path.to_path_buf(), Arc::clone(&file));
        Ok(Box::new(Open {
            disk: self.clone(),
            file,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageReader>> {
        self.tick()?;
        let file = self.state().names.get(path).cloned().ok_or_else(missing)?;
        Ok(Box::new(Open {
            disk: self.clone(),
            file,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.tick()?;
        let mut state = self.state();
        let file = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.tick()?;
        self.state()
            .names
            .remove(path)
            .map(drop)
            .ok_or_else(missing)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.tick()?;
        Ok(self
            .state()
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, file)| {
                let file = file.lock().expect("no test panics while it holds a file");
                let name = path.file_name().unwrap_or_default();
                (name.to_string_lossy().into_owned(), file.bytes.len() as u64)
            })
            .collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.tick()?;
        let mut state = self.state();
        let State { names, synced, .. } = &mut *state;
        synced.retain(|path, _| path.parent() != Some(dir));
        let here = names.iter().filter(|(path, _)| path.parent() == Some(dir));
        synced.extend(here.map(|(path, file)| (path.clone(), Arc::clone(file))));
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.tick()?;
        std::fs::create_dir_all(dir)
    }

    fn moment(&self, _moment: Moment) -> io::Result<()> {
        self.tick()
    }
}

#[derive(Debug)]
struct Open {
    disk: SimulatedDisk,
    file: File,
}

impl Open {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.file
            .lock()
            .expect("no test panics while it holds a file")
    }
}

impl StorageWriter for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.writable()?;
        self.content().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.writable()?;
        let from = offset as usize;
        self.content().bytes[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.writable()?;
        let mut content = self.content();
        content.synced = content.bytes.clone();
        Ok(())
    }
}

impl StorageReader for Open {
    fn length(&self) -> io::Result<u64> {
        self.disk.tick()?;
        Ok(self.content().bytes.len() as u64)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.tick()?;
        let content = self.content();
        let from = offset as usize;
        let bytes = content
            .bytes
            .get(from..from + into.len())
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}
