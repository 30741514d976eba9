//! The checkpoint's directory: is it one, what is left over in it, how large is it?

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::database::DATABASE;
use super::error::{CheckpointError, Result};
use super::lock::LOCK;
use super::storage::{FileStorage, Storage};
use super::{Manifest, StateDir};

/// How many bytes the database and the state files take.
pub(super) fn size_on_disk(dir: &Path, state: &StateDir) -> Result<u64> {
    let files = FileStorage
        .list(dir)
        .map_err(CheckpointError::reading("list", dir))?;
    let database = files.iter().filter(|(name, _)| name.starts_with(DATABASE));
    Ok(database.chain(&state.list()?).map(|(_, bytes)| bytes).sum())
}

/// Looks at a directory before anything is written to it. `true`: no state is in it.
pub(super) fn look(dir: &Path) -> Result<bool> {
    let names = |path: &Path| -> Result<Vec<String>> {
        match fs::read_dir(path) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<_>>()
                .map_err(CheckpointError::reading("list", path)),
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

/// The names of the database and of `state` itself must be as durable as what they hold.
pub(super) fn make_names_durable(dir: &Path, storage: &dyn Storage) -> Result<()> {
    storage
        .sync_dir(dir)
        .map_err(CheckpointError::writing("make durable", dir))?;
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match storage.sync_dir(parent) {
        // Not ours to read, and then it was not we who made the directory.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done.map_err(CheckpointError::writing("make durable", parent)),
    }
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
