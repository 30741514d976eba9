//! The writing half of the file sink: rows into staged files, one or more a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::super::changes;
use super::commit;
use super::encode::Encoder;
use super::manifest::{FileEntry, MANIFEST_DIR, TMP, io_error};
use super::options::FileOptions;
use super::partition;
use crate::storage::Storage;
use crate::{ConnectorError, Output, OutputMode, Result, SinkWriter, Staged};

/// Rows are written in slices of this many, so that a file ends near its target size.
const SLICE: usize = 8_192;

/// At most this many files are open at once; the one longest unused is ended before another
/// begins.
const MAX_OPEN: usize = 256;

/// At most about this much waits in memory in all open files together.
const MAX_MEMORY: usize = 256 << 20;

/// A staged file, as [`Staged::token`] describes it.
#[derive(Debug, Serialize, Deserialize)]
struct StagedFile {
    /// Its name in `tmp/`.
    name: String,
    /// Its directory, relative to the root; empty for the root.
    dir: String,
    worker: usize,
    number: u32,
    rows: u64,
    bytes: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Token {
    files: Vec<StagedFile>,
}

/// The names of the files that a query writes.
#[derive(Clone, Debug)]
pub(super) struct Names {
    query: String,
    short: String,
    extension: &'static str,
}

impl Names {
    pub(super) fn new(query: &str, extension: &'static str) -> Self {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        };
        let query: String = query.chars().map(safe).collect();
        let short = query
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(8)
            .collect();
        Self {
            query,
            short,
            extension,
        }
    }

    fn staged(&self, worker: usize, epoch: u64, number: u32) -> String {
        format!("{}-{worker}-{epoch}-{number}", self.query)
    }

    /// The files that `staged` describes, with the names that they get in `epoch`.
    pub(super) fn entries(&self, epoch: u64, staged: &[Staged]) -> Result<Vec<FileEntry>> {
        let mut entries = Vec::new();
        for part in staged.iter().filter(|part| !part.token.is_null()) {
            let token = Token::deserialize(&part.token).map_err(|error| {
                ConnectorError::Inconsistent(format!(
                    "what was staged for epoch {epoch} is no list of files ({error}): was it \
                     staged by another sink?"
                ))
            })?;
            for file in token.files {
                let slash = if file.dir.is_empty() { "" } else { "/" };
                entries.push(FileEntry {
                    path: format!(
                        "{}{slash}part-{epoch:010}-{}-{}-{}.{}",
                        file.dir, file.worker, file.number, self.short, self.extension
                    ),
                    epoch,
                    rows: file.rows,
                    bytes: file.bytes,
                    staged: Some(file.name),
                });
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}

/// Writes one worker's rows.
pub(super) struct FileWriter {
    storage: Arc<dyn Storage>,
    options: Arc<FileOptions>,
    names: Names,
    mode: OutputMode,
    worker: usize,
    tmp: PathBuf,
    /// The columns of a file.
    stored: SchemaRef,
    prepared: bool,
    /// By directory.
    open: BTreeMap<String, OpenFile>,
    done: Vec<StagedFile>,
    number: u32,
    /// Counts slices, to know which file was used last.
    clock: u64,
}

struct OpenFile {
    encoder: Encoder,
    name: String,
    number: u32,
    rows: u64,
    used: u64,
}

impl FileWriter {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        options: Arc<FileOptions>,
        names: Names,
        mode: OutputMode,
        worker: usize,
    ) -> Result<Self> {
        let stored =
            options
                .schema
                .project(&options.stored)
                .map_err(|source| ConnectorError::Arrow {
                    context: "cannot choose the columns of the files".into(),
                    source,
                })?;
        Ok(Self {
            tmp: options.root.join(MANIFEST_DIR).join(TMP),
            stored: Arc::new(stored),
            storage,
            options,
            names,
            mode,
            worker,
            prepared: false,
            open: BTreeMap::new(),
            done: Vec::new(),
            number: 0,
            clock: 0,
        })
    }

    fn file_for(&mut self, dir: &str, epoch: u64) -> Result<&mut OpenFile> {
        if !self.open.contains_key(dir) {
            while self.open.len() >= MAX_OPEN || self.memory() > MAX_MEMORY {
                let Some(idle) = self.longest_unused() else {
                    break;
                };
                self.close(&idle)?;
            }
            let file = self.create(epoch)?;
            self.open.insert(dir.to_owned(), file);
        }
        self.open.get_mut(dir).ok_or_else(|| {
            ConnectorError::Inconsistent(format!("no file is open for directory '{dir}'"))
        })
    }

    fn create(&mut self, epoch: u64) -> Result<OpenFile> {
        if !self.prepared {
            commit::prepare(&*self.storage, &self.options.root)?;
            self.prepared = true;
        }
        let number = self.number;
        self.number += 1;
        let name = self.names.staged(self.worker, epoch, number);
        let path = self.tmp.join(&name);
        let file = self
            .storage
            .create(&path)
            .map_err(|source| io_error("cannot create", &path, source))?;
        let encoder = Encoder::new(&self.options, &self.stored, &path, file)?;
        Ok(OpenFile {
            encoder,
            name,
            number,
            rows: 0,
            used: 0,
        })
    }

    fn memory(&self) -> usize {
        self.open.values().map(|file| file.encoder.memory()).sum()
    }

    fn longest_unused(&self) -> Option<String> {
        self.open
            .iter()
            .min_by_key(|(_, file)| file.used)
            .map(|(dir, _)| dir.clone())
    }

    fn close(&mut self, dir: &str) -> Result<()> {
        let Some(file) = self.open.remove(dir) else {
            return Ok(());
        };
        let bytes = file.encoder.finish()?;
        self.done.push(StagedFile {
            name: file.name,
            dir: dir.to_owned(),
            worker: self.worker,
            number: file.number,
            rows: file.rows,
            bytes,
        });
        Ok(())
    }
}

impl SinkWriter for FileWriter {
    fn write(&mut self, epoch: u64, output: &Output) -> Result<()> {
        let batch = changes::log_rows(output, self.mode, epoch, &self.options.schema)?;
        let target = self.options.target_size;
        for start in (0..batch.num_rows()).step_by(SLICE) {
            let slice = batch.slice(start, SLICE.min(batch.num_rows() - start));
            for (dir, rows) in partition::split(&self.options, &slice)? {
                self.clock += 1;
                let clock = self.clock;
                let file = self.file_for(&dir, epoch)?;
                file.encoder.write(&rows)?;
                file.rows += rows.num_rows() as u64;
                file.used = clock;
                if file.encoder.size() >= target {
                    self.close(&dir)?;
                }
            }
        }
        Ok(())
    }

    fn stage(&mut self, _: u64) -> Result<Staged> {
        while let Some(dir) = self.open.keys().next().cloned() {
            self.close(&dir)?;
        }
        let files = std::mem::take(&mut self.done);
        self.number = 0;
        if !files.is_empty() {
            sync(&*self.storage, &self.tmp)?;
        }
        let rows = files.iter().map(|file| file.rows).sum();
        let token = serde_json::to_value(Token { files }).map_err(|error| {
            ConnectorError::Inconsistent(format!("cannot describe the staged files: {error}"))
        })?;
        Ok(Staged { rows, token })
    }
}

fn sync(storage: &dyn Storage, dir: &Path) -> Result<()> {
    storage
        .sync_dir(dir)
        .map_err(|source| io_error("cannot sync", dir, source))
}
