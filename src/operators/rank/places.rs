//! Which ranks rows have, counted as they come in their order.

use crate::plan::RankFunction;

/// The ranks of rows that are equal: from the first to the last, each so often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranks {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) each: i64,
}

impl Ranks {
    /// Those from `first` to `last`.
    pub(super) fn within(self, first: u64, last: u64) -> Self {
        Self {
            first: self.first.max(first),
            last: self.last.min(last),
            ..self
        }
    }

    /// How many rows have them.
    pub(super) fn rows(self) -> i64 {
        if self.last < self.first {
            return 0;
        }
        (self.last - self.first + 1) as i64 * self.each
    }

    /// How many rows have this one.
    pub(super) fn at(self, rank: u64) -> i64 {
        if (self.first..=self.last).contains(&rank) {
            self.each
        } else {
            0
        }
    }
}

/// Counts the rows of one partition.
#[derive(Debug)]
pub(super) struct Counter {
    function: RankFunction,
    /// The rows so far.
    rows: u64,
    /// The rank of the last of them.
    rank: u64,
    /// What orders the last of them.
    order: Option<Vec<u8>>,
}

impl Counter {
    pub(super) fn new(function: RankFunction) -> Self {
        Self {
            function,
            rows: 0,
            rank: 0,
            order: None,
        }
    }

    /// Begins with another partition.
    pub(super) fn clear(&mut self) {
        (self.rows, self.rank, self.order) = (0, 0, None);
    }

    /// The ranks of the next rows: so many that are equal, with this order.
    pub(super) fn take(&mut self, order: &[u8], count: i64) -> Ranks {
        let Ok(count @ 1..) = u64::try_from(count) else {
            return Ranks {
                first: 1,
                last: 0,
                each: 0,
            };
        };
        let first = self.rows + 1;
        self.rows += count;
        if self.function == RankFunction::RowNumber {
            self.rank = self.rows;
            return Ranks {
                first,
                last: self.rows,
                each: 1,
            };
        }
        if self.order.as_deref() != Some(order) {
            self.rank = match self.function {
                RankFunction::DenseRank => self.rank + 1,
                _ => first,
            };
            self.order = Some(order.to_vec());
        }
        Ranks {
            first: self.rank,
            last: self.rank,
            each: count as i64,
        }
    }

    /// Whether all rows that follow have ranks behind `last`.
    pub(super) fn is_past(&self, last: u64) -> bool {
        match self.function {
            RankFunction::RowNumber => self.rows >= last,
            _ => self.rank > last,
        }
    }
}
