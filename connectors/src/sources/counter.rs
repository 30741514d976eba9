//! How far a generator of numbered rows has planned, and how far it may.

use std::ops::Range;
use std::time::Instant;

use crate::ReadLimit;

/// The numbers of an epoch, where neither a pace nor a limit says how many.
const EPOCH: u64 = 1_000_000;

/// The numbers that a generator has given to epochs, from 0 on.
#[derive(Debug)]
pub(super) struct Counter {
    /// So many a second; `None`: as fast as they are read.
    pace: Option<u64>,
    /// Where they end.
    end: Option<u64>,
    planned: u64,
    /// Since when the pace is kept, and how many were planned then.
    pub(super) since: Option<(Instant, u64)>,
    frozen: Option<u64>,
}

impl Counter {
    pub(super) fn new(pace: Option<u64>, end: Option<u64>) -> Self {
        Self {
            pace,
            end,
            planned: 0,
            since: None,
            frozen: None,
        }
    }

    /// Goes on behind the first `planned` numbers.
    pub(super) fn resume(&mut self, planned: u64) {
        self.planned = planned;
    }

    /// How many there are by now; `None` where there is no end to them.
    pub(super) fn available(&mut self) -> Option<u64> {
        let (since, before) = *self.since.get_or_insert((Instant::now(), self.planned));
        let paced = self.pace.map(|rate| {
            let due = since.elapsed().as_micros() * u128::from(rate) / 1_000_000;
            before.saturating_add(u64::try_from(due).unwrap_or(u64::MAX))
        });
        [paced, self.end, self.frozen].into_iter().flatten().min()
    }

    /// The numbers of the next epoch, of rows of about so many bytes; `None` where there are none yet.
    pub(super) fn plan(&mut self, limit: ReadLimit, row_bytes: u64) -> Option<Range<u64>> {
        let start = self.planned;
        let unlimited = if self.pace.is_some() { u64::MAX } else { EPOCH };
        let most = match limit.rows_of(row_bytes) {
            None => unlimited,
            Some(rows) if limit.rows.is_some() => rows,
            Some(rows) => rows.min(unlimited),
        };
        let most = most.max(1);
        let end = self
            .available()
            .unwrap_or(u64::MAX)
            .min(start.saturating_add(most));
        if end <= start {
            return None;
        }
        self.planned = end;
        Some(start..end)
    }

    /// Ends with what is there now. Without pace or end there is no "now": it is what an epoch holds.
    pub(super) fn freeze(&mut self) {
        let there = self
            .available()
            .unwrap_or(self.planned.saturating_add(EPOCH));
        self.frozen = Some(there);
    }

    /// Whether all numbers are planned.
    pub(super) fn exhausted(&self) -> bool {
        [self.end, self.frozen]
            .into_iter()
            .flatten()
            .min()
            .is_some_and(|end| self.planned >= end)
    }
}
