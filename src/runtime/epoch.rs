//! An epoch as it was decided, and what the workers made of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemark_connectors::Staged;

use crate::checkpoint::{OffsetEntry, StateFile};
use crate::operators::dead_letter::DeadLetter;
use crate::operators::late::LateRow;
use crate::operators::{OperatorStats, SourceProgress};
use crate::runtime::control::Done;

/// An epoch as it was decided.
pub(super) struct Decided {
    pub(super) entry: OffsetEntry,
    /// The sink holds it already.
    pub(super) sink_holds: bool,
    /// The newest offset of each source, where it knows one.
    pub(super) latest: Vec<Option<Value>>,
    /// How long each phase took.
    pub(super) durations: BTreeMap<&'static str, Duration>,
    pub(super) began: Instant,
}

/// What the workers made of it together.
#[derive(Default)]
pub(super) struct Outcome {
    /// What was read, by source.
    pub(super) read: Vec<SourceProgress>,
    /// What of it failed, by source.
    pub(super) failed: Vec<Failed>,
    /// What the operators did, by node.
    pub(super) operators: BTreeMap<usize, OperatorStats>,
    /// How the work was spread, by worker.
    pub(super) shares: Vec<Share>,
    /// What the writers staged, by worker.
    pub(super) staged: Vec<Staged>,
    /// The state files, by worker.
    pub(super) files: Vec<StateFile>,
    /// The rows that were set aside, until they are written.
    pub(super) letters: Vec<DeadLetter>,
    /// The rows that came too late, until they are written.
    pub(super) late_rows: Vec<LateRow>,
    /// How many dead letters there are.
    pub(super) dead_letters: u64,
    /// What went wrong without harm to the query.
    pub(super) warnings: Vec<String>,
}

/// What of a source failed.
#[derive(Clone, Copy, Default)]
pub(super) struct Failed {
    /// Records that could not be decoded: none of them is among the rows read.
    pub(super) records: u64,
    /// Rows that were read and then set aside.
    pub(super) rows: u64,
}

/// What one worker did.
#[derive(Clone, Copy, Default)]
pub(super) struct Share {
    /// Rows read.
    pub(super) read: u64,
    /// Bytes of state that it keeps.
    pub(super) state_bytes: u64,
}

impl Outcome {
    /// Of the reports of all workers of a query with this many sources.
    pub(super) fn new(sources: usize, reports: Vec<Done>) -> Self {
        let mut all = Self {
            read: vec![SourceProgress::default(); sources],
            failed: vec![Failed::default(); sources],
            ..Self::default()
        };
        for report in reports {
            let mut share = Share::default();
            for (source, partitions) in &report.sources {
                for progress in partitions.values() {
                    all.read[*source].add(progress);
                    all.failed[*source].records += progress.dropped;
                    share.read += progress.rows;
                }
            }
            for (operator, stats) in &report.operators {
                all.operators.entry(*operator).or_default().add(stats);
                share.state_bytes += stats.memory_used_bytes;
            }
            for letter in &report.dead_letters {
                if let Some(origin) = &letter.origin {
                    let failed = &mut all.failed[origin.source];
                    // A record that gave no row has no values.
                    if letter.row.is_some() {
                        failed.rows += 1;
                    } else {
                        failed.records += 1;
                    }
                }
            }
            all.dead_letters += report.dead_letters.len() as u64;
            all.shares.push(share);
            all.staged.extend(report.staged);
            all.files.extend(report.state);
            all.letters.extend(report.dead_letters);
            all.late_rows.extend(report.late_rows);
        }
        all
    }

    /// Rows written.
    pub(super) fn output_rows(&self) -> u64 {
        self.staged.iter().map(|staged| staged.rows).sum()
    }
}
