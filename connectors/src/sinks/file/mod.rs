//! The sink that writes files: json, csv or parquet in a directory, each epoch exactly once.
//!
//! # Options
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `path` | | the directory; made if need be |
//! | `format` | `parquet` | `parquet`, `json` (an object a line) or `csv` |
//! | `partitionBy` | | columns, `a,b`: rows go to `a=1/b=2/`, percent-encoded, `__HIVE_DEFAULT_PARTITION__` for null and the empty text; these columns are not in the files |
//! | `targetFileSize` | `128mb` | about how long a file may become before the next begins |
//! | `compression` | parquet `snappy`, else `none` | `none`, `gzip`, `zstd`; parquet also `snappy` and `lz4` |
//! | `timeZone` | `UTC` | the zone in which TIMESTAMPs are written as text |
//! | `header`, `sep`, `quote`, `escape`, `nullValue` | `false`, `,`, `"`, `\`, nothing | csv, as in Spark |
//! | `ignoreNullFields` | `true` | json: null fields are left out |
//!
//! # Output modes
//!
//! | mode | rows |
//! |---|---|
//! | append | as they are |
//! | update | a log of upserts, with `_epoch BIGINT`. A row that vanished cannot be told: deletes are left out; use changelog where they matter |
//! | changelog | each change, with `_epoch BIGINT` and `_change_type STRING` |
//! | complete | the manifest names the newest epoch's files only; older files are removed after the commit. Directories of `partitionBy` that lost their last file stay, empty |
//!
//! # Who may read, who may write
//!
//! Which files count is said by the [`manifest`], under `path/_tidemark/`; Tidemark's own file
//! source goes by it. Who lists the directory instead (Spark, `DuckDB`, `cat`) sees only whole files of epochs
//! that are sure to be committed, but may see an epoch of several files come in one by one. Names
//! that begin with `_` or `.` are never data.
//!
//! A directory belongs to one query; another is refused. Files that lie there already, or are put
//! there by others, are left alone and are not part of the manifest. All processes of a query need to see
//! the same directory.

mod commit;
mod encode;
pub mod manifest;
mod options;
mod partition;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use commit::Committer;
use options::FileOptions;
use writer::{FileWriter, Names};

use crate::storage::Storage;
use crate::{
    Delivery, Distribution, Options, OutputMode, Result, Sink, SinkConfig, SinkWriter, Staged,
};

/// Writes files.
#[derive(Debug)]
pub struct FileSink {
    storage: Arc<dyn Storage>,
    options: Arc<FileOptions>,
    mode: OutputMode,
    names: Names,
    committer: Committer,
}

impl FileSink {
    /// A sink on the configuration's storage. Nothing is touched yet.
    pub fn open(options: &Options, config: SinkConfig) -> Result<Self> {
        let storage = config.storage.clone();
        let options = FileOptions::read(options, &config)?;
        Ok(Self {
            committer: Committer::new(
                Arc::clone(&storage),
                options.root.clone(),
                &config.query_id,
                &config.query_name,
                config.mode,
            ),
            names: Names::new(&config.query_id, options.extension()),
            storage,
            options: Arc::new(options),
            mode: config.mode,
        })
    }
}

impl Sink for FileSink {
    fn description(&self) -> String {
        format!("FileSink[{}]", self.options.root.display())
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn distribution(&self) -> Distribution {
        Distribution::PerWorker
    }

    fn last_committed(&mut self) -> Result<Option<u64>> {
        self.committer.last_committed()
    }

    fn discard_uncommitted(&mut self) -> Result<()> {
        self.committer.discard_uncommitted()
    }

    fn commit(&mut self, epoch: u64, staged: &[Staged]) -> Result<()> {
        let files = self.names.entries(epoch, staged)?;
        self.committer.commit(epoch, files)
    }

    fn writer(&self, worker: usize) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(FileWriter::new(
            Arc::clone(&self.storage),
            Arc::clone(&self.options),
            self.names.clone(),
            self.mode,
            worker,
        )?))
    }
}
