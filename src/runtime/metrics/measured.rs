//! What an epoch showed beside its progress.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemark_connectors::{Backlog, Source};

use crate::operators::OperatorStats;
use crate::runtime::epoch::{Decided, Failed, Outcome, Share};
use crate::runtime::latency::Latencies;
use crate::runtime::watermark::{PartitionWatermark, Watermarks};
use crate::time::{EventTime, NO_WATERMARK};

/// See the module. Made on the sequencer's thread, and only where somebody asks for metrics.
pub struct Measured {
    /// How long each phase took, by Spark's name of it.
    pub(super) durations: BTreeMap<&'static str, Duration>,
    /// The epoch's watermark, once there is one.
    pub(super) watermark: Option<EventTime>,
    /// The greatest event time that was read.
    pub(super) newest: Option<EventTime>,
    /// What waits in each source that counts it.
    pub(super) backlogs: Vec<Option<Backlog>>,
    /// What failed, by source.
    pub(super) failed: Vec<Failed>,
    /// Where each partition with an event time stands.
    pub(super) partitions: Vec<PartitionWatermark>,
    /// What the stateful operators did, by node.
    pub(super) operators: BTreeMap<usize, OperatorStats>,
    /// How the work was spread, by worker.
    pub(super) shares: Vec<Share>,
    /// How long rows took that the sink has acknowledged, microseconds, and how many.
    pub(super) latencies: Latencies,
    /// The names of the query's parts, and how long each was at work.
    pub(super) busy: Vec<(String, Duration)>,
    /// How many rows were set aside.
    pub(super) dead_letters: u64,
}

impl Measured {
    /// Of an epoch that is committed. `busy`: how long each part of the query was at work.
    pub(in crate::runtime) fn new(
        decided: &Decided,
        outcome: &Outcome,
        busy: Vec<(String, Duration)>,
        (sources, watermarks): (&[Box<dyn Source>], &Watermarks),
    ) -> Self {
        let watermark = decided.entry.watermark;
        Self {
            durations: decided.durations.clone(),
            watermark: (watermark != NO_WATERMARK).then_some(watermark),
            newest: outcome.read.iter().filter_map(|read| read.max).max(),
            backlogs: sources.iter().map(|source| source.backlog()).collect(),
            failed: outcome.failed.clone(),
            partitions: watermarks.by_partition(),
            operators: outcome.operators.clone(),
            shares: outcome.shares.clone(),
            latencies: outcome.latencies.clone(),
            busy,
            dead_letters: outcome.dead_letters,
        }
    }
}
