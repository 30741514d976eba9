//! What operators remember: traces of byte rows.
//!
//! Two objects are offered, neither generic. A [`Table`] holds a value for each key, a [`Multiset`] a
//! count for each (key, value). Both are owned by one operator, take the changes of one epoch at a time
//! ([`Table::apply`]), answer for the present, and forget what a watermark has expired ([`Table::forget`])
//! whenever a merge comes by; readers skip it at once, so no answer depends on when that is.
//!
//! Underneath lies differential's spine over chunks of ours. From the ground up:
//!
//! | module | what it holds |
//! |---|---|
//! | `column`, `rows` | encoded rows on their way in: [`Rows`], [`Column`] |
//! | `diff` | the two merge rules: counts add up, or the newest wins |
//! | `heads`, `filter` | an index of sorted keys; what most keys are not among |
//! | `chunk` | sorted rows, a thousand at a time: the unit of everything below |
//! | `merge` | how chunks are merged, folded, expired |
//! | `batch`, `merger` | chunks in a row, as the spine holds and merges them and as they are read meanwhile |
//! | `sort` | an epoch's rows to chunks |
//! | `walk` | galloping lookups and merged scans over runs of chunks |
//! | `cursor` | differential's cursors over chunks: the reference implementation for tests |
//! | `section` | a batch on disk: [`SectionInfo`], [`Input`] |
//! | `recorder` | sealed batches that wait for a commit: [`Recorder`] |
//! | `stream` | sorted chunks that come bit by bit, merged |
//! | `restore` | sections back to rows, and to snapshots: [`Sections`], [`RestoredSections`] |
//! | `trace` | a spine: sealing, forgetting, idle work |
//! | `table`, `multiset` | the two objects |
//!
//! A row is (key, value, expiry) with a count. Expiry is part of what it is: a retraction must carry
//! the expiry of what it retracts.

mod batch;
mod chunk;
mod column;
mod cursor;
mod diff;
mod error;
mod filter;
mod heads;
mod merge;
mod merger;
mod multiset;
mod recorder;
mod restore;
mod rows;
mod section;
mod size;
mod sort;
mod stream;
mod table;
mod trace;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

pub use self::column::Column;
pub use self::error::{Result, StateError};
pub use self::heads::Place;
pub use self::multiset::{Additions, FoundPair, Multiset};
pub use self::recorder::{RecordedBatch, Recorder};
pub use self::restore::{RestoredSections, Sections};
pub use self::rows::Rows;
pub use self::section::{HEADER_LEN, Input, SectionInfo, SectionRow, TraceKind};
pub use self::size::{StateSize, Waiting};
pub use self::sort::{places_by_key, places_by_row};
pub use self::table::{Table, TableChanges, TableKind};

/// About how many rows of each merge an idle operator merges before it looks around again: an epoch that begins meanwhile waits.
pub const IDLE_EFFORT: usize = 256;
