//! What the engine asks of a sink.
//!
//! Workers write an epoch's rows through their [`SinkWriter`]s and `stage` them: after that the
//! rows are durable but invisible. When every worker's state is durable too, the one [`Sink`] of
//! the query commits all that was staged, writing the epoch's number into the target atomically
//! with the rows. A sink that already holds an epoch is not asked again.
//!
//! Where epochs follow each other without a pause, writers write and stage the next epoch while the one before
//! is being committed, unless the sink says that it cannot ([`Sink::overlaps`]).
//!
//! In continuous mode several epochs (ticks) are written, then staged and committed together under the number of
//! the last, unless the sink takes each tick by itself ([`Visible::EachTick`]).
//!
//! An epoch that was staged and not committed is written again after a restart: `stage` of the
//! second try replaces the first, and what the first left behind is removed by
//! [`Sink::discard_uncommitted`].

use std::fmt::{self, Debug};
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::storage::Storage;
use crate::{ConnectorError, Result};

/// What a sink is told of a query's changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputMode {
    /// Only rows that can no longer change.
    Append,
    /// The rows that changed in the epoch; a row that vanished is a delete.
    Update,
    /// The whole result, each epoch.
    Complete,
    /// Every insertion and retraction.
    Changelog,
}

impl fmt::Display for OutputMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::Update => "update",
            Self::Complete => "complete",
            Self::Changelog => "changelog",
        })
    }
}

impl FromStr for OutputMode {
    type Err = ConnectorError;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "append" => Ok(Self::Append),
            "update" => Ok(Self::Update),
            "complete" => Ok(Self::Complete),
            "changelog" => Ok(Self::Changelog),
            _ => Err(ConnectorError::OptionValue {
                key: "outputMode".into(),
                value: text.into(),
                expected: "append, update, complete or changelog".into(),
            }),
        }
    }
}

/// What happened to one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeType {
    /// The row is new.
    Insert,
    /// The row is gone.
    Delete,
    /// The row as it was before an update of its key; a `UpdatePostimage` follows it.
    UpdatePreimage,
    /// The row as it is after an update of its key.
    UpdatePostimage,
}

impl ChangeType {
    /// The name in `_change_type`, as in Delta's change data feed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Delete => "delete",
            Self::UpdatePreimage => "update_preimage",
            Self::UpdatePostimage => "update_postimage",
        }
    }
}

/// Rows for a sink. Multiplicities are already spelled out: a row that came twice is here twice.
#[derive(Clone, Debug)]
pub struct Output {
    /// The rows, in the query's schema.
    pub batch: RecordBatch,
    /// One for each row; `None` where all are inserts (append, complete).
    pub changes: Option<Vec<ChangeType>>,
}

/// How rows reach the writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Each worker writes what it computed.
    PerWorker,
    /// All rows go to the first worker of the first process, whose writer is the only one.
    Single,
}

/// What a sink promises after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Each epoch is there once.
    ExactlyOnce,
    /// The epoch in flight at the crash may be there twice.
    AtLeastOnce,
}

/// When readers of a sink's target see the rows of a continuous query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// When they are committed: with the checkpoint.
    WhenCommitted,
    /// With each tick, which is staged and committed by itself: that must be cheap.
    EachTick,
    /// As they are written, at least by readers who do not wait for commits.
    AsWritten,
}

/// What a sink is opened with, beside its options.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The query's name (progress, `queryName`, the memory sink's table).
    pub query_name: String,
    /// The query's id, which lives as long as its checkpoint.
    pub query_id: String,
    /// The columns of the query.
    pub schema: SchemaRef,
    /// What the sink is told.
    pub mode: OutputMode,
    /// Indices of the columns that identify a row, where the plan knows them.
    pub key: Option<Vec<usize>>,
    /// Where a sink that writes files writes them.
    pub storage: Arc<dyn Storage>,
    /// The query is continuous: rows leave as they are written.
    pub continuous: bool,
}

/// What a writer hands to the commit: plain bytes in the sink's own terms (a list of files, a
/// transaction's name). It is logged with the epoch and travels between processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Staged {
    /// Rows staged.
    pub rows: u64,
    /// The sink's own description of them.
    pub token: serde_json::Value,
}

/// The committing half of a sink, once a query.
pub trait Sink: Send + Debug {
    /// As progress shows it: `FileSink[out/]`.
    fn description(&self) -> String;

    /// What holds after a crash.
    fn delivery(&self) -> Delivery;

    /// Where its writers stand.
    fn distribution(&self) -> Distribution;

    /// Whether writers can take rows of an epoch while the one before it is being committed.
    fn overlaps(&self) -> bool {
        true
    }

    /// When readers see the rows of a continuous query.
    fn visible(&self) -> Visible {
        Visible::WhenCommitted
    }

    /// The newest epoch that the target holds of this query, where the target can say.
    fn last_committed(&mut self) -> Result<Option<u64>>;

    /// Removes what an earlier run staged and never committed. Called once, before the first write.
    fn discard_uncommitted(&mut self) -> Result<()>;

    /// Makes the rows staged for `epoch` visible, all of them or none, and durable.
    fn commit(&mut self, epoch: u64, staged: &[Staged]) -> Result<()>;

    /// A writer for the worker with this index; called on each process for its own workers.
    fn writer(&self, worker: usize) -> Result<Box<dyn SinkWriter>>;
}

/// The writing half of a sink, one a worker.
pub trait SinkWriter: Send {
    /// Takes rows of `epoch`. Epochs come in order; an epoch may have no rows at all.
    fn write(&mut self, epoch: u64, output: &Output) -> Result<()>;

    /// Makes the rows written since the last `stage` durable; they will be committed as `epoch`.
    fn stage(&mut self, epoch: u64) -> Result<Staged>;

    /// As [`stage`](Self::stage), where what takes long may be done on another thread, while later epochs are
    /// written.
    fn stage_apart(&mut self, epoch: u64) -> Result<Staging> {
        let staged = self.stage(epoch)?;
        Ok(Box::new(move || Ok(staged)))
    }

    /// Calls `then` once the target has the rows of `epoch`, all of which are written, where rows leave
    /// [as they are written](Visible::AsWritten).
    fn when_acknowledged(&mut self, epoch: u64, then: Acknowledged) {
        let _ = epoch;
        then();
    }
}

/// Called when rows have arrived, on any thread.
pub type Acknowledged = Box<dyn FnOnce() + Send>;

/// The part of staging that takes long.
pub type Staging = Box<dyn FnOnce() -> Result<Staged> + Send>;
