//! What a query has done since it first began: kept with each commit, for whoever asks why nothing comes
//! out. No result depends on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::OffsetEntry;
use crate::time::{Epoch, EventTime, NO_WATERMARK};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Rows read of each source, in the order of the plan.
    pub read: Vec<u64>,
    /// Records of each source that could not be decoded and were left out.
    pub dropped: Vec<u64>,
    /// Rows given to the sink.
    pub written: u64,
    /// The last epoch that gave some, and its `current_timestamp()`.
    pub last_written: Option<(Epoch, i64)>,
    /// Rows that came too late, by operator.
    pub late: BTreeMap<u32, u64>,
    /// When the watermark last moved: that epoch, and its `current_timestamp()`.
    pub moved: Option<(Epoch, i64)>,
    /// The watermark before that.
    pub moved_from: EventTime,
    /// Rows that came too late since then, because of that.
    pub late_since: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            read: Vec::new(),
            dropped: Vec::new(),
            written: 0,
            last_written: None,
            late: BTreeMap::new(),
            moved: None,
            moved_from: NO_WATERMARK,
            late_since: 0,
        }
    }
}

/// What an epoch did, over all workers.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    /// Rows read of each source, and records left out.
    pub read: Vec<(u64, u64)>,
    /// Rows given to the sink.
    pub written: u64,
    /// Rows that came too late, by operator.
    pub late: Vec<(u32, u64)>,
}

impl History {
    /// Takes in what an epoch did.
    pub fn add(&mut self, entry: &OffsetEntry, deeds: &Deeds) {
        let sources = self.read.len().max(deeds.read.len());
        self.read.resize(sources, 0);
        self.dropped.resize(sources, 0);
        for (source, (rows, dropped)) in deeds.read.iter().enumerate() {
            self.read[source] += rows;
            self.dropped[source] += dropped;
        }
        self.written += deeds.written;
        let now = (entry.epoch, entry.timestamp_us);
        if deeds.written > 0 {
            self.last_written = Some(now);
        }
        for (operator, rows) in deeds.late.iter().filter(|(_, rows)| *rows > 0) {
            *self.late.entry(*operator).or_default() += rows;
            self.late_since += rows;
        }
        // Its rows were late against the watermark of the epoch before.
        if entry.watermark > entry.previous_watermark {
            self.moved = Some(now);
            self.moved_from = entry.previous_watermark;
            self.late_since = 0;
        }
    }
}

/// What has come of one partition of a source with an event time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Rows read.
    pub rows: u64,
    /// Those of them with an event time.
    pub timed: u64,
    /// The epoch that brought the greatest event time, and its `current_timestamp()`.
    pub greatest: Option<(Epoch, i64)>,
    /// Rows with an event time in later epochs.
    pub since: u64,
    /// The greatest event time of those.
    pub newest_since: Option<EventTime>,
}

impl Seen {
    /// Takes in what an epoch read of the partition: rows, those with an event time, and the greatest; `first`
    /// where none that was read before is as great.
    pub fn add(
        &mut self,
        now: (Epoch, i64),
        rows: (u64, u64),
        newest: Option<EventTime>,
        first: bool,
    ) {
        self.rows += rows.0;
        self.timed += rows.1;
        if first {
            self.greatest = Some(now);
            self.since = 0;
            self.newest_since = None;
        } else if newest.is_some() {
            self.since += rows.1;
            self.newest_since = self.newest_since.max(newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: Epoch, previous: EventTime, watermark: EventTime) -> OffsetEntry {
        OffsetEntry {
            epoch,
            watermark,
            previous_watermark: previous,
            timestamp_us: epoch as i64 * 100,
            partitions: vec![],
            sources: vec![],
            no_data: false,
        }
    }

    #[test]
    fn late_rows_are_counted_since_the_watermark_moved() {
        let mut history = History::default();
        let late = |rows| Deeds {
            late: vec![(2, rows)],
            ..Deeds::default()
        };
        history.add(&entry(0, NO_WATERMARK, NO_WATERMARK), &late(0));
        assert_eq!((history.moved, history.late.len()), (None, 0));
        history.add(&entry(1, NO_WATERMARK, 50), &late(3));
        assert_eq!((history.moved, history.late_since), (Some((1, 100)), 0));
        history.add(&entry(2, 50, 50), &late(4));
        history.add(&entry(3, 50, 50), &late(1));
        assert_eq!((history.moved, history.late_since), (Some((1, 100)), 5));
        assert_eq!(history.late[&2], 8);
        history.add(&entry(4, 50, 60), &late(0));
        assert_eq!((history.moved_from, history.late_since), (50, 0));
    }

    #[test]
    fn rows_behind_the_greatest_event_time_are_told_apart() {
        let mut seen = Seen::default();
        seen.add((0, 10), (3, 2), Some(500), true);
        seen.add((1, 20), (2, 2), Some(40), false);
        seen.add((2, 30), (1, 1), Some(30), false);
        assert_eq!((seen.rows, seen.timed, seen.since), (6, 5, 3));
        assert_eq!(
            (seen.greatest, seen.newest_since),
            (Some((0, 10)), Some(40))
        );
        seen.add((3, 40), (1, 1), Some(501), true);
        assert_eq!((seen.greatest, seen.since), (Some((3, 40)), 0));
    }
}
