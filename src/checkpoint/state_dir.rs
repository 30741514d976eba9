//! Where the state files of a query are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark_connectors::storage::Storage;
use uuid::Uuid;

use super::error::{CheckpointError, Result};

/// The directory of state files, as workers hold it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    query: Uuid,
    storage: Arc<dyn Storage>,
}

impl StateDir {
    /// `state/` of the checkpoint in `checkpoint`.
    pub fn new(checkpoint: &Path, query: Uuid, storage: Arc<dyn Storage>) -> Self {
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
        let entries = self
            .storage
            .list(&self.path)
            .map_err(CheckpointError::reading("list", &self.path))?;
        let files = entries.into_iter();
        Ok(files
            .filter_map(|entry| Some((entry.name, entry.bytes?)))
            .collect())
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
