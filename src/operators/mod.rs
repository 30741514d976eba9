//! The operators of a dataflow, one file each.
//!
//! A stream carries [`Deltas`]: Arrow batches with multiplicities, each at one [`Time`](crate::time::Time). What an
//! operator guarantees, whatever it does:
//!
//! - What it gives for an epoch is a function of its state before the epoch, the rows of the epoch
//!   and the epoch's [`EpochInfo`]; neither the cut into batches nor their order shows.
//! - A stateful operator works once an epoch is complete at its input (an [`EpochCursor`] says
//!   when), also when it got no row, and holds a capability for the epoch until it is done.
//! - An error in data or in a connector goes to [`Context::fail`]; nothing panics.

pub mod aggregate;
pub mod aside;
pub mod calls;
pub mod container;
pub mod context;
pub mod dead_letter;
pub mod deduplicate;
pub mod expression;
pub mod filter_project;
pub mod join;
pub mod keyed;
pub mod late;
pub mod moment;
pub mod nearest;
pub mod output;
pub mod over;
pub mod rank;
pub mod restored;
pub mod session_window;
pub mod source;
pub mod unnest;
pub mod values;
pub mod whole;

pub use container::{DeltaStream, Deltas, RowStream};
pub use context::{Context, EpochCursor, EpochInfo, OperatorError, OperatorStats, SourceProgress};
pub use restored::Restored;

use crate::time::{EventTime, NEVER, NO_WATERMARK};

/// The watermark at which state goes that is bounded by this moment, on an edge that runs `lag`
/// microseconds behind. Whoever merges state, here or on disk, knows the watermark only.
fn expires(bound: EventTime, lag: i64) -> EventTime {
    match bound {
        NEVER => NEVER,
        end => end.saturating_add(lag).min(NEVER - 1),
    }
}

/// The watermark of an edge that runs `lag` microseconds behind.
fn behind(watermark: EventTime, lag: i64) -> EventTime {
    if watermark == NO_WATERMARK {
        NO_WATERMARK
    } else {
        watermark.saturating_sub(lag)
    }
}
