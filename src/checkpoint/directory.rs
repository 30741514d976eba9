//! The checkpoint's directory: is it one, what is left over in it, how large is it?

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use tidemark_connectors::storage::{Disk, Storage};

use super::database::DATABASE;
use super::error::{CheckpointError, Result};
use super::lock::LOCK;
use super::{Manifest, StateDir};

/// Where snapshots of static tables are, in the checkpoint in `dir`.
pub fn tables_dir(dir: &Path) -> PathBuf {
    dir.join("tables")
}

/// Weighs a checkpoint, from any thread and beside the query that runs on it.
#[derive(Clone, Debug)]
pub struct Scales {
    pub(super) dir: PathBuf,
    pub(super) state: StateDir,
}

impl Scales {
    /// How many bytes the database, the state files and the snapshots of tables take.
    pub fn weigh(&self) -> Result<u64> {
        let dir = &self.dir;
        let entries = Disk
            .list(dir)
            .map_err(CheckpointError::reading("list", dir))?;
        let database = entries
            .iter()
            .filter(|entry| entry.name.starts_with(DATABASE))
            .filter_map(|entry| entry.bytes);
        let state = self.state.list()?;
        let tables = Disk.list(&tables_dir(dir)).unwrap_or_default();
        let tables = tables.iter().filter_map(|entry| entry.bytes);
        Ok(database
            .chain(state.iter().map(|(_, bytes)| *bytes))
            .chain(tables)
            .sum())
    }
}

/// Looks at a directory before anything is written to it. `true`: no state is in it.
pub(super) fn look(dir: &Path, storage: &dyn Storage) -> Result<bool> {
    let names = |path: &Path| -> Result<Vec<String>> {
        match storage.list(path) {
            Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(CheckpointError::reading("list", path)(error)),
        }
    };
    let here = names(dir)?;
    let state = names(&dir.join("state"))?;
    if !here.iter().any(|name| name == DATABASE) {
        // What a start that was cut short leaves behind is no reason to refuse.
        let strange = here
            .into_iter()
            .find(|name| name != LOCK && name != "state");
        let strange = strange.or_else(|| state.first().map(|name| format!("state/{name}")));
        if let Some(found) = strange {
            return Err(CheckpointError::NotACheckpoint {
                dir: dir.to_path_buf(),
                found,
            });
        }
    }
    Ok(state.is_empty())
}

/// What is in `state/` by our names and not in the manifest was never committed, or is forgotten.
pub(super) fn remove_orphans(state: &StateDir, manifest: &Manifest) -> Result<()> {
    for name in orphans(&state.list()?, manifest) {
        state.remove(&name)?;
    }
    Ok(())
}

/// The names among `present` that are ours and not in the manifest.
pub(super) fn orphans(present: &[(String, u64)], manifest: &Manifest) -> Vec<String> {
    let known: BTreeSet<&str> = manifest
        .files()
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    present
        .iter()
        .map(|(name, _)| name)
        .filter(|name| {
            ["tmp-", "delta-", "snapshot-"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                && !known.contains(name.as_str())
        })
        .cloned()
        .collect()
}
