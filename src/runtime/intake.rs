//! How much an epoch takes in: what keeps a query within its memory, and, if asked for, with what it
//! gets done.
//!
//! Source of the estimator: Spark's `PIDRateEstimator` (Spark Streaming's configuration,
//! `spark.streaming.backpressure.*`).

use std::collections::BTreeMap;
use std::time::Duration;

use tidemark_connectors::ReadLimit;

use crate::plan::{Backpressure, Plan, Trigger};

/// Of the memory that there is, an epoch takes in at most this share.
const SHARE: u64 = 8;

/// An epoch may always be so large.
const LEAST: u64 = 64 << 20;

/// Without an interval between triggers, an epoch takes in what this time allows.
const NOMINAL: Duration = Duration::from_secs(1);

/// What bounds the epochs of a query.
#[derive(Debug)]
pub(super) struct Limits {
    /// The bytes of each source that may be bounded.
    bytes: Option<u64>,
    interval: Duration,
    sources: Vec<Limit>,
}

/// What bounds a source.
#[derive(Debug)]
struct Limit {
    /// A static table is read as a whole.
    bounded: bool,
    rate: Option<Estimator>,
}

impl Limits {
    /// Those of a plan.
    pub(super) fn new(plan: &Plan) -> Self {
        let intake = &plan.settings.intake;
        let bounded = plan
            .sources
            .iter()
            .filter(|source| source.streaming)
            .count() as u64;
        let all = intake.max_bytes.or_else(|| {
            let memory = memory()?;
            Some((memory / SHARE).max(LEAST))
        });
        let interval = match plan.trigger {
            Trigger::ProcessingTime(interval) | Trigger::Continuous(interval) => interval,
            Trigger::AvailableNow | Trigger::Once => Duration::ZERO,
        };
        Self {
            bytes: all.map(|all| (all / bounded.max(1)).max(1)),
            interval: if interval.is_zero() {
                NOMINAL
            } else {
                interval
            },
            sources: (plan.sources.iter())
                .map(|source| Limit {
                    bounded: source.streaming,
                    rate: intake.backpressure.map(Estimator::new),
                })
                .collect(),
        }
    }

    /// What the next epoch may read of a source.
    pub(super) fn of(&self, source: usize) -> ReadLimit {
        let limit = &self.sources[source];
        if !limit.bounded {
            return ReadLimit::default();
        }
        let rate = limit.rate.as_ref().and_then(Estimator::rate);
        ReadLimit {
            rows: rate.map(|rate| (rate * self.interval.as_secs_f64()).max(1.0) as u64),
            bytes: self.bytes,
        }
    }

    /// An epoch is done that read so many rows of each source in this time, and ended at `now` microseconds.
    pub(super) fn landed(&mut self, now: i64, rows: impl Iterator<Item = u64>, spent: Duration) {
        for (limit, rows) in self.sources.iter_mut().zip(rows) {
            if let Some(rate) = &mut limit.rate {
                rate.landed(now, rows, spent, self.interval);
            }
        }
    }
}

/// What a limit is called in progress.
pub(super) fn shown(limit: ReadLimit) -> BTreeMap<&'static str, String> {
    let rows = limit.rows.map(|rows| ("maxRowsPerEpoch", rows.to_string()));
    let bytes = limit
        .bytes
        .map(|bytes| ("maxBytesPerEpoch", bytes.to_string()));
    rows.into_iter().chain(bytes).collect()
}

/// Finds the rate of rows that a query keeps up with.
#[derive(Debug)]
struct Estimator {
    terms: Backpressure,
    /// When it last heard of an epoch, the rate it gave then, and by how much that was too high.
    last: Option<(i64, f64, f64)>,
}

impl Estimator {
    fn new(terms: Backpressure) -> Self {
        Self { terms, last: None }
    }

    /// Rows a second.
    fn rate(&self) -> Option<f64> {
        self.last
            .map_or(self.terms.initial_rate, |(_, rate, _)| Some(rate))
    }

    fn landed(&mut self, now: i64, rows: u64, spent: Duration, interval: Duration) {
        if rows == 0 || spent.is_zero() {
            return;
        }
        let processed = rows as f64 / spent.as_secs_f64();
        let Some((before, rate, last_error)) = self.last else {
            self.last = Some((now, processed.max(self.terms.least), 0.0));
            return;
        };
        if now <= before {
            return;
        }
        let error = rate - processed;
        // Rows that were to be done by now, by what the epoch took too long, as a rate.
        let behind = spent.saturating_sub(interval).as_secs_f64();
        let history = behind * processed / interval.as_secs_f64();
        let change = (error - last_error) / ((now - before) as f64 / 1e6);
        let Backpressure {
            proportional,
            integral,
            derived,
            least,
            ..
        } = self.terms;
        let next = rate - proportional * error - integral * history - derived * change;
        self.last = Some((now, next.max(least), error));
    }
}

/// The memory that this process may use, in bytes, where the system says.
fn memory() -> Option<u64> {
    let number =
        |path: &str| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemTotal:"))?;
            let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kilobytes << 10)
        });
    // Of the second version of control groups, then of the first.
    let groups = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    groups.into_iter().filter_map(number).chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Backpressure = Backpressure {
        initial_rate: Some(50.0),
        proportional: 1.0,
        integral: 0.2,
        derived: 0.0,
        least: 20.0,
    };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_rate_follows_what_gets_done() {
        let mut rate = Estimator::new(TERMS);
        assert_eq!(rate.rate(), Some(50.0));
        rate.landed(0, 0, SECOND, SECOND);
        assert_eq!(
            rate.rate(),
            Some(50.0),
            "an epoch without rows shows nothing"
        );
        rate.landed(1_000_000, 1000, SECOND, SECOND);
        assert_eq!(rate.rate(), Some(1000.0));
        // It took as long as it may: the rate is what got done.
        rate.landed(2_000_000, 800, SECOND, SECOND);
        assert_eq!(rate.rate(), Some(800.0));
        // It took twice as long: what is behind is made up for.
        rate.landed(4_000_000, 800, 2 * SECOND, SECOND);
        assert_eq!(rate.rate(), Some(400.0 - 0.2 * 400.0));
        for epoch in 5..20 {
            rate.landed(epoch * 1_000_000, 1, SECOND, SECOND);
        }
        assert_eq!(rate.rate(), Some(20.0), "it does not fall below the least");
    }

    #[test]
    fn its_change_counts_where_it_is_given_weight() {
        let terms = Backpressure {
            integral: 0.0,
            derived: 0.5,
            ..TERMS
        };
        let mut rate = Estimator::new(terms);
        rate.landed(0, 1000, SECOND, SECOND);
        rate.landed(1_000_000, 900, SECOND, SECOND);
        assert_eq!(rate.rate(), Some(900.0 - 0.5 * 100.0));
    }

    #[test]
    fn memory_is_known_here() {
        if cfg!(target_os = "linux") {
            assert!(memory().is_some_and(|bytes| bytes > LEAST));
        }
    }
}
