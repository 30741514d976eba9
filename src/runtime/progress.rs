//! What a query tells of itself after each epoch, with Spark's field names.
//!
//! Source: Spark's `StreamingQueryProgress` (Structured Streaming guide, "Monitoring").

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::operators::SourceProgress;
use crate::runtime::clock::iso;
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
}

impl Progress {
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
pub fn event_time(read: &SourceProgress, watermark: EventTime) -> BTreeMap<&'static str, String> {
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
pub fn rate(rows: u64, microseconds: i64) -> f64 {
    if microseconds <= 0 {
        0.0
    } else {
        rows as f64 * 1e6 / microseconds as f64
    }
}
