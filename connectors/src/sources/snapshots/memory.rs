//! Files of a query that has no checkpoint: they are gone with it, so they need not be on a disk.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::storage::{Entry, Storage, StorageReader, StorageWriter};

type Bytes = Arc<Mutex<Vec<u8>>>;

/// Files in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryFiles(Mutex<BTreeMap<PathBuf, Bytes>>);

impl MemoryFiles {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<PathBuf, Bytes>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Storage for MemoryFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>> {
        let bytes = Bytes::default();
        self.with(|files| files.insert(path.to_path_buf(), Arc::clone(&bytes)));
        Ok(Box::new(MemoryFile(bytes)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StorageWriter>> {
        if self.exists(path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageReader>> {
        let bytes = self.with(|files| files.get(path).cloned());
        Ok(Box::new(MemoryFile(bytes.ok_or_else(missing)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|files| {
            let bytes = files.remove(from).ok_or_else(missing)?;
            files.insert(to.to_path_buf(), bytes);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.with(|files| files.remove(path));
        removed.map(drop).ok_or_else(missing)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let entry = |(name, bytes): (&PathBuf, &Bytes)| {
            let name = name.strip_prefix(path).ok()?;
            Some(Entry {
                name: name.display().to_string(),
                bytes: Some(bytes.lock().unwrap_or_else(PoisonError::into_inner).len() as u64),
            })
        };
        Ok(self.with(|files| files.iter().filter_map(entry).collect()))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.with(|files| files.contains_key(path)))
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile(Bytes);

impl MemoryFile {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|all| all.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageWriter for MemoryFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|all| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            let place = all.get_mut(at..at + bytes.len());
            place
                .ok_or(io::ErrorKind::UnexpectedEof)?
                .copy_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageReader for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.with(|all| all.len() as u64))
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.with(|all| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            let place = all.get(at..at + into.len());
            into.copy_from_slice(place.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }
}
