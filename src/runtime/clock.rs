//! The one place that reads the wall clock. What it says is decided and logged before it is used.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};

/// Microseconds since 1970 UTC.
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// `2026-01-01T12:00:00.000Z`, as Spark's progress writes moments.
pub fn iso(microseconds: i64) -> String {
    match DateTime::<Utc>::from_timestamp_micros(microseconds) {
        Some(moment) => moment.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => format!("{microseconds} us"),
    }
}
