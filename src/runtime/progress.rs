//! What a query tells of itself after each epoch, with Spark's field names.
//!
//! Source: Spark's `StreamingQueryProgress` (Structured Streaming guide, "Monitoring").

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tidemark_connectors::Source;
use uuid::Uuid;

use crate::operators::SourceProgress;
use crate::plan::Plan;
use crate::runtime::busy::{self, BusyParts};
use crate::runtime::clock::iso;
use crate::runtime::epoch::{Decided, Outcome};
use crate::runtime::intake;
use crate::runtime::latency::{self, LatencySummary};
use crate::time::{EventTime, NO_WATERMARK};

/// One epoch of a query.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The query's id, as long as its checkpoint lives.
    pub id: String,
    /// This run's id.
    pub run_id: String,
    /// The query's name.
    pub name: String,
    /// When the epoch began, ISO 8601, UTC.
    pub timestamp: String,
    /// The epoch.
    pub batch_id: u64,
    /// Rows read.
    pub num_input_rows: u64,
    /// Rows read per second since the epoch before began.
    pub input_rows_per_second: f64,
    /// Rows read per second of the epoch's own time.
    pub processed_rows_per_second: f64,
    /// Milliseconds by phase: `latestOffset`, `walCommit`, `addBatch`, `commitBatch`,
    /// `commitOffsets`, `triggerExecution`.
    pub duration_ms: BTreeMap<&'static str, u64>,
    /// `avg`, `max`, `min` of the rows' event time, and the `watermark`; ISO 8601.
    pub event_time: BTreeMap<&'static str, String>,
    /// What each stateful operator keeps.
    pub state_operators: Vec<StateOperatorProgress>,
    /// What was read of each source.
    pub sources: Vec<SourceProgressReport>,
    /// What was written.
    pub sink: SinkProgress,
    /// Milliseconds by part of the query, of the busiest worker: `source events`, `operator 2 (aggregate)`,
    /// `sink counts`, `checkpoint`. Parts that took none are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub busy_ms: BTreeMap<String, u64>,
    /// The part that took longest: what holds the query, where it does not keep up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// How long records took, from their arrival to the sink's acknowledgement: continuous queries only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<LatencySummary>,
    /// What went wrong without harm to the query: files that could not be folded, say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Progress {
    /// Of an epoch that is committed. `last_began`: when the one before it began.
    pub(super) fn new(
        (name, (id, run_id)): (&str, (Uuid, Uuid)),
        decided: Decided,
        outcome: &Outcome,
        last_began: Option<i64>,
        (sources, sink): (&[Box<dyn Source>], &str),
    ) -> Self {
        let entry = decided.entry;
        let since = last_began.map_or(0, |began| entry.timestamp_us - began);
        let spent = i64::try_from(decided.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        let mut total = SourceProgress::default();
        outcome.read.iter().for_each(|read| total.add(read));
        let sources = sources
            .iter()
            .zip(entry.sources)
            .zip(&outcome.read)
            .zip(decided.latest.into_iter().zip(decided.limits))
            .map(|(((source, planned), read), (latest, limit))| {
                let (start, end) = planned.range.map(|r| (r.start, r.end)).unwrap_or_default();
                SourceProgressReport {
                    description: source.description(),
                    start_offset: start,
                    end_offset: end,
                    latest_offset: latest.unwrap_or_default(),
                    num_input_rows: read.rows,
                    input_rows_per_second: rate(read.rows, since),
                    processed_rows_per_second: rate(read.rows, spent),
                    num_dropped_records: read.dropped,
                    metrics: intake::shown(limit),
                }
            })
            .collect();
        let operators = outcome.operators.values();
        Self {
            id: id.to_string(),
            run_id: run_id.to_string(),
            name: name.to_owned(),
            timestamp: iso(entry.timestamp_us),
            batch_id: entry.epoch,
            num_input_rows: total.rows,
            input_rows_per_second: rate(total.rows, since),
            processed_rows_per_second: rate(total.rows, spent),
            duration_ms: decided
                .durations
                .into_iter()
                .map(|(phase, spent)| (phase, u64::try_from(spent.as_millis()).unwrap_or(u64::MAX)))
                .collect(),
            event_time: event_time(&total, entry.watermark),
            state_operators: operators
                .map(|stats| StateOperatorProgress {
                    operator_name: stats.name.clone(),
                    num_rows_total: stats.rows_total,
                    num_rows_updated: stats.rows_updated,
                    num_rows_removed: stats.rows_removed,
                    num_rows_dropped_by_watermark: stats.rows_dropped_by_watermark,
                    memory_used_bytes: stats.memory_used_bytes,
                })
                .collect(),
            sources,
            sink: SinkProgress {
                description: sink.to_owned(),
                num_output_rows: outcome.output_rows(),
            },
            busy_ms: BTreeMap::new(),
            held_by: None,
            latency_ms: latency::summary(&outcome.latencies),
            warnings: outcome.warnings.clone(),
        }
    }

    /// Says what the time went to.
    pub(super) fn spent(&mut self, plan: &Plan, busy: &BusyParts) {
        let parts = busy.named(plan).into_iter();
        self.busy_ms = parts
            .map(|(part, spent)| (part, u64::try_from(spent.as_millis()).unwrap_or(u64::MAX)))
            .filter(|(_, spent)| *spent > 0)
            .collect();
        self.held_by = busy.longest().map(|(part, _)| busy::name(plan, part));
    }

    /// The watermark, once there is one.
    pub fn watermark(&self) -> Option<&str> {
        let watermark = self.event_time.get("watermark")?;
        // Spark shows the start of 1970 before the first.
        (!watermark.starts_with("1970-01-01T00:00:00.000")).then_some(watermark)
    }

    /// Rows of state, of all operators.
    pub fn state_rows(&self) -> u64 {
        let operators = self.state_operators.iter();
        operators.map(|operator| operator.num_rows_total).sum()
    }
}

/// See [`Progress::state_operators`].
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateOperatorProgress {
    /// What it is.
    pub operator_name: String,
    /// Rows kept.
    pub num_rows_total: u64,
    /// Rows inserted or changed.
    pub num_rows_updated: u64,
    /// Rows forgotten.
    pub num_rows_removed: u64,
    /// Rows that came too late.
    pub num_rows_dropped_by_watermark: u64,
    /// Bytes in memory.
    pub memory_used_bytes: u64,
}

/// See [`Progress::sources`].
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceProgressReport {
    /// What it is.
    pub description: String,
    /// Where the epoch began.
    pub start_offset: Value,
    /// Where it ended.
    pub end_offset: Value,
    /// What could be read.
    pub latest_offset: Value,
    /// Rows read.
    pub num_input_rows: u64,
    /// Rows read per second since the epoch before began.
    pub input_rows_per_second: f64,
    /// Rows read per second of the epoch's own time.
    pub processed_rows_per_second: f64,
    /// Records left out because they could not be decoded.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_dropped_records: u64,
    /// What bounded the epoch: `maxRowsPerEpoch` (back-pressure), `maxBytesPerEpoch`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<&'static str, String>,
}

/// See [`Progress::sink`].
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkProgress {
    /// What it is.
    pub description: String,
    /// Rows written.
    pub num_output_rows: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The `eventTime` of an epoch.
fn event_time(read: &SourceProgress, watermark: EventTime) -> BTreeMap<&'static str, String> {
    let mut times = BTreeMap::new();
    if let (Some(min), Some(max)) = (read.min, read.max) {
        let average = read.sum / i128::from(read.timed_rows.max(1));
        times.insert("avg", iso(i64::try_from(average).unwrap_or(max)));
        times.insert("max", iso(max));
        times.insert("min", iso(min));
    }
    // Before the first watermark Spark shows the start of 1970.
    times.insert(
        "watermark",
        iso(if watermark == NO_WATERMARK {
            0
        } else {
            watermark
        }),
    );
    times
}

/// `rows` a second over `microseconds`.
fn rate(rows: u64, microseconds: i64) -> f64 {
    if microseconds <= 0 {
        0.0
    } else {
        rows as f64 * 1e6 / microseconds as f64
    }
}
