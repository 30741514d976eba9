//! How long records of continuous queries take: from their arrival to the sink's acknowledgement.
//!
//! A record arrived when its broker appended it (Kafka), or when it was read (other sources). Records that are
//! read together count as the oldest of them, so what is told is an upper bound.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::runtime::clock;

/// An hour, in microseconds: longer ones count as this.
const MOST: u64 = 3_600_000_000;

/// When batches of rows arrived, microseconds since 1970 UTC, and how many rows each has.
pub type Arrivals = Vec<(i64, u64)>;

/// How many rows took how many microseconds.
pub type Latencies = Vec<(u64, u64)>;

/// How long it took until `now`, microseconds.
pub fn since(arrived: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(arrived)).unwrap_or(0)
}

/// Latencies in microseconds, shared by those who learn of acknowledgements.
pub struct LatencyHistogram(Mutex<Histogram<u64>>);

impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LatencyHistogram({} rows)", self.lock().len())
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        let histogram = Histogram::new_with_max(MOST, 3);
        Self(Mutex::new(
            histogram.expect("these bounds make a histogram"),
        ))
    }
}

impl LatencyHistogram {
    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What arrived then is acknowledged now.
    pub fn acknowledged(&self, arrivals: &[(i64, u64)]) {
        let now = clock::now();
        let mut histogram = self.lock();
        for (arrived, rows) in arrivals {
            histogram.saturating_record_n(since(*arrived, now), *rows);
        }
    }

    /// Takes in what [`take`](Self::take) gave elsewhere.
    pub fn add(&self, counts: &[(u64, u64)]) {
        let mut histogram = self.lock();
        for (took, rows) in counts {
            histogram.saturating_record_n(*took, *rows);
        }
    }

    /// Takes all that is known: how many rows took how long.
    pub fn take(&self) -> Latencies {
        let mut histogram = self.lock();
        let counts = histogram.iter_recorded();
        let counts = counts
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect();
        histogram.reset();
        counts
    }

    /// In short; `None` where nothing is known.
    pub fn summary(&self) -> Option<LatencySummary> {
        let histogram = self.lock();
        let at = |part| histogram.value_at_quantile(part) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| LatencySummary {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
            rows: histogram.len(),
        })
    }
}

/// Some latencies in short; `None` where there are none.
pub fn summary(latencies: &Latencies) -> Option<LatencySummary> {
    if latencies.is_empty() {
        return None;
    }
    let histogram = LatencyHistogram::default();
    histogram.add(latencies);
    histogram.summary()
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Half of the rows took no longer.
    pub p50: f64,
    /// 99 of 100 rows took no longer.
    pub p99: f64,
    /// 999 of 1,000 rows took no longer.
    #[serde(rename = "p99.9")]
    pub p999: f64,
    /// No row took longer.
    pub max: f64,
    /// How many rows.
    pub rows: u64,
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            p50,
            p99,
            p999,
            max,
            rows,
        } = self;
        write!(
            f,
            "p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms, max {max:.1} ms of {rows} rows"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_told_elsewhere() {
        let here = LatencyHistogram::default();
        assert_eq!(here.summary(), None);
        let now = clock::now();
        here.acknowledged(&[
            (now - 2_000_000, 98),
            (now - 9_000_000, 2),
            (now + 10_000_000, 1),
        ]);
        let there = LatencyHistogram::default();
        there.add(&here.take());
        assert_eq!(here.summary(), None);
        let told = there.summary().expect("rows");
        assert_eq!(told.rows, 101);
        assert!((2_000.0..2_100.0).contains(&told.p50), "{told}");
        assert!((9_000.0..9_100.0).contains(&told.max), "{told}");
    }
}
