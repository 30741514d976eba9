//! How much is alive, kept as it changes.

use std::collections::BTreeMap;

use crate::time::{EventTime, NEVER, NO_WATERMARK};

/// What a trace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Rows that are alive: what has expired does not count, even before a merge has dropped it.
    pub rows: u64,
    /// The memory of those rows, about.
    pub bytes: u64,
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
