//! An epoch as it was decided, and what the workers made of it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;
use tidemark_connectors::Staged;

use crate::checkpoint::{OffsetEntry, StateFile};
use crate::operators::dead_letter::DeadLetter;
use crate::operators::{OperatorStats, SourceProgress};
use crate::runtime::control::Done;

/// An epoch as it was decided.
pub(super) struct Decided {
    pub(super) entry: OffsetEntry,
    /// The sink holds it already.
    pub(super) sink_holds: bool,
    /// The newest offset of each source, where it knows one.
    pub(super) latest: Vec<Option<Value>>,
    /// Milliseconds by phase.
    pub(super) durations: BTreeMap<&'static str, u64>,
    pub(super) began: Instant,
}

/// What the workers made of it together.
#[derive(Default)]
pub(super) struct Outcome {
    /// What was read, by source.
    pub(super) read: Vec<SourceProgress>,
    /// What the operators did, by node.
    pub(super) operators: BTreeMap<usize, OperatorStats>,
    /// What the writers staged, by worker.
    pub(super) staged: Vec<Staged>,
    /// The state files, by worker.
    pub(super) files: Vec<StateFile>,
    /// The rows that were set aside.
    pub(super) letters: Vec<DeadLetter>,
    /// What went wrong without harm to the query.
    pub(super) warnings: Vec<String>,
}

impl Outcome {
    /// Of the reports of all workers of a query with this many sources.
    pub(super) fn new(sources: usize, reports: Vec<Done>) -> Self {
        let mut all = Self {
            read: vec![SourceProgress::default(); sources],
            ..Self::default()
        };
        for report in reports {
            for (source, partitions) in &report.sources {
                for progress in partitions.values() {
                    all.read[*source].add(progress);
                }
            }
            for (operator, stats) in &report.operators {
                all.operators.entry(*operator).or_default().add(stats);
            }
            all.staged.extend(report.staged);
            all.files.extend(report.state);
            all.letters.extend(report.dead_letters);
        }
        all
    }

    /// Rows written.
    pub(super) fn output_rows(&self) -> u64 {
        self.staged.iter().map(|staged| staged.rows).sum()
    }
}

/// Milliseconds since then.
pub(super) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
