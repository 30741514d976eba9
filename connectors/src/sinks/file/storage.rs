//! What the file sink asks of a file system, so that tests can put one under it that crashes.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// A file system. Nothing is durable before it was synced: a file's bytes by
/// [`StorageFile::sync`], names that came or went by [`Storage::sync_dir`] on their directory.
pub trait Storage: Send + Sync + Debug {
    /// Makes one directory; one that is there already is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Opens a file for writing; one that is there already is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Makes a file that must not be there yet: of two that try, one succeeds.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Gives a file another name, atomically, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in any order; those that are no UTF-8 are left out.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Whether something has this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// A file being written.
pub trait StorageFile: Write + Send {
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
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

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(File::create(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(File::create_new(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // A directory cannot be opened for syncing on Windows, where a rename is durable itself.
        if cfg!(windows) {
            Ok(())
        } else {
            File::open(path)?.sync_all()
        }
    }
}

impl StorageFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
