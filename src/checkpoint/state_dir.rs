//! Where the state files of a query are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::FileStorage;
use super::error::{CheckpointError, Result};
use super::storage::Storage;

/// The directory of state files, as workers hold it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    query: Uuid,
    storage: Arc<dyn Storage>,
}

impl StateDir {
    /// `state/` of the checkpoint in `checkpoint`, for a process that does not hold the
    /// checkpoint itself.
    pub fn new(checkpoint: &Path, query: Uuid) -> Self {
        Self::with_storage(checkpoint, query, Arc::new(FileStorage))
    }

    pub(super) fn with_storage(checkpoint: &Path, query: Uuid, storage: Arc<dyn Storage>) -> Self {
        Self {
            path: checkpoint.join("state"),
            query,
            storage,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The query whose state it holds.
    pub fn query_id(&self) -> Uuid {
        self.query
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// The files that are there, with their sizes.
    pub(super) fn list(&self) -> Result<Vec<(String, u64)>> {
        self.storage
            .list(&self.path)
            .map_err(CheckpointError::reading("list", &self.path))
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match self.storage.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CheckpointError::writing("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}
