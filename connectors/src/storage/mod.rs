//! What is asked of a file system where something must be durable: by the checkpoint of a query and by
//! the file sink alike, so that a test can put one under both that fails or crashes ([`crash`]).
//!
//! Nothing is durable before it was synced: a file's bytes by [`StorageWriter::sync`], names that
//! came, went or changed by [`Storage::sync_dir`] on their directory.
//!
//! After a sync that failed, nobody syncs the same file again: the operating system may have
//! forgotten what it could not write, and say that all is well. What was to become durable is written
//! anew, under a new start of the query.

pub mod crash;

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A moment beside the files at which a process may die, too: the transactions of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The next thing to happen is a transaction's commit.
    BeforeTransaction,
    /// A transaction has just become durable; its caller has not been told yet.
    AfterTransaction,
}

/// A file system.
pub trait Storage: Send + Sync + Debug {
    /// Makes one directory; one that is there already is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Opens a file for writing; one that is there already is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>>;

    /// Makes a file that must not be there yet: of two that try, one succeeds.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>>;

    /// A file to read.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageReader>>;

    /// Gives a file another name, atomically, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// What is in a directory, by name.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Whether something has this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Told of every [`Moment`]. An error stops what was about to happen.
    fn moment(&self, _moment: Moment) -> io::Result<()> {
        Ok(())
    }

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = self.open(path)?;
        let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// A file that is being written.
pub trait StorageWriter: Write + Send + Debug {
    /// Writes over bytes at `offset` that were written and not yet synced; goes on at the end.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is being read.
pub trait StorageReader: Send + Debug {
    /// Its length now.
    fn length(&self) -> io::Result<u64>;

    /// Fills `into` from the bytes at `offset`.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// What a directory holds under one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name; what is no UTF-8 in it is replaced.
    pub name: String,
    /// How long a file is; `None`: it is no file.
    pub bytes: Option<u64>,
}

/// The directory that a path lies in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    }
}

/// Makes a directory, durably. The one above it is there.
pub fn make_dir(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    storage.create_dir(dir)?;
    storage.sync_dir(parent(dir))
}

/// Makes a directory and those above it, durably.
pub fn make_dirs(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = dir;
    while !storage.exists(at)? {
        missing.push(at);
        at = parent(at);
    }
    // It may have been made a moment before a crash. Who may not look above it, did not make it.
    match storage.sync_dir(parent(at)) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
        _ => {}
    }
    missing
        .into_iter()
        .rev()
        .try_for_each(|dir| make_dir(storage, dir))
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            done => done,
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>> {
        Ok(Box::new(File::create(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>> {
        Ok(Box::new(File::create_new(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageReader>> {
        Ok(Box::new(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let bytes = match entry.metadata() {
                Ok(metadata) => metadata.is_file().then_some(metadata.len()),
                // It went between the two calls: whoever inspects a running query sees that.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(Entry { name, bytes });
        }
        found.sort();
        Ok(found)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Only Unix lets a directory be opened and synced; elsewhere a rename is durable by itself.
        if cfg!(unix) {
            File::open(path)?.sync_all()
        } else {
            Ok(())
        }
    }
}

impl StorageWriter for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)?;
        self.seek(SeekFrom::End(0)).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl StorageReader for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.read_exact(into)
    }
}
