//! The one timestamp of every dataflow.
//!
//! A [`Time`] names the epoch that an update belongs to and how far event time had surely come
//! when that epoch opened. The watermark is a function of the epoch, so times form a chain; the
//! order is lexicographic and total whatever the watermark does. A frontier over `Time` therefore
//! says which epochs are complete, and the compaction frontier built from it says what may be
//! forgotten.

use differential_dataflow::lattice::{Lattice, Maximum};
use serde::{Deserialize, Serialize};
use timely::order::{PartialOrder, TotalOrder};
use timely::progress::timestamp::{PathSummary, Refines, Timestamp};

/// The number of an epoch, from 0.
pub type Epoch = u64;

/// Microseconds since 1970-01-01 00:00:00 UTC. [`NO_WATERMARK`] is "nothing is known yet".
pub type EventTime = i64;

/// The watermark before any: no row is late, no window is closed.
pub const NO_WATERMARK: EventTime = i64::MIN;

/// The expiry of what is never forgotten.
pub const NEVER: EventTime = i64::MAX;

/// When an update happened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time {
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// How far event time had surely come by then.
    pub watermark: EventTime,
}

impl Time {
    /// The time of epoch `epoch`, whose watermark is `watermark`.
    pub const fn new(epoch: Epoch, watermark: EventTime) -> Self {
        Self { epoch, watermark }
    }

    /// The lower edge of `epoch`: at or before every time of it, whatever its watermark will be.
    /// Never a compaction frontier: it would let nothing expire.
    pub const fn opening(epoch: Epoch) -> Self {
        Self {
            epoch,
            watermark: NO_WATERMARK,
        }
    }
}

impl PartialOrder for Time {
    #[inline]
    fn less_equal(&self, other: &Self) -> bool {
        self <= other
    }
    #[inline]
    fn less_than(&self, other: &Self) -> bool {
        self < other
    }
}

impl TotalOrder for Time {}

/// There are no loops: the only path through an operator leaves a time as it is.
impl PathSummary<Time> for () {
    #[inline]
    fn results_in(&self, src: &Time) -> Option<Time> {
        Some(*src)
    }
    #[inline]
    fn followed_by(&self, (): &()) -> Option<()> {
        Some(())
    }
}

impl Timestamp for Time {
    type Summary = ();
    fn minimum() -> Self {
        Self::opening(0)
    }
}

impl Refines<()> for Time {
    fn to_inner((): ()) -> Self {
        Self::minimum()
    }
    fn to_outer(self) {}
    fn summarize((): ()) {}
}

impl Lattice for Time {
    #[inline]
    fn join(&self, other: &Self) -> Self {
        *self.max(other)
    }
    #[inline]
    fn meet(&self, other: &Self) -> Self {
        *self.min(other)
    }
}

impl Maximum for Time {
    fn maximum() -> Self {
        Self::new(Epoch::MAX, EventTime::MAX)
    }
}
