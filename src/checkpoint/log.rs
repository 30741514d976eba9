//! The entries of the logs: what was decided (the offset log) and what was done (the commit log).
//!
//! An epoch's [`OffsetEntry`] is durable before anyone reads what it names. Epochs that were
//! logged together form a [`Group`], and a [`CommitEntry`] covers one or more whole groups: with
//! micro-batches a group is one epoch, in continuous mode it is all the ticks of a checkpoint
//! interval. Both are plain data, stored as JSON; a field that is added later has a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemark_connectors::PlannedRange;

use super::Manifest;
use super::history::{History, Seen};
use crate::state::Waiting;
use crate::time::{Epoch, EventTime, NO_WATERMARK};

/// What one epoch reads, and when it happens. All that a replay needs to be exact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffsetEntry {
    /// The epoch.
    pub epoch: Epoch,
    /// Its watermark: what state is evicted by.
    pub watermark: EventTime,
    /// The watermark of the epoch before: what its rows are late against.
    pub previous_watermark: EventTime,
    /// Its `current_timestamp()`, microseconds UTC.
    pub timestamp_us: i64,
    /// Where each partition's event time stood when the watermark was decided.
    #[serde(default)]
    pub partitions: Vec<PartitionState>,
    /// What is read of each source, by the source's index in the plan.
    pub sources: Vec<SourceRange>,
    /// The epoch was run for the sake of the watermark alone.
    #[serde(default)]
    pub no_data: bool,
}

/// What an epoch reads of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceRange {
    /// `None`: nothing.
    pub range: Option<PlannedRange>,
}

/// How far event time has come in one partition of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The source's index in the plan.
    pub source: usize,
    /// The partition, as its splits name it.
    pub partition: String,
    /// The greatest event time seen; `None`: no row with one.
    pub max_event_time: Option<EventTime>,
    /// It does not hold the watermark back.
    #[serde(default)]
    pub idle: bool,
    /// The `current_timestamp()` of the last epoch that had data of it, microseconds UTC.
    #[serde(default)]
    pub last_data_us: Option<i64>,
    /// What has come of it so far.
    #[serde(default)]
    pub seen: Seen,
}

/// What is known once the epochs `first..=last` are done: sinks hold them, their state is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommitEntry {
    /// The first epoch.
    pub first: Epoch,
    /// The last epoch.
    pub last: Epoch,
    /// How many workers kept the state; 0 is not allowed.
    pub workers: usize,
    /// The watermark of `last`.
    pub watermark: EventTime,
    /// The watermark of the epoch before `last`.
    pub previous_watermark: EventTime,
    /// Where each partition's event time stands after `last`: the next watermark follows from it.
    pub partitions: Vec<PartitionState>,
    /// When the commit was made, microseconds UTC.
    pub timestamp_us: i64,
    /// How many rows the sink was given.
    pub output_rows: u64,
    /// How much each stateful operator keeps.
    pub operators: Vec<OperatorSize>,
    /// What the query has done so far.
    pub history: History,
}

impl Default for CommitEntry {
    fn default() -> Self {
        Self {
            first: 0,
            last: 0,
            workers: 1,
            watermark: NO_WATERMARK,
            previous_watermark: NO_WATERMARK,
            partitions: Vec::new(),
            timestamp_us: 0,
            output_rows: 0,
            operators: Vec::new(),
            history: History::default(),
        }
    }
}

/// How much a stateful operator keeps, over all workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperatorSize {
    /// Its node's id in the plan.
    pub operator: u32,
    /// What it is, as `EXPLAIN` calls it.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of memory.
    pub bytes: u64,
    /// The rows that are given once the watermark has passed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Of a join: the rows of each input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sides: Option<[u64; 2]>,
}

/// Epochs that were logged in one step; never empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The epochs, in order and without a gap.
    pub entries: Vec<OffsetEntry>,
}

impl Group {
    /// Its first epoch.
    pub fn first(&self) -> Epoch {
        self.entries.first().map_or(0, |entry| entry.epoch)
    }

    /// Its last epoch.
    pub fn last(&self) -> Epoch {
        self.entries.last().map_or(0, |entry| entry.epoch)
    }
}

/// Everything that recovery decides on, as it was read from disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logs {
    /// The offset log, oldest first.
    pub groups: Vec<Group>,
    /// The commit log, oldest first.
    pub commits: Vec<CommitEntry>,
    /// Which files hold the state of which epoch.
    pub manifest: Manifest,
    /// The files that are there, with their sizes.
    pub present: BTreeMap<String, u64>,
}

impl Logs {
    /// The newest commit.
    pub fn last_commit(&self) -> Option<&CommitEntry> {
        self.commits.last()
    }

    /// The newest epoch of the offset log.
    pub fn last_logged(&self) -> Option<Epoch> {
        self.groups.last().map(Group::last)
    }

    /// The groups that are logged and not committed.
    pub fn uncommitted(&self) -> &[Group] {
        let done = self.last_commit().map(|commit| commit.last);
        let from = self
            .groups
            .partition_point(|group| done.is_some_and(|d| group.first() <= d));
        &self.groups[from..]
    }
}
