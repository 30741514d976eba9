//! The manifest of a file sink: which files of a directory are committed.
//!
//! # On disk
//!
//! ```text
//! path/
//!   part-0000000003-0-0-1a2b3c4d.json          data: epoch, worker, number, query
//!   country=DE/part-0000000003-0-1-1a2b3c4d.json
//!   _tidemark/
//!     owner.json                               which query writes here
//!     00000000000000000000-00000000000000000031.1.json   run: epochs 0 to 31, level 1
//!     00000000000000000032-00000000000000000032.0.json   run: epoch 32, level 0
//!     pending.json                             the epoch being committed, if any
//!     tmp/<query>-<worker>-<epoch>-<number>    staged data, and files that are yet to be renamed
//! ```
//!
//! Every file under `_tidemark/` but those in `tmp/` is one JSON object in UTF-8, on one line. A
//! *run* is named `<first>-<last>.<level>.json`, epochs in 20 digits, and holds
//!
//! | field | type | meaning |
//! |---|---|---|
//! | `version` | integer | 1. A reader refuses what it does not know |
//! | `query` | string | the id of the query that writes here |
//! | `queryName` | string | its name, for messages |
//! | `mode` | string | `append`, `update`, `complete` or `changelog` |
//! | `first`, `last` | integer | the epochs that it covers, both included |
//! | `previous` | integer or null | the `last` of the run before it; null: what came before does not count |
//! | `files` | array | the files, each `{"path", "epoch", "rows", "bytes"}`; `path` is relative to the directory, with `/`, as on disk |
//! | `obsolete` | array of strings | paths that this run replaces, where the sink removes them |
//!
//! `pending.json` is a run as it will be, where each file has a field `staged` beside it: its name
//! in `tmp/`. `owner.json` has `version`, `query` and `queryName`.
//!
//! # What is committed
//!
//! Take the runs; leave out those whose epochs another run covers; begin at the last; go on to the
//! run whose `last` is `previous` until that is null. The files of these runs are the committed
//! ones. When a link of this chain is missing, the directory changed while it was listed: list it
//! again. Whatever else lies in the directory (foreign files, files of an epoch that is being
//! committed) is not committed. In complete mode `previous` is always null, so the last run tells all; its
//! predecessor's files are removed after it is there, so a reader that finds one missing starts
//! over.
//!
//! # A commit
//!
//! 1. `tmp/pending` is written and synced, renamed to `pending.json`, `_tidemark/` synced. From here
//!    on the epoch *will* be committed: every byte of it is durable and the intent is too.
//! 2. Each staged file is renamed to its final name (missing directories are made first) and the
//!    directories are synced. A reader that goes by names alone sees the files come one by one.
//! 3. `pending.json` is renamed to the run's name and `_tidemark/` synced: a reader of the manifest
//!    sees the epoch, at once and whole.
//! 4. Obsolete files and runs are removed.
//!
//! After a crash, a `pending.json` is carried on from step 2, where a staged file that is gone has
//! already got its final name; without it, what lies in `tmp/` never happened. Both may be done
//! any number of times.
//!
//! # Cost
//!
//! An epoch writes one small file. As soon as 32 runs of one level stand at the end, they
//! are merged into one of the next level (written and synced before the old ones are removed), so
//! there are at most 31 runs of each level, and a file's entry is copied once per level.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::storage::{Disk, Storage, StorageWriter};
use crate::{ConnectorError, OutputMode, Result};

/// The directory of the manifest, in the directory of the data.
pub const MANIFEST_DIR: &str = "_tidemark";

pub(super) const PENDING: &str = "pending.json";
pub(super) const OWNER: &str = "owner.json";
pub(super) const TMP: &str = "tmp";
const VERSION: u32 = 1;

/// How often a reader lists a directory that changes under it.
const ATTEMPTS: u32 = 25;

/// A committed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the directory, with `/`.
    pub path: String,
    /// The epoch that wrote it.
    pub epoch: u64,
    /// How many rows it holds.
    pub rows: u64,
    /// How long it is.
    pub bytes: u64,
    /// Its name in `tmp/` while it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
}

/// The epochs `first` to `last` of the manifest. See the module's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The version of the format.
    pub version: u32,
    /// The id of the query that writes here.
    pub query: String,
    /// Its name.
    pub query_name: String,
    /// What the sink was told.
    pub mode: OutputMode,
    /// The first epoch.
    pub first: u64,
    /// The last epoch.
    pub last: u64,
    /// The last epoch of the run before; `None`: nothing before it counts.
    pub previous: Option<u64>,
    /// The files.
    pub files: Vec<FileEntry>,
    /// The paths that it replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obsolete: Vec<String>,
}

impl Run {
    /// A run of one epoch.
    pub(super) fn of_epoch(
        owner: &Owner,
        mode: OutputMode,
        epoch: u64,
        previous: Option<u64>,
    ) -> Self {
        Self {
            version: VERSION,
            query: owner.query.clone(),
            query_name: owner.query_name.clone(),
            mode,
            first: epoch,
            last: epoch,
            previous,
            files: Vec::new(),
            obsolete: Vec::new(),
        }
    }
}

/// Which query writes to a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) version: u32,
    pub(super) query: String,
    pub(super) query_name: String,
}

impl Owner {
    pub(super) fn new(query: &str, query_name: &str) -> Self {
        Self {
            version: VERSION,
            query: query.into(),
            query_name: query_name.into(),
        }
    }
}

/// The name of a run: what a listing tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunName {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) level: u32,
}

impl RunName {
    pub(super) fn file_name(self) -> String {
        format!("{:020}-{:020}.{}.json", self.first, self.last, self.level)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (epochs, level) = name.strip_suffix(".json")?.split_once('.')?;
        let (first, last) = epochs.split_once('-')?;
        let epoch = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok()).flatten();
        Some(Self {
            first: epoch(first)?,
            last: epoch(last)?,
            level: level.parse().ok()?,
        })
    }

    fn covers(self, other: Self) -> bool {
        self != other && self.first <= other.first && other.last <= self.last
    }
}

/// The runs of a listing in order, those that count and those that others cover.
pub(super) fn sort_runs(names: &[String]) -> (Vec<RunName>, Vec<RunName>) {
    let mut runs: Vec<RunName> = names
        .iter()
        .filter_map(|name| RunName::parse(name))
        .collect();
    runs.sort_by_key(|run| (run.first, std::cmp::Reverse(run.last)));
    let mut kept: Vec<RunName> = Vec::with_capacity(runs.len());
    let mut covered = Vec::new();
    for run in runs {
        match kept.last() {
            Some(newest) if newest.covers(run) => covered.push(run),
            _ => kept.push(run),
        }
    }
    (kept, covered)
}

/// The committed files of a directory, oldest epoch first; `None` where there is no manifest.
///
/// A directory that a query has claimed and not yet written to has a manifest without files.
pub fn committed_files(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    let runs = committed_runs(&Disk, path)?;
    Ok(runs.map(|runs| {
        let files = runs.iter().flat_map(|run| &run.files);
        files.map(|file| path.join(&file.path)).collect()
    }))
}

/// The chain of runs, oldest first.
pub(super) fn committed_runs(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<Run>>> {
    let dir = path.join(MANIFEST_DIR);
    let mut broken = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(u64::from(attempt.min(10))));
        }
        let Some(names) = list(storage, &dir)? else {
            return Ok(None);
        };
        let (runs, _) = sort_runs(&names);
        if runs.is_empty() {
            let claimed = names.iter().any(|name| name == OWNER || name == PENDING);
            return Ok(claimed.then(Vec::new));
        }
        match chain(storage, &dir, &runs)? {
            Ok(chain) => return Ok(Some(chain)),
            Err(missing) => broken = missing,
        }
    }
    Err(ConnectorError::Inconsistent(format!(
        "the manifest in {} has a gap: {broken} is missing. Was a file removed by hand? Put it back, \
         or move {MANIFEST_DIR} away to read every file that lies in the directory",
        dir.display()
    )))
}

/// The runs that count, or what of them is missing.
fn chain(storage: &dyn Storage, dir: &Path, runs: &[RunName]) -> Result<Result<Vec<Run>, String>> {
    let mut chain: Vec<Run> = Vec::with_capacity(runs.len());
    for name in runs.iter().rev() {
        if let Some(next) = chain.last() {
            match next.previous {
                None => break,
                Some(previous) if previous == name.last => {}
                Some(previous) => return Ok(Err(format!("epoch {previous}"))),
            }
        }
        match read::<Run>(storage, &dir.join(name.file_name()))? {
            Some(run) => chain.push(run),
            None => return Ok(Err(name.file_name())),
        }
    }
    if let Some(Run {
        previous: Some(previous),
        ..
    }) = chain.last()
    {
        return Ok(Err(format!("epoch {previous}")));
    }
    chain.reverse();
    Ok(Ok(chain))
}

/// The names in a directory, or `None` where it is not there.
pub(super) fn list(storage: &dyn Storage, dir: &Path) -> Result<Option<Vec<String>>> {
    match storage.list(dir) {
        Ok(entries) => Ok(Some(entries.into_iter().map(|entry| entry.name).collect())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("cannot list", dir, source)),
    }
}

/// An object of the manifest, or `None` where the file is not there.
pub(super) fn read<T: Versioned>(storage: &dyn Storage, file: &Path) -> Result<Option<T>> {
    let bytes = match storage.read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("cannot read", file, source)),
    };
    let bad = |reason: String| ConnectorError::BadFile {
        path: file.to_owned(),
        format: "a manifest of Tidemark's file sink",
        reason,
    };
    let object: T = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if object.version() != VERSION {
        let reason = format!(
            "its version is {}, this program knows {VERSION}",
            object.version()
        );
        return Err(bad(reason));
    }
    Ok(Some(object))
}

/// Anything that says which version of the format it is in.
pub(super) trait Versioned: serde::de::DeserializeOwned {
    fn version(&self) -> u32;
}

impl Versioned for Run {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for Owner {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Writes an object so that `file` is there whole or not at all, and durable.
pub(super) fn publish<T: Serialize>(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    object: &T,
) -> Result<()> {
    let temporary = dir.join(TMP).join(name);
    write_synced(&temporary, object, storage.create(&temporary))?;
    let file = dir.join(name);
    storage
        .rename(&temporary, &file)
        .map_err(|source| io_error("cannot create", &file, source))?;
    storage
        .sync_dir(dir)
        .map_err(|source| io_error("cannot sync", dir, source))
}

/// Writes an object into a file just opened, and syncs it.
pub(super) fn write_synced<T: Serialize>(
    path: &Path,
    object: &T,
    file: io::Result<Box<dyn StorageWriter>>,
) -> Result<()> {
    let written = file.and_then(|mut file| {
        let mut bytes = serde_json::to_vec(object)?;
        bytes.push(b'\n');
        file.write_all(&bytes)?;
        file.sync()
    });
    written.map_err(|source| io_error("cannot write", path, source))
}

/// Removes a file that may be gone already.
pub(super) fn remove(storage: &dyn Storage, file: &Path) -> Result<()> {
    match storage.remove(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("cannot remove", file, error))
        }
        _ => Ok(()),
    }
}

/// Makes the names in several directories durable; those that are gone have none.
pub(super) fn sync_dirs(storage: &dyn Storage, dirs: &BTreeSet<PathBuf>) -> Result<()> {
    for dir in dirs {
        match storage.sync_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("cannot sync", dir, error));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> ConnectorError {
    ConnectorError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_run(dir: &Path, first: u64, last: u64, level: u32, previous: Option<u64>) {
        let owner = Owner::new("id", "q");
        let mut run = Run::of_epoch(&owner, OutputMode::Append, last, previous);
        run.first = first;
        run.files = (first..=last)
            .map(|epoch| FileEntry {
                path: format!("f{epoch}"),
                epoch,
                rows: 1,
                bytes: 1,
                staged: None,
            })
            .collect();
        let name = RunName { first, last, level }.file_name();
        std::fs::write(dir.join(name), serde_json::to_vec(&run).unwrap()).unwrap();
    }

    fn names(path: &Path) -> Vec<String> {
        let files = committed_files(path).unwrap().unwrap();
        files
            .iter()
            .map(|file| file.file_name().unwrap().to_str().unwrap().into())
            .collect()
    }

    #[test]
    fn a_covered_run_counts_once_and_a_null_ends_the_chain() {
        let root = tempfile::tempdir().unwrap();
        assert!(committed_files(root.path()).unwrap().is_none());
        let dir = root.path().join(MANIFEST_DIR);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(OWNER), "{}").unwrap();
        assert_eq!(committed_files(root.path()).unwrap(), Some(vec![]));
        write_run(&dir, 0, 0, 0, None);
        write_run(&dir, 1, 1, 0, Some(0));
        write_run(&dir, 0, 1, 1, None);
        write_run(&dir, 5, 5, 0, Some(1));
        assert_eq!(names(root.path()), ["f0", "f1", "f5"]);
        write_run(&dir, 6, 6, 0, None);
        assert_eq!(names(root.path()), ["f6"]);
    }

    #[test]
    fn a_gap_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(MANIFEST_DIR);
        std::fs::create_dir(&dir).unwrap();
        write_run(&dir, 0, 0, 0, None);
        write_run(&dir, 2, 2, 0, Some(1));
        let error = committed_files(root.path()).unwrap_err().to_string();
        assert!(error.contains("epoch 1 is missing"), "{error}");
    }

    #[test]
    fn run_names_are_read_back() {
        let name = RunName {
            first: 3,
            last: 40,
            level: 2,
        };
        assert_eq!(RunName::parse(&name.file_name()), Some(name));
        assert_eq!(RunName::parse("pending.json"), None);
        assert_eq!(RunName::parse("3-40.2.json"), None);
    }
}
