//! The committing half of the file sink: the steps that [`super::manifest`] describes.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{
    self, FileEntry, MANIFEST_DIR, OWNER, Owner, PENDING, Run, RunName, TMP, io_error,
};
use crate::storage::{self, Storage, parent};
use crate::{ConnectorError, OutputMode, Result};

/// How many runs of one level are merged into one of the next.
const FANOUT: usize = 32;

/// Commits epochs into one directory.
#[derive(Debug)]
pub(super) struct Committer {
    storage: Arc<dyn Storage>,
    root: PathBuf,
    owner: Owner,
    mode: OutputMode,
    fanout: usize,
    /// What the directory holds; `None` before it was looked at, and after an error.
    state: Option<State>,
    /// Directories that are there and durable.
    durable: HashSet<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    claimed: bool,
    /// The runs that count, oldest first.
    runs: Vec<RunName>,
    /// In complete mode, the paths of all committed files.
    files: Vec<String>,
}

impl Committer {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        root: PathBuf,
        query: &str,
        query_name: &str,
        mode: OutputMode,
    ) -> Self {
        let owner = Owner::new(query, query_name);
        let durable = HashSet::new();
        Self {
            storage,
            root,
            owner,
            mode,
            fanout: FANOUT,
            state: None,
            durable,
        }
    }

    #[cfg(test)]
    pub(super) fn set_fanout(&mut self, fanout: usize) {
        self.fanout = fanout;
    }

    /// The newest committed epoch. Repairs the directory first, if need be.
    pub(super) fn last_committed(&mut self) -> Result<Option<u64>> {
        let state = match self.state.take() {
            Some(state) => state,
            None => self.recover()?,
        };
        let newest = state.runs.last().map(|run| run.last);
        self.state = Some(state);
        Ok(newest)
    }

    /// Repairs the directory, claims it, and removes what was staged.
    pub(super) fn discard_uncommitted(&mut self) -> Result<()> {
        self.state = None;
        let mut state = self.recover()?;
        self.claim()?;
        state.claimed = true;
        let tmp = self.manifest_dir().join(TMP);
        for name in manifest::list(&*self.storage, &tmp)?.unwrap_or_default() {
            manifest::remove(&*self.storage, &tmp.join(name))?;
        }
        self.state = Some(state);
        Ok(())
    }

    /// Commits `files`, which are staged, as `epoch`.
    pub(super) fn commit(&mut self, epoch: u64, files: Vec<FileEntry>) -> Result<()> {
        let newest = self.last_committed()?;
        if newest.is_some_and(|newest| epoch <= newest) {
            return Ok(());
        }
        // Put back only when all went well: after an error the directory is looked at anew.
        let mut state = self.state.take().unwrap_or_default();
        if !state.claimed {
            self.claim()?;
            state.claimed = true;
        }
        let whole = self.mode == OutputMode::Complete;
        let previous = if whole { None } else { newest };
        let mut run = Run::of_epoch(&self.owner, self.mode, epoch, previous);
        run.files = files;
        run.obsolete = std::mem::take(&mut state.files);
        manifest::publish(&*self.storage, &self.manifest_dir(), PENDING, &run)?;
        self.roll_forward(&run)?;
        if whole {
            self.remove_obsolete(&run)?;
            for old in std::mem::take(&mut state.runs) {
                manifest::remove(&*self.storage, &self.manifest_dir().join(old.file_name()))?;
            }
            state.files = run.files.iter().map(|file| file.path.clone()).collect();
        }
        state.runs.push(RunName {
            first: epoch,
            last: epoch,
            level: 0,
        });
        self.merge(&mut state.runs)?;
        self.state = Some(state);
        Ok(())
    }

    fn manifest_dir(&self) -> PathBuf {
        self.root.join(MANIFEST_DIR)
    }

    /// Looks at the directory and finishes what a crash left half done.
    fn recover(&mut self) -> Result<State> {
        let dir = self.manifest_dir();
        let Some(names) = manifest::list(&*self.storage, &dir)? else {
            return Ok(State::default());
        };
        if names.iter().any(|name| name == OWNER) {
            self.check_owner()?;
        }
        let mut names = names;
        if names.iter().any(|name| name == PENDING)
            && let Some(run) = manifest::read::<Run>(&*self.storage, &dir.join(PENDING))?
        {
            self.check_query(&run.query, &run.query_name)?;
            self.roll_forward(&run)?;
            names = manifest::list(&*self.storage, &dir)?.unwrap_or_default();
        }
        let (mut runs, mut covered) = manifest::sort_runs(&names);
        let mut files = Vec::new();
        if let Some(newest) = runs.last().copied() {
            let path = dir.join(newest.file_name());
            let run: Run = manifest::read(&*self.storage, &path)?
                .ok_or_else(|| io_error("cannot read", &path, io::ErrorKind::NotFound.into()))?;
            self.check_query(&run.query, &run.query_name)?;
            self.remove_obsolete(&run)?;
            if run.previous.is_none() {
                covered.extend(runs.drain(..runs.len() - 1));
            }
        }
        for run in covered {
            manifest::remove(&*self.storage, &dir.join(run.file_name()))?;
        }
        if self.mode == OutputMode::Complete {
            let all = manifest::committed_runs(&*self.storage, &self.root)?.unwrap_or_default();
            files = all
                .into_iter()
                .flat_map(|run| run.files)
                .map(|file| file.path)
                .collect();
        }
        Ok(State {
            claimed: false,
            runs,
            files,
        })
    }

    /// Steps 2 and 3 of a commit; those that are done already are passed over.
    fn roll_forward(&mut self, run: &Run) -> Result<()> {
        let dir = self.manifest_dir();
        let mut touched = BTreeSet::new();
        for file in &run.files {
            let target = self.root.join(&file.path);
            let parent = parent(&target).to_owned();
            self.ensure_dir(&parent)?;
            if let Some(staged) = &file.staged {
                self.place(&dir.join(TMP).join(staged), &target)?;
            }
            touched.insert(parent);
        }
        manifest::sync_dirs(&*self.storage, &touched)?;
        let name = RunName {
            first: run.first,
            last: run.last,
            level: 0,
        }
        .file_name();
        let (pending, target) = (dir.join(PENDING), dir.join(name));
        self.storage
            .rename(&pending, &target)
            .and_then(|()| self.storage.sync_dir(&dir))
            .map_err(|source| io_error("cannot create", &target, source))
    }

    /// Gives a staged file its final name, unless it has got it already.
    fn place(&self, staged: &Path, target: &Path) -> Result<()> {
        match self.storage.rename(staged, target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let there = self.storage.exists(target);
                if there.map_err(|source| io_error("cannot look for", target, source))? {
                    return Ok(());
                }
                Err(ConnectorError::Inconsistent(format!(
                    "{} was staged and is gone, and {} is not there either: the epoch cannot be \
                     committed. Was it removed by hand, or is the directory not shared by all \
                     processes? Put the file back, or restore the checkpoint and the directory together",
                    staged.display(),
                    target.display()
                )))
            }
            Err(source) => Err(io_error("cannot create", target, source)),
        }
    }

    /// Removes what `run` replaced. Needs no order: its manifest no longer names those files.
    fn remove_obsolete(&self, run: &Run) -> Result<()> {
        let current: HashSet<&str> = run.files.iter().map(|file| file.path.as_str()).collect();
        let mut touched = BTreeSet::new();
        for path in run
            .obsolete
            .iter()
            .filter(|path| !current.contains(path.as_str()))
        {
            let file = self.root.join(path);
            manifest::remove(&*self.storage, &file)?;
            touched.insert(parent(&file).to_owned());
        }
        manifest::sync_dirs(&*self.storage, &touched)
    }

    /// Merges the newest runs while there are enough of one level.
    fn merge(&self, runs: &mut Vec<RunName>) -> Result<()> {
        let dir = self.manifest_dir();
        while let Some(start) = runs.len().checked_sub(self.fanout) {
            let parts = &runs[start..];
            let level = parts[0].level;
            if parts.iter().any(|part| part.level != level) {
                break;
            }
            let name = RunName {
                first: parts[0].first,
                last: parts[parts.len() - 1].last,
                level: level + 1,
            };
            let mut merged = Run::of_epoch(&self.owner, self.mode, name.last, None);
            merged.first = name.first;
            for (index, part) in parts.iter().enumerate() {
                let path = dir.join(part.file_name());
                let run: Run = manifest::read(&*self.storage, &path)?.ok_or_else(|| {
                    io_error("cannot read", &path, io::ErrorKind::NotFound.into())
                })?;
                if index == 0 {
                    merged.previous = run.previous;
                }
                merged
                    .files
                    .extend(run.files.into_iter().map(|file| FileEntry {
                        staged: None,
                        ..file
                    }));
            }
            manifest::publish(&*self.storage, &dir, &name.file_name(), &merged)?;
            for part in runs.drain(start..) {
                manifest::remove(&*self.storage, &dir.join(part.file_name()))?;
            }
            runs.push(name);
        }
        Ok(())
    }

    /// Writes down that this query owns the directory, unless that is written already.
    fn claim(&mut self) -> Result<()> {
        prepare(&*self.storage, &self.root)?;
        let dir = self.manifest_dir();
        let path = dir.join(OWNER);
        match self.storage.create_new(&path) {
            Ok(file) => {
                manifest::write_synced(&path, &self.owner, Ok(file))?;
                self.storage
                    .sync_dir(&dir)
                    .map_err(|source| io_error("cannot sync", &dir, source))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.check_owner()? {
                    return Ok(());
                }
                manifest::publish(&*self.storage, &dir, OWNER, &self.owner)
            }
            Err(source) => Err(io_error("cannot write", &path, source)),
        }
    }

    /// Refuses another query's directory; false where the claim is torn by a crash.
    fn check_owner(&self) -> Result<bool> {
        let path = self.manifest_dir().join(OWNER);
        let bytes = self
            .storage
            .read(&path)
            .map_err(|source| io_error("cannot read", &path, source))?;
        if serde_json::from_slice::<serde_json::Value>(&bytes).is_err() {
            return Ok(false);
        }
        if let Some(owner) = manifest::read::<Owner>(&*self.storage, &path)? {
            self.check_query(&owner.query, &owner.query_name)?;
        }
        Ok(true)
    }

    fn check_query(&self, query: &str, name: &str) -> Result<()> {
        if query == self.owner.query {
            return Ok(());
        }
        let root = self.root.display();
        Err(ConnectorError::Inconsistent(format!(
            "query '{}' ({}) cannot write to {root}: query '{name}' ({query}) writes there. Give it \
             another 'path', or the checkpoint of that query if it is the same one. If that query \
             is over for good, move {root}/{MANIFEST_DIR} away: its files stay as they are",
            self.owner.query_name, self.owner.query
        )))
    }

    /// Makes a directory under the root, durably.
    fn ensure_dir(&mut self, dir: &Path) -> Result<()> {
        if dir == self.root || self.durable.contains(dir) {
            return Ok(());
        }
        self.ensure_dir(parent(dir))?;
        make_dir(&*self.storage, dir)?;
        self.durable.insert(dir.to_owned());
        Ok(())
    }
}

/// Makes the directories that writers and the commit need, durably.
pub(super) fn prepare(storage: &dyn Storage, root: &Path) -> Result<()> {
    storage::make_dirs(storage, root).map_err(|source| cannot_make(root, source))?;
    let dir = root.join(MANIFEST_DIR);
    make_dir(storage, &dir)?;
    make_dir(storage, &dir.join(TMP))
}

fn make_dir(storage: &dyn Storage, dir: &Path) -> Result<()> {
    storage::make_dir(storage, dir).map_err(|source| cannot_make(dir, source))
}

fn cannot_make(dir: &Path, source: io::Error) -> ConnectorError {
    io_error("cannot create the directory", dir, source)
}
