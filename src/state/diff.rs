//! What a change means: the merge rule of a trace.

use differential_dataflow::difference::{IsZero, Semigroup};

/// The change of a row, and with it the rule by which a trace merges rows.
pub(crate) trait Diff:
    Copy + PartialEq + Default + Ord + std::fmt::Debug + Semigroup + 'static
{
    /// Whether a key keeps only its newest row. Otherwise equal rows add up.
    const NEWEST_WINS: bool;

    /// As a count.
    fn count(self) -> i64;

    /// Of a count.
    fn of(count: i64) -> Self;
}

impl Diff for i64 {
    const NEWEST_WINS: bool = false;

    #[inline]
    fn count(self) -> i64 {
        self
    }

    #[inline]
    fn of(count: i64) -> Self {
        count
    }
}

/// The change of a trace in which the newest row of a key replaces the older ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Last;

impl IsZero for Last {
    fn is_zero(&self) -> bool {
        false
    }
}

impl Semigroup for Last {
    fn plus_equals(&mut self, _: &Self) {}
}

impl Diff for Last {
    const NEWEST_WINS: bool = true;

    #[inline]
    fn count(self) -> i64 {
        1
    }

    #[inline]
    fn of(_: i64) -> Self {
        Self
    }
}
