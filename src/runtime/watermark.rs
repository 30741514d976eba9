//! How far event time has surely come.
//!
//! Each partition's watermark is the greatest event time seen in it, less the delay. A source's is
//! the least over its partitions that are not idle, the query's the least (or, by policy, the
//! greatest) over its sources. It never goes back, and is cut down to whole milliseconds, as
//! Spark's is.

use std::collections::BTreeMap;

use crate::checkpoint::{PartitionState, Seen};
use crate::operators::SourceProgress;
use crate::plan::{Watermark, WatermarkPolicy};
use crate::time::{Epoch, EventTime, NO_WATERMARK};

/// The watermarks of one query.
#[derive(Debug)]
pub struct Watermarks {
    policy: WatermarkPolicy,
    sources: Vec<Option<Source>>,
    current: EventTime,
}

#[derive(Debug)]
struct Source {
    delay: i64,
    idle_timeout: Option<i64>,
    started: i64,
    partitions: BTreeMap<String, Partition>,
    watermark: EventTime,
}

#[derive(Debug, Default)]
struct Partition {
    max_event_time: Option<EventTime>,
    last_data: i64,
    idle: bool,
    seen: Seen,
}

impl Watermarks {
    /// Nothing is known yet. `now` in microseconds.
    pub fn new<'a>(
        policy: WatermarkPolicy,
        sources: impl Iterator<Item = Option<&'a Watermark>>,
        now: i64,
    ) -> Self {
        let micros = |d: std::time::Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let sources = sources
            .map(|watermark| {
                watermark.map(|watermark| Source {
                    delay: micros(watermark.delay),
                    idle_timeout: watermark.idle_timeout.map(micros),
                    started: now,
                    partitions: BTreeMap::new(),
                    watermark: NO_WATERMARK,
                })
            })
            .collect();
        Self {
            policy,
            sources,
            current: NO_WATERMARK,
        }
    }

    /// Takes up where a checkpoint left off.
    pub fn restore(&mut self, watermark: EventTime, partitions: &[PartitionState], now: i64) {
        self.current = watermark;
        for state in partitions {
            if let Some(Some(source)) = self.sources.get_mut(state.source) {
                let partition = source
                    .partitions
                    .entry(state.partition.clone())
                    .or_default();
                partition.max_event_time = state.max_event_time;
                partition.idle = state.idle;
                partition.seen = state.seen.clone();
                // The time that the query was down does not count as silence.
                partition.last_data = now;
            }
        }
    }

    /// A partition had data in the epoch `at`, which began at `now`.
    pub fn observe(
        &mut self,
        source: usize,
        partition: &str,
        read: &SourceProgress,
        (at, now): (Epoch, i64),
    ) {
        if let Some(Some(source)) = self.sources.get_mut(source) {
            let partition = source.partitions.entry(partition.to_owned()).or_default();
            let first = read.max > partition.max_event_time;
            let rows = (read.rows, read.timed_rows);
            partition.seen.add((at, now), rows, read.max, first);
            partition.max_event_time = partition.max_event_time.max(read.max);
            partition.last_data = now;
            partition.idle = false;
        }
    }

    /// The watermark as of now.
    pub fn decide(&mut self, now: i64) -> EventTime {
        let mut known = vec![];
        for source in self.sources.iter_mut().flatten() {
            source.advance(now);
            if !source.is_silent(now) {
                known.push(source.watermark);
            }
        }
        let next = match self.policy {
            WatermarkPolicy::Min => known.into_iter().min(),
            WatermarkPolicy::Max => known.into_iter().max(),
        };
        self.current = self.current.max(next.unwrap_or(NO_WATERMARK));
        self.current
    }

    /// The watermark as it was last decided.
    pub fn current(&self) -> EventTime {
        self.current
    }

    /// Where each partition stands, for whoever watches.
    pub fn by_partition(&self) -> Vec<PartitionWatermark> {
        let sources = self.sources.iter().enumerate();
        let known = sources.filter_map(|(index, source)| Some((index, source.as_ref()?)));
        known
            .flat_map(|(index, source)| {
                let partitions = source.partitions.iter();
                partitions.map(move |(name, partition)| PartitionWatermark {
                    source: index,
                    partition: name.clone(),
                    watermark: partition.max_event_time.map(|time| source.behind(time)),
                    idle: partition.idle,
                })
            })
            .collect()
    }

    /// Where each partition stands, for the checkpoint.
    pub fn partitions(&self) -> Vec<PartitionState> {
        self.sources
            .iter()
            .enumerate()
            .flat_map(|(source, state)| {
                state.iter().flat_map(move |state| {
                    state
                        .partitions
                        .iter()
                        .map(move |(name, partition)| PartitionState {
                            source,
                            partition: name.clone(),
                            max_event_time: partition.max_event_time,
                            idle: partition.idle,
                            last_data_us: Some(partition.last_data),
                            seen: partition.seen.clone(),
                        })
                })
            })
            .collect()
    }
}

/// Where one partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionWatermark {
    /// Its source, by its index in the plan.
    pub source: usize,
    /// Its name.
    pub partition: String,
    /// Its own watermark, once a row of it had an event time.
    pub watermark: Option<EventTime>,
    /// It does not hold the others back.
    pub idle: bool,
}

impl Source {
    /// Where the watermark is once event time has come this far.
    fn behind(&self, event_time: EventTime) -> EventTime {
        let behind = event_time.saturating_sub(self.delay);
        behind.div_euclid(1000).saturating_mul(1000)
    }

    fn advance(&mut self, now: i64) {
        if let Some(timeout) = self.idle_timeout {
            for partition in self.partitions.values_mut() {
                partition.idle = now.saturating_sub(partition.last_data) > timeout;
            }
        }
        let least = self
            .partitions
            .values()
            .filter(|partition| !partition.idle)
            .filter_map(|partition| partition.max_event_time)
            .min();
        if let Some(least) = least {
            self.watermark = self.watermark.max(self.behind(least));
        }
    }

    /// No partition has spoken for longer than the timeout.
    fn is_silent(&self, now: i64) -> bool {
        let silent_since = self
            .partitions
            .values()
            .map(|p| p.last_data)
            .max()
            .unwrap_or(self.started);
        self.idle_timeout
            .is_some_and(|timeout| now.saturating_sub(silent_since) > timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: i64 = 1_000_000;

    fn watermarks(policy: WatermarkPolicy, idle: Option<u64>) -> Watermarks {
        let spec = Watermark {
            column: 0,
            delay: Duration::from_secs(10),
            idle_timeout: idle.map(Duration::from_secs),
        };
        Watermarks::new(policy, [Some(&spec), Some(&spec)].into_iter(), 0)
    }

    fn newest(max: EventTime) -> SourceProgress {
        SourceProgress {
            max: Some(max),
            ..SourceProgress::default()
        }
    }

    #[test]
    fn the_slowest_partition_holds_the_watermark_and_it_never_goes_back() {
        let mut marks = watermarks(WatermarkPolicy::Max, None);
        marks.observe(0, "a", &newest(100 * SECOND), (0, 0));
        assert_eq!(marks.decide(0), 90 * SECOND);
        marks.observe(0, "b", &newest(50 * SECOND), (0, 0));
        assert_eq!(marks.decide(0), 90 * SECOND);
        marks.observe(0, "b", &newest(120 * SECOND + 1_999), (0, 0));
        marks.observe(0, "a", &newest(130 * SECOND), (0, 0));
        assert_eq!(marks.decide(0), 110 * SECOND + 1_000);
    }

    #[test]
    fn a_source_without_data_holds_the_query_until_it_is_idle() {
        let mut marks = watermarks(WatermarkPolicy::Min, Some(5));
        marks.observe(0, "a", &newest(100 * SECOND), (0, SECOND));
        assert_eq!(marks.decide(SECOND), NO_WATERMARK);
        marks.observe(0, "a", &newest(101 * SECOND), (0, 6 * SECOND));
        assert_eq!(marks.decide(6 * SECOND), 91 * SECOND);
    }

    #[test]
    fn a_source_that_has_fallen_silent_holds_the_query_until_it_is_idle() {
        let mut marks = watermarks(WatermarkPolicy::Min, Some(5));
        marks.observe(0, "a", &newest(100 * SECOND), (0, SECOND));
        marks.observe(1, "a", &newest(20 * SECOND), (0, SECOND));
        let held = marks.decide(SECOND);
        marks.observe(0, "a", &newest(101 * SECOND), (0, 6 * SECOND));
        assert_eq!(marks.decide(6 * SECOND), held);
        assert_eq!(marks.decide(7 * SECOND), 91 * SECOND);
        // With nothing from either it stays.
        assert_eq!(marks.decide(60 * SECOND), 91 * SECOND);
    }

    #[test]
    fn an_idle_partition_is_left_out_until_it_speaks_again() {
        let mut marks = watermarks(WatermarkPolicy::Max, Some(5));
        marks.observe(0, "a", &newest(100 * SECOND), (0, 0));
        marks.observe(0, "b", &newest(20 * SECOND), (0, 0));
        assert_eq!(marks.decide(0), 10 * SECOND);
        marks.observe(0, "a", &newest(101 * SECOND), (0, 6 * SECOND));
        assert_eq!(marks.decide(6 * SECOND), 91 * SECOND);
    }

    #[test]
    fn a_restart_goes_on_where_the_checkpoint_left_off() {
        let mut before = watermarks(WatermarkPolicy::Max, None);
        before.observe(0, "a", &newest(100 * SECOND), (0, 0));
        let partition = PartitionWatermark {
            source: 0,
            partition: "a".into(),
            watermark: Some(90 * SECOND),
            idle: false,
        };
        assert_eq!(before.by_partition(), [partition]);
        let watermark = before.decide(0);
        let mut after = watermarks(WatermarkPolicy::Max, None);
        after.restore(watermark, &before.partitions(), SECOND);
        assert_eq!(after.decide(SECOND), 90 * SECOND);
        after.observe(0, "b", &newest(30 * SECOND), (0, SECOND));
        assert_eq!(after.decide(SECOND), 90 * SECOND);
    }
}
