//! What a checkpoint asks of the file system, as a trait, so that a test can put a storage that
//! dies at its n-th operation in its place.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A moment beside the files at which a process may die, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The next thing to happen is a transaction's commit.
    BeforeTransaction,
    /// A transaction has just become durable; its caller has not been told yet.
    AfterTransaction,
}

/// The operations on state files.
pub trait Storage: Send + Sync + Debug {
    /// A new empty file, replacing one of this name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>>;
    /// A file to read.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageReader>>;
    /// Gives a file another name in the same directory, replacing one that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The files in a directory, with their sizes.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a directory and those above it; no error if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Told of every [`Moment`]. An error stops what was about to happen.
    fn moment(&self, _moment: Moment) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is being written.
pub trait StorageWriter: Send + Debug {
    /// Appends all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes over bytes that were written at `offset`.
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

/// The real thing.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileStorage;

impl Storage for FileStorage {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>> {
        Ok(Box::new(File::create(path)?))
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

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A file may vanish between the two calls when a running query is inspected.
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => {
                    found.push((
                        entry.file_name().to_string_lossy().into_owned(),
                        metadata.len(),
                    ));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        found.sort();
        Ok(found)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Only Unix lets a directory be opened and synced; elsewhere a rename is durable by itself.
        if cfg!(unix) {
            File::open(dir)?.sync_all()
        } else {
            Ok(())
        }
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }
}

impl StorageWriter for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

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
