//! One checkpoint, one running query: a locked file that says who holds it.
//!
//! The lock is the operating system's and dies with its process, so a query that was killed
//! leaves nothing to clean up. The file itself stays: removing it would race with the next owner.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::error::{CheckpointError, Result};

/// The lock's name in the checkpoint's directory.
pub(super) const LOCK: &str = "tidemark.lock";

/// Who runs on a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is free.
    Nobody,
    /// The process with this id.
    Process(u32),
    /// A process that has not written its id.
    Unknown,
}

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the checkpoint in `dir`, or says who has it.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(CheckpointError::writing("create the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CheckpointError::InUse {
                    dir: dir.to_path_buf(),
                    pid: pid(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(CheckpointError::writing("lock", &path)(error));
            }
        }
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()))
            .map_err(CheckpointError::writing("write the lock file", &path))?;
        Ok(Self { _file: file })
    }

    /// Who holds the checkpoint in `dir`.
    pub(super) fn holder(dir: &Path) -> Holder {
        let Ok(mut file) = File::open(dir.join(LOCK)) else {
            return Holder::Nobody;
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {
                pid(&mut file).map_or(Holder::Unknown, Holder::Process)
            }
            _ => Holder::Nobody,
        }
    }
}

fn pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_opener_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Lock::holder(dir.path()), Holder::Nobody);
        let lock = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
        assert!(
            error.to_string().contains("another query of this process"),
            "{error}"
        );
        assert_eq!(
            Lock::holder(dir.path()),
            Holder::Process(std::process::id())
        );
        drop(lock);
        assert_eq!(Lock::holder(dir.path()), Holder::Nobody);
        Lock::take(dir.path()).unwrap();
    }
}
