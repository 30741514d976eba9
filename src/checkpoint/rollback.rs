//! Going back to an older epoch, where the state of the newest is damaged: for `tidemark checkpoint
//! DIR --rollback EPOCH`.
//!
//! Nothing is lost by it, and nothing comes twice. The offset log keeps what was logged since, so
//! that the next start runs those epochs again with the same ranges and the same watermarks, and
//! [`decide`](super::decide) has a sink that holds them already skip them. It takes sources that can still give
//! these ranges. A sink that cannot say what it holds gets the rows of these epochs again.

use std::fmt;
use std::path::{Path, PathBuf};

use tidemark_connectors::storage::Disk;

use super::database::{Database, Meta};
use super::error::{CheckpointError, Result};
use super::facade::kept;
use super::lock::Lock;
use super::{Checkpoint, CommitEntry, Inspection};
use crate::time::Epoch;

/// What going back did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// The checkpoint's directory.
    pub dir: PathBuf,
    /// The newest commit now.
    pub epoch: Epoch,
    /// The newest commit before.
    pub from: Epoch,
}

impl Checkpoint {
    /// Makes `epoch` the newest commit of the checkpoint in `dir`, which nobody runs on. Refuses an
    /// epoch whose state is not kept, or not whole.
    pub fn roll_back(dir: impl AsRef<Path>, epoch: Epoch) -> Result<Rollback> {
        let dir = dir.as_ref();
        // Before the lock: it would make its file where there is no checkpoint.
        Self::inspect(dir)?;
        let _lock = Lock::take(dir)?;
        let inspection = Self::inspect(dir)?;
        let commits = &inspection.logs.commits;
        let Some(commit) = commits.iter().find(|commit| commit.last == epoch) else {
            return Err(CheckpointError::NotKept {
                dir: dir.to_path_buf(),
                epoch,
                kept: kept(commits),
            });
        };
        if !inspection.is_whole(commit) {
            return Err(CheckpointError::NotWhole {
                dir: dir.to_path_buf(),
                epoch,
                whole: inspection.whole().map_or_else(
                    || "that of no other epoch is, either".into(),
                    |newest| format!("that of epoch {newest} is"),
                ),
            });
        }
        let from = commits.last().map_or(epoch, |newest| newest.last);
        let meta = Meta {
            query: inspection.query_id,
            name: inspection.name,
            fingerprint: inspection.fingerprint,
        };
        let (mut database, _) = Database::open(dir, &Disk, &meta, false)?;
        database.roll_back(&Disk, epoch)?;
        Ok(Rollback {
            dir: dir.to_path_buf(),
            epoch,
            from,
        })
    }
}

impl Inspection {
    /// The newest commit whose state is whole.
    pub fn whole(&self) -> Option<Epoch> {
        let mut commits = self.logs.commits.iter().rev();
        commits
            .find(|commit| self.is_whole(commit))
            .map(|commit| commit.last)
    }

    fn is_whole(&self, commit: &CommitEntry) -> bool {
        let needed = self.logs.manifest.files_for(commit.last, commit.workers);
        needed.iter().all(|file| {
            let mut reports = self.files.iter();
            reports.any(|report| report.file.name == file.name && report.problem.is_none())
        })
    }
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, epoch, from } = self;
        let dir = dir.display();
        if from == epoch {
            return write!(f, "epoch {epoch} is the newest commit of {dir} already");
        }
        let again = match epoch + 1 {
            first if first == *from => format!("epoch {first}"),
            first => format!("the epochs {first} to {from}"),
        };
        write!(
            f,
            "{dir} is back at epoch {epoch}; the next start runs {again} again, as logged"
        )
    }
}
