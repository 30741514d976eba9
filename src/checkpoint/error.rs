//! What can go wrong with a checkpoint. Every message names the place and the remedy; an error of
//! a write says whether what was asked for did not happen or may have happened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Difference;

/// The result of anything done to a checkpoint.
pub type Result<T, E = CheckpointError> = std::result::Result<T, E>;

/// What is known about a write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The checkpoint is as it was before the call.
    DidNotHappen,
    /// Either the checkpoint is as it was, or the write is complete: only reopening tells.
    MayHaveHappened,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DidNotHappen => "this did not happen",
            Self::MayHaveHappened => {
                "this may have happened: a restart reads the checkpoint again and knows"
            }
        })
    }
}

/// An error of a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file or directory of the checkpoint could not be read.
    #[error("cannot {action} {}: {source}{}", .path.display(), hint(.source))]
    Read {
        /// What was tried, as in "cannot {action}".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or directory of the checkpoint could not be written.
    #[error("cannot {action} {}: {source}; {outcome}{}", .path.display(), hint(.source))]
    Write {
        /// What was tried, as in "cannot {action}".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
        /// What is known.
        outcome: Outcome,
    },
    /// The database could not be read.
    #[error("cannot {action} in {}: {source}{}", .path.display(), sqlite_hint(.source))]
    DatabaseRead {
        /// What was tried, as in "cannot {action}".
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The database could not be written.
    #[error("cannot {action} in {}: {source}; {outcome}{}", .path.display(), sqlite_hint(.source))]
    DatabaseWrite {
        /// What was tried, as in "cannot {action}".
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
        /// What is known.
        outcome: Outcome,
    },
    /// Another process (or another query of this one) holds the checkpoint.
    #[error(
        "the checkpoint {} is in use by {}; one checkpoint belongs to one running query: stop that one, or give this query another 'checkpointLocation'",
        .dir.display(),
        holder(*.pid)
    )]
    InUse {
        /// The checkpoint's directory.
        dir: PathBuf,
        /// The process that holds it, if it has written its id.
        pid: Option<u32>,
    },
    /// A worker's state file is not where the others are.
    #[error(
        "worker {worker} has written {}, and it is not there for process 0; give all processes a 'checkpointLocation' that they share",
        .path.display()
    )]
    NotShared {
        /// Where it should be.
        path: PathBuf,
        /// Who wrote it.
        worker: usize,
    },
    /// The directory holds something else.
    #[error(
        "{} is not empty and not a checkpoint (it holds '{found}' and no tidemark.sqlite); give 'checkpointLocation' an empty or new directory",
        .dir.display()
    )]
    NotACheckpoint {
        /// The directory.
        dir: PathBuf,
        /// One of the names found in it.
        found: String,
    },
    /// There is nothing to inspect.
    #[error("there is no checkpoint in {}: no tidemark.sqlite; check the path", .dir.display())]
    NoCheckpoint {
        /// The directory.
        dir: PathBuf,
    },
    /// The operator keeps nothing.
    #[error(
        "the checkpoint {} holds no state of operator {operator}; {known}",
        .dir.display()
    )]
    NoState {
        /// The checkpoint's directory.
        dir: PathBuf,
        /// The operator that was asked for.
        operator: u32,
        /// Which operators have state, in a sentence.
        known: String,
    },
    /// Written by a newer Tidemark.
    #[error(
        "{} has format version {found}, and this Tidemark reads versions up to {supported}; use a newer Tidemark",
        .path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// Written by an older Tidemark, whose state means something else.
    #[error(
        "{} has format version {found}, and this Tidemark reads version {supported}; go on with the Tidemark that wrote it, or start over with a new 'checkpointLocation'",
        .path.display()
    )]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is understood.
        supported: u32,
    },
    /// The checkpoint was written by another query.
    #[error(
        "the checkpoint {} was written by another query ('{stored}'): {}; start this query with another 'checkpointLocation', or undo the change",
        .dir.display(),
        Differences(.differences)
    )]
    OtherQuery {
        /// The checkpoint's directory.
        dir: PathBuf,
        /// The name of the query that wrote it.
        stored: String,
        /// What is not the same.
        differences: Vec<Difference>,
    },
    /// A state file is not what was written.
    #[error(
        "the state file {} is damaged: {reason}; the state that it holds cannot be trusted, so nothing is read from it: restore the file from a copy of the checkpoint, go back to an epoch that does not need it (`tidemark checkpoint DIR` names it), or start over with a new 'checkpointLocation'",
        .path.display()
    )]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database holds something that was not written so.
    #[error(
        "the checkpoint {} is damaged: {reason}; restore it from a copy, or start over with a new 'checkpointLocation'",
        .path.display()
    )]
    DamagedLog {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller broke the order of steps; nothing was written.
    #[error("checkpoint {}: {reason}; this did not happen", .dir.display())]
    OutOfOrder {
        /// The checkpoint's directory.
        dir: PathBuf,
        /// Which rule was broken.
        reason: String,
    },
    /// The state of this epoch cannot be asked for.
    #[error("checkpoint {}: the state of epoch {epoch} is not kept; {kept}", .dir.display())]
    NotKept {
        /// The checkpoint's directory.
        dir: PathBuf,
        /// The epoch that was asked for.
        epoch: u64,
        /// Which are kept, in a sentence.
        kept: String,
    },
    /// The state of this epoch is kept and damaged.
    #[error(
        "checkpoint {}: the state of epoch {epoch} is not whole, so the query cannot go back to it; {whole}; this did not happen",
        .dir.display()
    )]
    NotWhole {
        /// The checkpoint's directory.
        dir: PathBuf,
        /// The epoch that was asked for.
        epoch: u64,
        /// Which epochs are whole, in a sentence.
        whole: String,
    },
    /// The thread that folds is gone.
    #[error(
        "the thread that folds the state files in {} has ended; the query goes on with more and more files, until it is started again",
        .dir.display()
    )]
    FoldingEnded {
        /// The directory of the state files.
        dir: PathBuf,
    },
    /// State files could not be folded into one. The state itself is unharmed.
    #[error(
        "cannot fold the state files of worker {worker} up to epoch {last} (operator {operator}, trace {trace}): {reason}; the files that it would have replaced stay in use"
    )]
    Fold {
        /// Whose files.
        worker: usize,
        /// The newest epoch among them.
        last: u64,
        /// The operator of the section that failed.
        operator: u32,
        /// Its trace.
        trace: u32,
        /// What the state said.
        reason: String,
    },
}

impl CheckpointError {
    /// For `map_err`: reading a path failed.
    pub(super) fn reading(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read {
            action,
            path,
            source,
        }
    }

    /// For `map_err`: writing a path failed and left nothing behind that counts.
    pub(super) fn writing(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Write {
            action,
            path,
            source,
            outcome: Outcome::DidNotHappen,
        }
    }

    /// What is known about the write that failed; `None` where nothing was to be written.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Write { outcome, .. } | Self::DatabaseWrite { outcome, .. } => Some(*outcome),
            Self::OutOfOrder { .. } | Self::Fold { .. } => Some(Outcome::DidNotHappen),
            _ => None,
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => {
            format!("another query of this process (pid {pid})")
        }
        Some(pid) => format!("the process with pid {pid}"),
        None => "another process".into(),
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space and start again: nothing committed is lost"
        }
        io::ErrorKind::PermissionDenied => {
            "; let this user read and write the directory, or choose another 'checkpointLocation'"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is read-only: choose another 'checkpointLocation'"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "; 'checkpointLocation' must name a directory"
        }
        io::ErrorKind::NotFound => {
            "; check the path, and whether something else removes files there"
        }
        _ => "",
    }
}

fn sqlite_hint(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "; free some space and start again: nothing committed is lost",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "; let this user read and write the directory, or choose another 'checkpointLocation'"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "; another program has the database open: close it and start again"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "; the file is damaged: restore it from a copy, or start over with a new 'checkpointLocation'"
        }
        _ => "",
    }
}

/// Several differences in one sentence.
struct Differences<'a>(&'a [Difference]);

impl fmt::Display for Differences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, difference) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{difference}")?;
        }
        Ok(())
    }
}
