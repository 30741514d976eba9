//! [`Checkpoint`]: the one way to write a checkpoint.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark_connectors::PlannedRange;
use tidemark_connectors::storage::{Disk, Storage, make_dirs};
use uuid::Uuid;

use super::database::{Database, Meta};
use super::directory::{Scales, look, remove_orphans};
use super::error::{CheckpointError, Outcome, Result};
use super::fold::Folder;
use super::lock::Lock;
use super::{
    CommitEntry, Decision, FileKind, Fold, FoldPolicy, Identity, Logs, Manifest, OffsetEntry,
    RestorePlan, StateDir, StateFile, decide,
};
use crate::time::Epoch;

/// A query's checkpoint, held by the query that runs on it.
///
/// The order of an epoch: [`log_offsets`](Self::log_offsets), then sinks stage and workers write
/// their state files (through [`state_dir`](Self::state_dir)), then sinks commit, then
/// [`commit`](Self::commit). Each returns when it is durable. After an error whose
/// [outcome](CheckpointError::outcome) is [`Outcome::MayHaveHappened`], every later write is
/// refused: only a reopened checkpoint knows what happened.
#[derive(Debug)]
pub struct Checkpoint {
    // Stops before the lock goes: fields are dropped in order.
    folder: Option<Folder>,
    dir: PathBuf,
    query: Uuid,
    storage: Arc<dyn Storage>,
    state: StateDir,
    database: Database,
    logged: Vec<(Epoch, Epoch)>,
    commits: Vec<CommitEntry>,
    manifest: Manifest,
    /// Folded files that are to be recorded with the next commit.
    folded: Vec<StateFile>,
    fold_failures: Vec<CheckpointError>,
    /// Folds were recorded, and what they stand for is still there.
    replaced: bool,
    uncertain: bool,
    _lock: Lock,
}

/// What [`Checkpoint::maintain`] did.
#[derive(Debug, Default)]
pub struct Maintenance {
    /// Commits that were forgotten.
    pub purged_commits: usize,
    /// State files that are not needed any more and go.
    pub removed_files: usize,
    /// Folds that were started.
    pub folds_started: usize,
    /// Folds that failed since the last call. The query can go on; the reasons are to be shown.
    pub fold_failures: Vec<CheckpointError>,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir`, or makes one. Refuses the checkpoint of another query, one
    /// that is in use, and a directory that holds something else. Removes what a crash left.
    pub fn open(dir: impl AsRef<Path>, identity: &Identity) -> Result<Self> {
        Self::open_with(dir.as_ref(), identity, Arc::new(Disk))
    }

    /// [`open`](Self::open) on a storage of one's own.
    pub fn open_with(dir: &Path, identity: &Identity, storage: Arc<dyn Storage>) -> Result<Self> {
        let fresh = look(dir, &*storage)?;
        let state_path = dir.join("state");
        make_dirs(&*storage, &state_path).map_err(CheckpointError::writing(
            "create the directory",
            &state_path,
        ))?;
        let lock = Lock::take(dir)?;
        let new = Meta {
            query: Uuid::new_v4(),
            name: identity.name.clone(),
            fingerprint: identity.fingerprint.clone(),
        };
        let (mut database, meta) = Database::open(dir, &*storage, &new, fresh)?;
        let differences = meta.fingerprint.differences(&identity.fingerprint);
        if !differences.is_empty() {
            let dir = dir.to_path_buf();
            return Err(CheckpointError::OtherQuery {
                dir,
                stored: meta.name,
                differences,
            });
        }
        if meta.name != identity.name {
            database.rename_query(&*storage, &identity.name)?;
        }
        // The database's name must be as durable as what it holds.
        storage
            .sync_dir(dir)
            .map_err(CheckpointError::writing("make durable", dir))?;
        let state = StateDir::new(dir, meta.query, Arc::clone(&storage));
        let manifest = database.manifest()?;
        remove_orphans(&state, &manifest)?;
        Ok(Self {
            folder: None,
            dir: dir.to_path_buf(),
            query: meta.query,
            storage,
            state,
            logged: database
                .groups()?
                .iter()
                .map(|g| (g.first(), g.last()))
                .collect(),
            commits: database.commits()?,
            manifest,
            database,
            folded: Vec::new(),
            fold_failures: Vec::new(),
            replaced: false,
            uncertain: false,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The query's id: made with the checkpoint, and the same for as long as it exists.
    pub fn query_id(&self) -> Uuid {
        self.query
    }

    /// Where workers write and read state files.
    pub fn state_dir(&self) -> &StateDir {
        &self.state
    }

    /// The newest commit.
    pub fn last_commit(&self) -> Option<&CommitEntry> {
        self.commits.last()
    }

    /// Counts a start of the query on this checkpoint: how many there have been with it. `outline`: what is
    /// to be known of the query where it is not at hand.
    pub fn count_start(&mut self, outline: &str) -> Result<u64> {
        self.certain()?;
        let done = self.database.count_start(&*self.storage, outline);
        self.noting(done)
    }

    /// Everything that recovery decides on.
    pub fn logs(&self) -> Result<Logs> {
        Ok(Logs {
            groups: self.database.groups()?,
            commits: self.commits.clone(),
            manifest: self.manifest.clone(),
            present: self.state.list()?.into_iter().collect(),
        })
    }

    /// How the query starts, given the newest epoch that its sink holds.
    pub fn recover(&self, sink_last_committed: Option<Epoch>) -> Result<Decision> {
        Ok(decide(&self.logs()?, sink_last_committed))
    }

    /// All ranges that were logged of a source and not trimmed since, oldest first: what
    /// [`Source::restore`](tidemark_connectors::Source::restore) takes.
    pub fn source_log(&self, source: usize) -> Result<Vec<PlannedRange>> {
        self.database.source_log(source)
    }

    /// Forgets the `forgettable` oldest ranges of a source's log. Ranges of epochs that are not
    /// committed stay in any case, and with `for_good` those of epochs that a rollback would run again.
    /// Returns how many went.
    pub fn trim_source_log(
        &mut self,
        source: usize,
        forgettable: usize,
        for_good: bool,
    ) -> Result<usize> {
        self.certain()?;
        let until = if for_good {
            self.commits.first()
        } else {
            self.commits.last()
        };
        let Some(committed) = until.map(|commit| commit.last) else {
            return Ok(0);
        };
        if forgettable == 0 {
            return Ok(0);
        }
        let done = self
            .database
            .trim_source_log(&*self.storage, source, forgettable, committed);
        self.noting(done)
    }

    /// Logs what the next epochs read, all of them or none: one epoch with micro-batches, a
    /// group of ticks in continuous mode.
    pub fn log_offsets(&mut self, entries: &[OffsetEntry]) -> Result<()> {
        self.certain()?;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let newest = self.logged.last().map(|(_, last)| *last);
        let newest = newest.max(self.commits.last().map(|commit| commit.last));
        let expected = newest.map_or(0, |epoch| epoch + 1);
        for (i, entry) in entries.iter().enumerate() {
            if entry.epoch != expected + i as Epoch {
                return Err(self.out_of_order(format!(
                    "epoch {} is logged where epoch {} is next",
                    entry.epoch,
                    expected + i as Epoch
                )));
            }
        }
        if entries
            .windows(2)
            .any(|pair| pair[1].watermark < pair[0].watermark)
            || entries
                .iter()
                .any(|entry| entry.watermark < entry.previous_watermark)
        {
            return Err(self.out_of_order(format!("the watermark goes back in epoch {expected}")));
        }
        let done = self.database.log(&*self.storage, entries);
        self.noting(done)?;
        self.logged.push((first.epoch, last.epoch));
        Ok(())
    }

    /// Commits epochs: `files` (at most one a worker) are their state, and sinks hold their rows.
    /// Files that were folded meanwhile are recorded with it.
    pub fn commit(&mut self, entry: &CommitEntry, files: &[StateFile]) -> Result<()> {
        self.certain()?;
        self.check_commit(entry, files)
            .map_err(|reason| self.out_of_order(reason))?;
        self.collect_folds(false);
        let all: Vec<&StateFile> = files.iter().chain(&self.folded).collect();
        if !all.is_empty() {
            let path = self.state.path();
            self.storage
                .sync_dir(path)
                .map_err(CheckpointError::writing("make durable", path))?;
        }
        let done = self.database.commit(&*self.storage, entry, &all);
        self.noting(done)?;
        self.replaced |= !self.folded.is_empty();
        self.manifest.add(
            files
                .iter()
                .cloned()
                .chain(std::mem::take(&mut self.folded)),
        );
        self.commits.push(entry.clone());
        Ok(())
    }

    /// Whether the files that workers of other processes wrote are in this checkpoint's directory: they
    /// may hold another directory for it.
    pub fn check_written<'a>(&self, files: impl IntoIterator<Item = &'a StateFile>) -> Result<()> {
        for file in files {
            let path = self.state.path().join(&file.name);
            let bytes = match self.storage.open(&path).and_then(|found| found.length()) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(CheckpointError::reading("open", &path)(error)),
            };
            if bytes != Some(file.bytes) {
                let worker = file.worker;
                return Err(CheckpointError::NotShared { path, worker });
            }
        }
        Ok(())
    }

    /// The files that make the state of a committed epoch.
    pub fn restore_plan(&self, epoch: Epoch) -> Result<RestorePlan> {
        let Some(commit) = self.commits.iter().find(|commit| commit.last == epoch) else {
            return Err(CheckpointError::NotKept {
                dir: self.dir.clone(),
                epoch,
                kept: kept(&self.commits),
            });
        };
        let files = self.manifest.files_for(epoch, commit.workers);
        Ok(RestorePlan {
            epoch,
            workers: commit.workers,
            watermark: commit.previous_watermark,
            files,
        })
    }

    /// Folds files in the background from now on.
    pub fn fold_in_background(&mut self, fold: Fold, policy: FoldPolicy) -> Result<()> {
        self.folder = Some(Folder::start(self.state.clone(), fold, policy)?);
        Ok(())
    }

    /// What keeps a checkpoint small, to be called now and then (after each commit, say): starts
    /// the folds that are due and forgets what `min_batches` retained commits do not need.
    pub fn maintain(&mut self, min_batches: u64) -> Result<Maintenance> {
        let (purged_commits, removed_files) = self.purge(min_batches)?;
        self.collect_folds(false);
        let mut folds_started = 0;
        // Not before the last folds are recorded: they would be made again.
        if self.folded.is_empty()
            && let Some(folder) = &mut self.folder
        {
            folds_started = folder.start_due(&self.manifest, &self.commits);
        }
        let fold_failures = std::mem::take(&mut self.fold_failures);
        Ok(Maintenance {
            purged_commits,
            removed_files,
            folds_started,
            fold_failures,
        })
    }

    /// Waits until the folds that were started are done. The next commit records them.
    pub fn wait_for_folds(&mut self) {
        self.collect_folds(true);
    }

    /// Waits for the folds that were started and records them: for the end of a run, where no commit
    /// comes that would. Queries of a few epochs a run would never see a fold otherwise.
    pub fn finish_folds(&mut self) -> Result<()> {
        self.certain()?;
        self.collect_folds(true);
        if self.folded.is_empty() {
            return Ok(());
        }
        let path = self.state.path();
        self.storage
            .sync_dir(path)
            .map_err(CheckpointError::writing("make durable", path))?;
        let done = self.database.add_files(&*self.storage, &self.folded);
        self.noting(done)?;
        self.manifest.add(std::mem::take(&mut self.folded));
        self.forget(0).map(drop)
    }

    /// Forgets commits beyond the newest `min_batches` (at least one stays), their offsets, and
    /// the files that only they need. Works in strides of an eighth, and after folds, so that it does
    /// not cost every epoch a sync. Returns how many commits and files went.
    pub fn purge(&mut self, min_batches: u64) -> Result<(usize, usize)> {
        let keep = usize::try_from(min_batches.max(1)).unwrap_or(usize::MAX);
        let beyond = self.commits.len().saturating_sub(keep);
        if beyond > keep / 8 || (self.replaced && !self.commits.is_empty()) {
            self.forget(beyond)
        } else {
            Ok((0, 0))
        }
    }

    /// Forgets the oldest `gone` commits, and all files that the others do not need.
    fn forget(&mut self, gone: usize) -> Result<(usize, usize)> {
        self.certain()?;
        let retained = &self.commits[gone..];
        let mut names = self.manifest.superfluous(retained);
        for busy in self.folder.iter().flat_map(Folder::in_use) {
            names.remove(busy);
        }
        let oldest = retained[0].last;
        let done = self.database.purge(&*self.storage, oldest, &names);
        self.noting(done)?;
        self.replaced = false;
        self.commits.drain(..gone);
        self.manifest.forget(&names);
        let first = self.commits[0].first;
        self.logged.retain(|(_, last)| *last >= first);
        // Only now that nobody asks for them. One that stays is an orphan of the next start.
        let removed = names.len();
        match &mut self.folder {
            Some(folder) if removed > 0 => folder.remove(names),
            _ => names.iter().for_each(|name| drop(self.state.remove(name))),
        }
        Ok((gone, removed))
    }

    /// How many bytes the checkpoint takes.
    pub fn size_on_disk(&self) -> Result<u64> {
        self.scales().weigh()
    }

    /// What tells [`size_on_disk`](Self::size_on_disk) without the checkpoint.
    pub fn scales(&self) -> Scales {
        Scales {
            dir: self.dir.clone(),
            state: self.state.clone(),
        }
    }

    fn check_commit(&self, entry: &CommitEntry, files: &[StateFile]) -> Result<(), String> {
        let CommitEntry {
            first,
            last,
            workers,
            ..
        } = *entry;
        let previous = self.commits.last();
        let expected = previous.map_or(0, |commit| commit.last + 1);
        if first != expected || last < first || workers == 0 {
            return Err(format!(
                "a commit of epochs {first} to {last} by {workers} workers, where epoch {expected} is next"
            ));
        }
        if !self.logged.iter().any(|(start, _)| *start == first)
            || !self.logged.iter().any(|(_, end)| *end == last)
        {
            return Err(format!(
                "the epochs {first} to {last} are committed and were not logged as whole groups"
            ));
        }
        let mut seen = BTreeSet::new();
        for file in files {
            let covers =
                file.last == last && (file.kind == FileKind::Snapshot || file.first == first);
            if file.workers != workers || file.worker >= workers || !covers {
                return Err(format!(
                    "the state file {} is not of the epochs {first} to {last} and {workers} workers",
                    file.name
                ));
            }
            if !seen.insert(file.worker) {
                return Err(format!("worker {} has two state files", file.worker));
            }
        }
        let whole = files
            .iter()
            .filter(|file| file.kind == FileKind::Snapshot)
            .count();
        if self.manifest.is_rescale(previous, workers) && whole < workers {
            return Err(format!(
                "the number of workers is {workers} and was {}, so the first commit must be a snapshot from each worker; {whole} came",
                previous.map_or(0, |commit| commit.workers)
            ));
        }
        Ok(())
    }

    fn collect_folds(&mut self, wait: bool) {
        let committed = self.commits.last().map_or(0, |commit| commit.last);
        if let Some(folder) = &mut self.folder {
            let (files, errors) = folder.finished(committed, wait);
            self.folded.extend(files);
            self.fold_failures.extend(errors);
        }
    }

    fn certain(&self) -> Result<()> {
        if self.uncertain {
            return Err(self.out_of_order(
                "an earlier write may or may not have happened; stop the query and start it again"
                    .into(),
            ));
        }
        Ok(())
    }

    fn noting<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.uncertain |= error.outcome() == Some(Outcome::MayHaveHappened);
        }
        result
    }

    fn out_of_order(&self, reason: String) -> CheckpointError {
        CheckpointError::OutOfOrder {
            dir: self.dir.clone(),
            reason,
        }
    }
}

pub(super) fn kept(commits: &[CommitEntry]) -> String {
    match (commits.first(), commits.last()) {
        (Some(first), Some(last)) => {
            format!(
                "those of the commits from epoch {} to {} are",
                first.last, last.last
            )
        }
        _ => "nothing is committed yet".into(),
    }
}

#[cfg(test)]
#[path = "facade_tests.rs"]
mod tests;
