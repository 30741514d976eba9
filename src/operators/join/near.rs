//! Which rows of one key need not be looked at, as they are further apart in event time than rows of a pair
//! can be.
//!
//! Where the condition says how far that is, a row begins with its moment, so that the rows of a key lie in
//! the order of time: those that a row can match lie side by side.

use std::ops::Range;

use crate::operators::join::fresh;
use crate::operators::join::{Prepared, Side};
use crate::plan::join::{LEFT, Within};
use crate::row::{Bytes, RowError, bound_prefix, read_bound};
use crate::time::{EventTime, NEVER};

/// How far the right row's moment lies behind the left row's.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    least: Option<i64>,
    most: Option<i64>,
}

impl Reach {
    pub(super) fn new(within: &Within) -> Self {
        Self {
            least: within.least,
            most: within.most,
        }
    }

    /// The first and the last moment of the rows that a row of `side` can match.
    fn of(self, side: usize, moment: EventTime) -> (EventTime, EventTime) {
        let [from, upto] = if side == LEFT {
            [self.least, self.most]
        } else {
            [self.most, self.least].map(|by| by.map(i64::saturating_neg))
        };
        (
            from.map_or(EventTime::MIN, |by| moment.saturating_add(by)),
            upto.map_or(NEVER, |by| moment.saturating_add(by)),
        )
    }
}

impl Side {
    /// The moment that a row begins with.
    fn moment_of(&self, value: &[u8]) -> EventTime {
        debug_assert!(self.moment.is_some(), "its rows begin with their moments");
        read_bound(value)
    }
}

/// New rows of a key, and how far the rows go that they can match.
struct Span {
    rows: Range<usize>,
    upto: EventTime,
}

/// What new rows of one side look up on the other.
#[derive(Default)]
pub(super) struct Probes {
    /// Ascending; a key may come several times.
    pub(super) keys: Bytes,
    /// From which row on.
    pub(super) from: Bytes,
    spans: Vec<Span>,
}

impl Probes {
    fn push(&mut self, key: &[u8], from: &[u8], span: Span) -> Result<(), RowError> {
        self.keys.try_push(key)?;
        self.from.try_push(from)?;
        self.spans.push(span);
        Ok(())
    }
}

impl Prepared {
    /// The look-ups of the new rows of `side`: rows whose matches may overlap share one.
    pub(super) fn probes(&self, side: usize, fresh: &fresh::Side<'_>) -> Result<Probes, RowError> {
        let mut probes = Probes::default();
        for (at, key) in fresh.keys.iter().enumerate() {
            let rows = fresh.of_key(at);
            let Some(reach) = self.reach else {
                probes.push(key, &[], Span { rows, upto: NEVER })?;
                continue;
            };
            let first = probes.spans.len();
            for row in rows {
                let moment = self.sides[side].moment_of(fresh.rows[row].value);
                let (from, upto) = reach.of(side, moment);
                match probes.spans[first..].last_mut() {
                    Some(span) if from <= span.upto => {
                        (span.rows.end, span.upto) = (row + 1, upto);
                    }
                    _ => {
                        let rows = row..row + 1;
                        probes.push(key, &bound_prefix(from), Span { rows, upto })?;
                    }
                }
            }
        }
        Ok(probes)
    }

    /// The new rows of `side` that a row found on the other side may match; `None`: it lies behind all of
    /// them, and so do all that follow.
    pub(super) fn seekers(
        &self,
        (probes, probe): (&Probes, usize),
        side: usize,
        fresh: &fresh::Side<'_>,
        found: &[u8],
    ) -> Option<Range<usize>> {
        let span = &probes.spans[probe];
        if self.reach.is_none() {
            return Some(span.rows.clone());
        }
        if self.sides[1 - side].moment_of(found) > span.upto {
            return None;
        }
        Some(self.near(1 - side, found, fresh, span.rows.clone()))
    }

    /// Those of some new rows of the other side, in order, that a row of `side` may match.
    pub(super) fn near(
        &self,
        side: usize,
        row: &[u8],
        fresh: &fresh::Side<'_>,
        rows: Range<usize>,
    ) -> Range<usize> {
        let Some(reach) = self.reach else {
            return rows;
        };
        let (from, upto) = reach.of(side, self.sides[side].moment_of(row));
        let moment = |row: &fresh::Row<'_>| self.sides[1 - side].moment_of(row.value);
        let of_key = &fresh.rows[rows.clone()];
        let first = of_key.partition_point(|row| moment(row) < from);
        let last = of_key.partition_point(|row| moment(row) <= upto);
        rows.start + first..rows.start + last.max(first)
    }
}
