//! Which files a table has.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::file::failed;
use crate::Result;
use crate::storage::Storage;

/// Where the files of a table are, and what is in them.
pub(super) struct Keep {
    pub(super) dir: PathBuf,
    /// Files of this table begin with it and `-`.
    pub(super) prefix: String,
    pub(super) storage: Arc<dyn Storage>,
    /// The columns that are read, by their number in the table.
    pub(super) columns: Vec<usize>,
    /// Of those.
    pub(super) schema: SchemaRef,
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dir.join(&self.prefix).display())
    }
}

impl Keep {
    pub(super) fn snapshot(&self, number: u64) -> String {
        format!("{}-{number}.snapshot", self.prefix)
    }

    pub(super) fn changes(&self, number: u64) -> String {
        format!("{}-{number}.changes", self.prefix)
    }

    /// A file that nobody else writes.
    pub(super) fn temporary(&self) -> PathBuf {
        let name = format!("{}-tmp-{}", self.prefix, Uuid::new_v4().simple());
        self.dir.join(name)
    }

    /// Gives a file that is durable its name.
    pub(super) fn name(&self, from: &Path, name: &str) -> Result<()> {
        let to = self.dir.join(name);
        let named = self.storage.rename(from, &to);
        named.map_err(|source| failed("cannot write", &to, source))
    }

    pub(super) fn sync(&self) -> Result<()> {
        let synced = self.storage.sync_dir(&self.dir);
        synced.map_err(|source| failed("cannot make durable", &self.dir, source))
    }

    /// Removes a file; one that stays is removed by the next start.
    pub(super) fn remove(&self, path: &Path) {
        let _ = self.storage.remove(path);
    }

    /// Removes all files but those that are needed.
    pub(super) fn clean(&self, needed: &BTreeSet<String>) -> Result<()> {
        let there = self.storage.list(&self.dir);
        let there = there.map_err(|source| failed("cannot list", &self.dir, source))?;
        let own = format!("{}-", self.prefix);
        for entry in there {
            if entry.name.starts_with(&own) && !needed.contains(&entry.name) {
                self.remove(&self.dir.join(&entry.name));
            }
        }
        Ok(())
    }
}
