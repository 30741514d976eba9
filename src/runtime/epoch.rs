//! An epoch as it was decided, and what the workers made of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemark_connectors::{ReadLimit, Staged};

use crate::checkpoint::{Deeds, OffsetEntry, OperatorSize, StateFile};
use crate::operators::dead_letter::DeadLetter;
use crate::operators::late::LateRow;
use crate::operators::{EpochInfo, OperatorStats, SourceProgress};
use crate::runtime::busy::BusyParts;
use crate::runtime::clock;
use crate::runtime::control::Done;
use crate::runtime::latency::{Arrivals, Latencies, since};

/// An epoch as it was decided.
pub(super) struct Decided {
    pub(super) entry: OffsetEntry,
    /// The sink holds it already.
    pub(super) sink_holds: bool,
    /// The newest offset of each source, where it knows one.
    pub(super) latest: Vec<Option<Value>>,
    /// What bounded it, by source.
    pub(super) limits: Vec<ReadLimit>,
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
    /// Rows of ticks that the sink has already.
    pub(super) written: u64,
    /// The state files, by worker.
    pub(super) files: Vec<StateFile>,
    /// The rows that were set aside, epoch by epoch, until they are written.
    pub(super) aside: Vec<SetAside>,
    /// How many dead letters there are.
    pub(super) dead_letters: u64,
    /// When what was read arrived, where nobody knows yet that it is acknowledged.
    pub(super) arrivals: Arrivals,
    /// How long what is acknowledged took.
    pub(super) latencies: Latencies,
    /// What the time went to.
    pub(super) busy: BusyParts,
    /// What went wrong without harm to the query.
    pub(super) warnings: Vec<String>,
}

/// Rows of an epoch that are not part of its result.
pub(super) struct SetAside {
    pub(super) epoch: EpochInfo,
    /// Those that could not be processed.
    pub(super) letters: Vec<DeadLetter>,
    /// Those that came too late.
    pub(super) late_rows: Vec<LateRow>,
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
    pub(super) fn new(sources: usize, epoch: &EpochInfo, reports: Vec<Done>) -> Self {
        let mut aside = SetAside {
            epoch: *epoch,
            letters: vec![],
            late_rows: vec![],
        };
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
            all.busy.beside(&report.busy);
            all.dead_letters += report.dead_letters.len() as u64;
            all.shares.push(share);
            all.staged.extend(report.staged);
            all.files.extend(report.state);
            aside.letters.extend(report.dead_letters);
            all.arrivals.extend(report.arrivals);
            aside.late_rows.extend(report.late_rows);
        }
        if !(aside.letters.is_empty() && aside.late_rows.is_empty()) {
            all.aside.push(aside);
        }
        all
    }

    /// Takes in what a later epoch of the same commit came to.
    pub(super) fn then(&mut self, later: Self) {
        for (all, read) in self.read.iter_mut().zip(&later.read) {
            all.add(read);
        }
        for (all, failed) in self.failed.iter_mut().zip(&later.failed) {
            all.records += failed.records;
            all.rows += failed.rows;
        }
        for (operator, stats) in &later.operators {
            self.operators.entry(*operator).or_default().then(stats);
        }
        self.shares.resize(later.shares.len(), Share::default());
        for (all, share) in self.shares.iter_mut().zip(&later.shares) {
            all.read += share.read;
            all.state_bytes = share.state_bytes;
        }
        self.staged.extend(later.staged);
        self.files.extend(later.files);
        self.aside.extend(later.aside);
        self.dead_letters += later.dead_letters;
        self.warnings.extend(later.warnings);
        self.written += later.written;
        self.arrivals.extend(later.arrivals);
        self.latencies.extend(later.latencies);
        self.busy.then(&later.busy);
    }

    /// The sink has all of it.
    pub(super) fn acknowledge(&mut self) {
        let now = clock::now();
        let arrivals = self.arrivals.drain(..);
        self.latencies
            .extend(arrivals.map(|(arrived, rows)| (since(arrived, now), rows)));
    }

    /// What the operators keep, for the commit.
    pub(super) fn sizes(&self) -> Vec<OperatorSize> {
        let operators = self.operators.iter();
        operators
            .map(|(operator, stats)| OperatorSize {
                operator: *operator as u32,
                name: stats.name.clone(),
                rows: stats.rows_total,
                bytes: stats.memory_used_bytes,
                waiting: stats.waiting.clone(),
                sides: stats.sides,
            })
            .collect()
    }

    /// What was done, for the query's history.
    pub(super) fn deeds(&self) -> Deeds {
        let late = self.operators.iter();
        Deeds {
            read: (self.read.iter())
                .map(|read| (read.rows, read.dropped))
                .collect(),
            written: self.output_rows(),
            late: late
                .map(|(operator, stats)| (*operator as u32, stats.rows_dropped_by_watermark))
                .collect(),
        }
    }

    /// Rows written.
    pub(super) fn output_rows(&self) -> u64 {
        let staged: u64 = self.staged.iter().map(|staged| staged.rows).sum();
        self.written + staged
    }
}
