//! How much is alive, kept as it changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::{EventTime, NEVER, NO_WATERMARK};

/// What a trace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Rows that are alive: what has expired does not count, even before a merge has dropped it.
    pub rows: u64,
    /// The memory of those rows, about.
    pub bytes: u64,
}

/// Of so many moments at which rows go it is told how many do.
const FIRST: usize = 5;

/// Rows that the watermark will take, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// How many there are.
    pub rows: u64,
    /// The first watermarks that take some, each with how many; in order, at most five.
    pub next: Vec<(EventTime, u64)>,
    /// The watermark that takes the last.
    pub last: Option<EventTime>,
}

impl Waiting {
    /// So many rows, which go at these moments: in order, each with how many do.
    pub fn new(rows: u64, mut moments: impl DoubleEndedIterator<Item = (EventTime, u64)>) -> Self {
        let mut next = Vec::new();
        while next.len() < FIRST
            && let Some(moment) = moments.next()
        {
            next.push(moment);
        }
        let last = moments.next_back().or(next.last().copied());
        Self {
            rows,
            next,
            last: last.map(|(moment, _)| moment),
        }
    }

    /// Takes in what waits elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        let mut next: BTreeMap<EventTime, u64> = BTreeMap::new();
        for (moment, rows) in self.next.iter().chain(&other.next) {
            *next.entry(*moment).or_default() += rows;
        }
        // Of the first five of all, each part has told those that it has.
        self.next = next.into_iter().take(FIRST).collect();
        self.last = self.last.max(other.last);
    }
}

/// What a row costs beside its key and value.
pub(crate) const ROW_OVERHEAD: usize = 24;
/// So many different expiries are told apart; beyond that they are rounded up together.
const MAX_BUCKETS: usize = 4096;

/// Rows and bytes by expiry, so that a watermark takes off what it has expired without looking at rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sizes {
    rows: i64,
    bytes: i64,
    /// Expiries are rounded up to multiples of 2^shift microseconds.
    shift: u32,
    buckets: BTreeMap<EventTime, (i64, i64)>,
}

impl Sizes {
    /// Adds `rows` rows of `bytes` bytes together; below zero takes them off.
    pub(crate) fn add(&mut self, rows: i64, bytes: i64, expiry: EventTime) {
        self.rows += rows;
        self.bytes += bytes;
        if expiry == NEVER {
            return;
        }
        let bucket = self.buckets.entry(round(expiry, self.shift)).or_default();
        bucket.0 += rows;
        bucket.1 += bytes;
        while self.buckets.len() > MAX_BUCKETS {
            self.shift += 4;
            for (expiry, (rows, bytes)) in std::mem::take(&mut self.buckets) {
                let bucket = self.buckets.entry(round(expiry, self.shift)).or_default();
                bucket.0 += rows;
                bucket.1 += bytes;
            }
        }
    }

    /// Adds (or takes off) one row of a key and a value.
    pub(crate) fn add_row(&mut self, key: &[u8], val: &[u8], count: i64, expiry: EventTime) {
        let bytes = (key.len() + val.len() + ROW_OVERHEAD) as i64;
        self.add(count, count * bytes, expiry);
    }

    /// Adds all of `other` that `watermark` has not expired.
    pub(crate) fn absorb(&mut self, other: &Self, watermark: EventTime) {
        let (mut rows, mut bytes) = (other.rows, other.bytes);
        for (expiry, (r, b)) in &other.buckets {
            rows -= r;
            bytes -= b;
            if *expiry > watermark {
                self.add(*r, *b, *expiry);
            }
        }
        self.add(rows, bytes, NEVER);
    }

    /// Takes off what `watermark` has expired.
    pub(crate) fn expire(&mut self, watermark: EventTime) {
        while let Some(first) = self.buckets.first_entry()
            && *first.key() <= watermark
        {
            let (rows, bytes) = first.remove();
            self.rows -= rows;
            self.bytes -= bytes;
        }
    }

    /// What is left and will expire.
    pub(crate) fn waiting(&self) -> Waiting {
        let moments = self.buckets.iter().filter(|(_, (rows, _))| *rows > 0);
        let moments = moments.map(|(moment, (rows, _))| (*moment, *rows as u64));
        Waiting::new(self.size().rows, moments)
    }

    /// What is left.
    pub(crate) fn size(&self) -> StateSize {
        StateSize {
            rows: self.rows.max(0) as u64,
            bytes: self.bytes.max(0) as u64,
        }
    }
}

fn round(expiry: EventTime, shift: u32) -> EventTime {
    if expiry == NO_WATERMARK {
        return expiry;
    }
    let mask = (1i64 << shift.min(62)) - 1;
    expiry.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_taken_off() {
        let mut sizes = Sizes::default();
        sizes.add_row(b"a", b"", 1, 10);
        sizes.add_row(b"b", b"x", 2, 20);
        sizes.add_row(b"c", b"", 1, NEVER);
        sizes.add_row(b"c", b"", -1, NEVER);
        assert_eq!(sizes.size().rows, 3);
        sizes.expire(10);
        assert_eq!(
            sizes.size(),
            StateSize {
                rows: 2,
                bytes: 2 * (2 + ROW_OVERHEAD as u64)
            }
        );
        sizes.expire(i64::MAX - 1);
        assert_eq!(sizes.size(), StateSize::default());
    }

    #[test]
    fn what_waits_is_told_by_the_first_moments_and_the_last() {
        let sizes = |moments: &[i64]| {
            let mut sizes = Sizes::default();
            for moment in moments {
                sizes.add_row(b"k", b"", 2, *moment);
            }
            sizes.waiting()
        };
        assert_eq!(sizes(&[]), Waiting::default());
        let mut one = sizes(&[10, 20, 30, 40, 50, 60, 70]);
        assert_eq!(one.next, [(10, 2), (20, 2), (30, 2), (40, 2), (50, 2)]);
        assert_eq!((one.rows, one.last), (14, Some(70)));
        one.add(&sizes(&[15, 20]));
        assert_eq!(one.next, [(10, 2), (15, 2), (20, 4), (30, 2), (40, 2)]);
        assert_eq!((one.rows, one.last), (18, Some(70)));
    }

    #[test]
    fn many_expiries_are_rounded_together() {
        let mut sizes = Sizes::default();
        for i in 0..20_000i64 {
            sizes.add_row(b"k", b"", 1, i);
        }
        assert!(sizes.buckets.len() <= MAX_BUCKETS);
        sizes.expire(9_999);
        assert!(sizes.size().rows.abs_diff(10_000) <= 1 << sizes.shift);
        sizes.expire(20_256);
        assert_eq!(sizes.size().rows, 0);
    }
}
