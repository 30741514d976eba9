//! What the engine asks of a source.
//!
//! A [`Source`] is the planner: it stands beside the sequencer, once a query, and turns "what is
//! new" into a [`PlannedRange`]. The range is written to the offset log before anyone reads it. A
//! [`SourceReader`] stands beside every worker and reads the range's [`Split`]s. Reading a split
//! twice must give the same rows in the same order: that is what makes a replay exact.
//!
//! Life of a source: `begin`, `keep` and `restore` (once, with all that the log remembers), then any number of
//! `plan` -> (logged) -> splits are read -> `committed`. `freeze` may come once, after which
//! `plan` gives only what was there at that moment.
//!
//! In continuous mode a source that can be followed is not planned: `follow` says which partitions there are,
//! each is read by a [`Follower`] as its records arrive, and what they have read becomes a range afterwards
//! (`followed`), which is logged before its rows are committed.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::storage::Storage;
use crate::{ConnectorError, Result};

/// The name of the hidden struct column that says where a row came from.
pub const METADATA_COLUMN: &str = "_metadata";

/// A piece of a planned range that one worker reads. Plain data: it travels and is logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The partition it belongs to. Watermarks are kept per partition; a `file` source has one.
    #[serde(with = "shared_text")]
    pub partition: Arc<str>,
    /// What to read, in the source's own terms (path and byte range, first and last offset, ...).
    pub range: Value,
    /// About how many bytes there are to read; what balances splits among workers.
    pub bytes: u64,
}

/// Shared text as a plain string; serde's own way needs its feature `rc`.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

/// What one epoch reads of one source. Plain data: it is logged before it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedRange {
    /// Where the range begins, as progress shows it (`startOffset`).
    pub start: Value,
    /// Where the range ends, as progress shows it (`endOffset`).
    pub end: Value,
    /// The pieces, in an order that is the same whenever the range is planned again.
    pub splits: Vec<Split>,
}

/// What [`Source::keep`] says.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// A directory beside the checkpoint's files, made when it is needed; `None`: there is no checkpoint.
    pub place: Option<(PathBuf, Arc<dyn Storage>)>,
    /// The source's number in the query, the same at every start.
    pub source: usize,
    /// The columns that readers ask for: by index into [`Source::schema`], ascending; its length is the metadata
    /// column.
    pub columns: Vec<usize>,
    /// How many processes read.
    pub processes: usize,
    /// No stream is read beside it.
    pub alone: bool,
}

/// How much one epoch may read, beside the source's own options.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadLimit {
    /// At most about this many rows, where the source can count them beforehand.
    pub rows: Option<u64>,
    /// At most about this many bytes; one file or record may exceed it.
    pub bytes: Option<u64>,
}

impl ReadLimit {
    /// At most how many rows that is where a row has about so many bytes.
    pub fn rows_of(self, row_bytes: u64) -> Option<u64> {
        let of_bytes = self.bytes.map(|bytes| (bytes / row_bytes.max(1)).max(1));
        [self.rows, of_bytes].into_iter().flatten().min()
    }
}

/// What waits in a source whose offsets do not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The planning half of a source.
pub trait Source: Send + Debug {
    /// Every column of a row: data columns, then partition columns. Never the metadata column.
    fn schema(&self) -> SchemaRef;

    /// The fields of the hidden [`METADATA_COLUMN`]; empty where a source has none.
    fn metadata_schema(&self) -> SchemaRef;

    /// As progress shows it: `FileSource[in/]`.
    fn description(&self) -> String;

    /// Says for which query it reads: its name and its id, which lives as long as its checkpoint.
    fn begin(&mut self, query_name: &str, query_id: &str) {
        let _ = (query_name, query_id);
    }

    /// Says where a table that cannot be read twice may keep what it read, and what will be asked of it. In a
    /// process that only brings workers nothing but readers are asked for then.
    fn keep(&mut self, keeping: &Keeping) -> Result<()> {
        let _ = keeping;
        Ok(())
    }

    /// Takes back what the offset log remembers, in order, before the first `plan`.
    ///
    /// The last of them may be the range of an epoch that is about to be replayed; it counts as
    /// planned all the same.
    fn restore(&mut self, log: &[PlannedRange]) -> Result<()>;

    /// The end of what could be read now (`latestOffset`), or `None` where that is unknown.
    fn latest_offset(&mut self) -> Result<Option<Value>>;

    /// What was found and is in no range yet. `None` where that is the distance between the end of
    /// the last range and [`latest_offset`](Self::latest_offset), number by number.
    fn backlog(&self) -> Option<Backlog> {
        None
    }

    /// Decides the next range; `None` when nothing is new. Counts as planned from here on.
    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>>;

    /// Has `wake` called, on any thread, when there may be something to plan. A source that cannot say so is
    /// asked again and again.
    fn wake(&mut self, wake: Wake) {
        drop(wake);
    }

    /// The partitions that are to be followed from now on, beside those of earlier calls: each as a split
    /// that begins where reading goes on. `None` where this source is read in planned ranges only.
    fn follow(&mut self) -> Result<Option<Vec<Split>>> {
        Ok(None)
    }

    /// The range that followers have read: the splits that they [cut](Follower::cut) since the last range.
    /// `None` where there is nothing that the log must know.
    fn followed(&mut self, splits: Vec<Split>) -> Result<Option<PlannedRange>> {
        let _ = splits;
        Ok(None)
    }

    /// All sinks hold the rows of `range`: it will never be asked for again.
    fn committed(&mut self, range: &PlannedRange) -> Result<()>;

    /// From now on plans only what is there at this moment (`available-now`, `once`).
    fn freeze(&mut self) -> Result<()>;

    /// Nothing will ever be new again: a bounded generator at its end, a frozen source read out.
    fn exhausted(&self) -> bool;

    /// How long the sequencer may sleep before it asks `plan` again, when nothing was new.
    fn poll_interval(&self) -> std::time::Duration;

    /// How many of the oldest logged ranges `restore` no longer needs (the log may forget them).
    fn forgettable(&self) -> usize {
        0
    }

    /// The log has forgotten its `ranges` oldest ranges.
    fn forgotten(&mut self, _ranges: usize) {}

    /// About how many bytes there are to read now, where that can be told without reading them.
    fn size(&self) -> Option<u64> {
        None
    }

    /// Whether files beside the checkpoint go with its ranges: the log must remember each range as long as its
    /// epoch can be run again.
    fn is_kept(&self) -> bool {
        false
    }

    /// What went wrong and is no reason to end, since this was last asked.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// The reading half, shared by the workers of this process.
    fn reader(&self) -> Arc<dyn SourceReader>;
}

/// The reading half of a source: opens splits.
pub trait SourceReader: Send + Sync + Debug {
    /// Opens `split`. `projection` names the wanted columns by index into
    /// [`Source::schema`], ascending; index `schema.fields().len()` is the metadata column.
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>>;

    /// Follows the partition of a split that [`Source::follow`] gave. `wake` is called, on any thread, when
    /// there is something to read after there was nothing.
    fn follow(&self, split: &Split, projection: &[usize], wake: Wake) -> Result<Box<dyn Follower>> {
        let _ = (projection, wake);
        Err(ConnectorError::Inconsistent(format!(
            "partition {} cannot be followed",
            split.partition
        )))
    }

    /// Where some rows of a split came from. `rows` counts from 0 in the order in which the split
    /// gives them, ascending; `projection` is the one that it was opened with. Only asked for rows
    /// that something is wrong with, so it may read the split again.
    fn locate(&self, split: &Split, projection: &[usize], rows: &[u64]) -> Result<Vec<Place>> {
        let _ = projection;
        Ok(rows
            .iter()
            .map(|row| Place {
                text: format!("{} {}, row {row}", split.partition, split.range),
                ..Place::default()
            })
            .collect())
    }
}

/// Where a row came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// For people: `in/a.json:17`.
    pub text: String,
    /// The record's bytes as they were read, where the source still has them.
    pub record: Option<Vec<u8>>,
    /// Its key, where records have keys.
    pub key: Option<Vec<u8>>,
    /// Its headers, where records have headers.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record: its name and its value.
pub type RecordHeader = (String, Option<Vec<u8>>);

/// Reads one split, batch by batch, on a worker's thread.
pub trait SplitReader: Send {
    /// The next batch (some thousand rows), with the projected columns in the order asked for.
    fn read(&mut self) -> Result<Read>;

    /// Whether its rows are rows that have gone: each takes back one that an earlier range gave.
    fn retracts(&self) -> bool {
        false
    }

    /// From now on, sets records aside that cannot be decoded and would be an error (`FAILFAST`),
    /// where the source can go on after one. Called before the first `read`, if at all.
    fn keep_rejected(&mut self) {}

    /// The records set aside since this was last asked.
    fn rejected(&mut self) -> Vec<Rejected> {
        Vec::new()
    }
}

/// Tells whoever reads that there is something.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Reads a partition as its records arrive; it has no end. [`Read::Pending`]: nothing is here.
pub trait Follower: SplitReader {
    /// What is being read since the last cut, as a split without an end: for the places of rows.
    fn since(&self) -> Split;

    /// What was read since the last cut, as a split that gives the same rows in the same order; `None`
    /// where it is nothing. The rows of a split count from 0, so those after a cut do.
    fn cut(&mut self) -> Option<Split>;

    /// When the oldest record of the batch last read arrived, microseconds since 1970 UTC.
    fn arrived(&self) -> i64;

    /// Nothing was left when it was last read: it wakes who follows when there is something.
    fn waits(&self) -> bool;
}

/// A record that was set aside.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// How many rows the split had given before it.
    pub row: u64,
    /// Where it is, with its bytes.
    pub place: Place,
    /// What is wrong with it, as the error would have said.
    pub reason: String,
}

/// What a [`SplitReader`] has to give.
#[derive(Debug)]
pub enum Read {
    /// Rows, and how many records were dropped beside them because they could not be decoded.
    Batch {
        /// The rows.
        batch: RecordBatch,
        /// Records left out (`DROPMALFORMED`).
        dropped: u64,
    },
    /// Nothing yet; ask again after a moment.
    Pending,
    /// The split is read out.
    End,
}
