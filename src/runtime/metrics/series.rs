//! What is kept of a query between two epochs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemark_connectors::Backlog;

use super::lag::{Lag, bounded, lags};
use super::measured::Measured;
use crate::checkpoint::Scales;
use crate::plan::{Plan, Trigger};
use crate::runtime::Progress;
use crate::runtime::progress::SourceProgressReport;
use crate::runtime::watermark::PartitionWatermark;
use crate::time::EventTime;

/// The upper bounds of how long an epoch or a phase of it takes, in seconds.
pub(super) const DURATIONS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];

/// The upper bounds of how old an event is when it is committed, in seconds.
pub(super) const AGES: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    3600.0, 21_600.0, 86_400.0,
];

/// The upper bounds of how long a record takes, in seconds: fine where continuous queries are.
pub(super) const LATENCIES: &[f64] = &[
    0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05,
    0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// How often values were at most so large.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    pub(super) bounds: &'static [f64],
    /// How many values each bucket has that the one before does not; one more than there are bounds.
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    fn add(&mut self, value: Duration) {
        self.add_many(value, 1);
    }

    /// Adds a value so many times.
    fn add_many(&mut self, value: Duration, times: u64) {
        let seconds = value.as_secs_f64();
        self.counts[self.bounds.partition_point(|bound| *bound < seconds)] += times;
        self.sum += seconds * times as f64;
    }
}

/// A query: what is counted since the process began, and how things stand.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// When it ended, if it has.
    pub(super) ended: Option<Instant>,
    pub(super) failures: u64,
    pub(super) restarts: u64,
    pub(super) epochs: u64,
    pub(super) warnings: u64,
    pub(super) dead_letters: u64,
    pub(super) epoch_duration: Histogram,
    pub(super) phase_durations: BTreeMap<&'static str, Histogram>,
    pub(super) event_ages: Histogram,
    /// How long each part was at work.
    pub(super) busy: BTreeMap<String, Duration>,
    /// How long rows took from their arrival to the sink's acknowledgement, where the query is continuous.
    pub(super) latencies: Option<Histogram>,
    /// By the table's name.
    pub(super) sources: BTreeMap<String, Source>,
    /// Rows written, by the table's name.
    pub(super) sinks: BTreeMap<String, u64>,
    /// By the node's number in the plan.
    pub(super) operators: BTreeMap<usize, Operator>,
    /// Rows read, by worker.
    pub(super) worker_rows: BTreeMap<usize, u64>,
    pub(super) now: Now,
}

/// How a running query stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Now {
    pub(super) checkpoint: Option<Scales>,
    /// The newest committed epoch, and when it was committed, in microseconds.
    pub(super) committed: Option<(u64, i64)>,
    pub(super) watermark: Option<EventTime>,
    /// Bytes of state, by worker.
    pub(super) worker_state: Vec<u64>,
}

/// A source of a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) processed: u64,
    pub(super) failed: u64,
    pub(super) now: SourceNow,
}

/// How a source of a running query stands.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceNow {
    /// Where the last range ended.
    end: Value,
    pub(super) lags: BTreeMap<String, Lag>,
    pub(super) backlog: Option<Backlog>,
    /// The watermark of each partition, and whether it is idle.
    pub(super) partitions: BTreeMap<String, (Option<EventTime>, bool)>,
}

/// A stateful operator of a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Operator {
    pub(super) kind: String,
    pub(super) updated: u64,
    pub(super) removed: u64,
    pub(super) late: u64,
    pub(super) now: Option<OperatorNow>,
}

/// How an operator of a running query stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct OperatorNow {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) watermark: Option<EventTime>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            ended: None,
            failures: 0,
            restarts: 0,
            epochs: 0,
            warnings: 0,
            dead_letters: 0,
            epoch_duration: Histogram::new(DURATIONS),
            phase_durations: BTreeMap::new(),
            event_ages: Histogram::new(AGES),
            busy: BTreeMap::new(),
            latencies: None,
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            operators: BTreeMap::new(),
            worker_rows: BTreeMap::new(),
            now: Now::default(),
        }
    }
}

impl Query {
    /// The query starts. What counts rows is there from the beginning, at 0: a rate needs that.
    pub(super) fn start(&mut self, plan: &Plan) {
        self.forget();
        self.ended = None;
        for source in &plan.sources {
            self.sources.entry(source.name.clone()).or_default();
        }
        self.sinks.entry(plan.sink.name.clone()).or_default();
        if matches!(plan.trigger, Trigger::Continuous(_)) {
            self.latencies
                .get_or_insert_with(|| Histogram::new(LATENCIES));
        }
    }

    pub(super) fn checkpointed(&mut self, starts: u64, scales: Scales) {
        self.restarts = self.restarts.max(starts.saturating_sub(1));
        self.now.checkpoint = Some(scales);
    }

    pub(super) fn end(&mut self, failed: bool) {
        self.forget();
        self.ended = Some(Instant::now());
        self.failures += u64::from(failed);
    }

    /// Forgets how things stood.
    fn forget(&mut self) {
        self.now = Now::default();
        for source in self.sources.values_mut() {
            source.now = SourceNow::default();
        }
        for operator in self.operators.values_mut() {
            operator.now = None;
        }
    }

    /// Adds an epoch that was committed at `now`. `lags`: how far operators run behind the watermark.
    pub(super) fn record(
        &mut self,
        (plan, lags): (&Plan, &BTreeMap<usize, i64>),
        progress: &Progress,
        measured: Measured,
        now: i64,
    ) {
        self.epochs += 1;
        self.warnings += progress.warnings.len() as u64;
        self.dead_letters += measured.dead_letters;
        for (phase, spent) in measured.durations {
            if phase == "triggerExecution" {
                self.epoch_duration.add(spent);
            } else {
                let phases = &mut self.phase_durations;
                let phase = phases.entry(phase);
                phase
                    .or_insert_with(|| Histogram::new(DURATIONS))
                    .add(spent);
            }
        }
        for (part, spent) in measured.busy {
            *self.busy.entry(part).or_default() += spent;
        }
        if let Some(newest) = measured.newest {
            let age = u64::try_from(now.saturating_sub(newest)).unwrap_or(0);
            self.event_ages.add(Duration::from_micros(age));
        }
        if let Some(latencies) = &mut self.latencies {
            for (micros, rows) in measured.latencies {
                latencies.add_many(Duration::from_micros(micros), rows);
            }
        }
        let mut partitions: BTreeMap<usize, Vec<PartitionWatermark>> = BTreeMap::new();
        for partition in measured.partitions {
            let of_source = partitions.entry(partition.source).or_default();
            of_source.push(partition);
        }
        for (index, (table, report)) in plan.sources.iter().zip(&progress.sources).enumerate() {
            let source = self.sources.entry(table.name.clone()).or_default();
            let failed = measured.failed.get(index).copied().unwrap_or_default();
            source.failed += failed.records + failed.rows;
            // One row may be set aside several times: where its table is read more than once.
            source.processed += report.num_input_rows.saturating_sub(failed.rows);
            let backlog = measured.backlogs.get(index).copied().flatten();
            let partitions = partitions.remove(&index).unwrap_or_default();
            source.now.show(report, backlog, partitions);
        }
        *self.sinks.entry(plan.sink.name.clone()).or_default() += progress.sink.num_output_rows;
        for (id, stats) in measured.operators {
            let operator = self.operators.entry(id).or_default();
            operator.kind = stats.name;
            operator.updated += stats.rows_updated;
            operator.removed += stats.rows_removed;
            operator.late += stats.rows_dropped_by_watermark;
            let behind = |lag: &i64| Some(measured.watermark?.saturating_sub(*lag));
            operator.now = Some(OperatorNow {
                rows: stats.rows_total,
                bytes: stats.memory_used_bytes,
                watermark: lags.get(&id).and_then(behind),
            });
        }
        for (worker, share) in measured.shares.iter().enumerate() {
            *self.worker_rows.entry(worker).or_default() += share.read;
        }
        self.now.worker_state = measured.shares.iter().map(|s| s.state_bytes).collect();
        self.now.committed = Some((progress.batch_id, now));
        self.now.watermark = measured.watermark;
    }
}

impl SourceNow {
    fn show(
        &mut self,
        report: &SourceProgressReport,
        backlog: Option<Backlog>,
        partitions: Vec<PartitionWatermark>,
    ) {
        // An epoch that reads nothing of the source has no offsets.
        if !report.end_offset.is_null() {
            self.end = report.end_offset.clone();
        }
        self.backlog = backlog;
        self.lags = match backlog {
            Some(_) => BTreeMap::new(),
            None => lags(&self.end, &report.latest_offset),
        };
        let partitions = partitions
            .into_iter()
            .map(|one| (one.partition, (one.watermark, one.idle)));
        self.partitions = bounded(partitions, |rest, (watermark, idle)| {
            rest.0 = [rest.0, watermark].into_iter().flatten().min();
            rest.1 &= idle;
        });
    }
}
