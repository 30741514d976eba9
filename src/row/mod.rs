//! What flows between operators, and how its rows become bytes.
//!
//! A stream's message is a [`Delta`]: an Arrow batch, its multiplicities, its one time. State keeps
//! rows as bytes instead: *keys* memory-comparable through [`KeyCodec`] (byte order is row order),
//! *values* compact through [`ValueCodec`] (no order). [`Bytes`] is the flat column that holds either.
//!
//! | module | what it holds |
//! |---|---|
//! | [`bytes`] | [`Bytes`], a flat column of byte strings |
//! | [`ends`] | where the strings of a column end |
//! | [`hash`](mod@hash) | the stable hash by which rows find their worker |
//! | [`key`] | keys: memory-comparable rows, event-time bounds in front |
//! | [`value`] | values: compact rows |
//! | [`varint`] | integers of variable length, as the codecs and sketches write them |
//! | [`exact_sum`] | a sum of doubles that does not depend on their order |
//! | [`moments`] | exact power sums, and the statistics that they give |
//! | [`bits`] | counts of set bits |
//! | [`origin`] | where rows were read |
//! | [`hll`] | the number of distinct values, approximately |
//!
//! Everything that is written to disk here is a function of the rows alone: no pointer, machine or
//! library version shows in it. Byte orders are fixed: big-endian in keys, little-endian in values.

pub mod bits;
pub mod bytes;
pub mod ends;
pub mod error;
pub mod exact_sum;
pub mod hash;
pub mod hll;
pub mod key;
pub mod moments;
pub mod origin;
pub mod value;
pub mod varint;

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

pub use self::bits::{BitOperation, Bits};
pub use self::bytes::Bytes;
pub use self::ends::{Ends, shrink};
pub use self::error::{Result, RowError};
pub use self::exact_sum::ExactSum;
pub use self::hash::{hash, route};
pub use self::hll::HyperLogLog;
pub use self::key::{KeyCodec, bound_prefix, has_floats, normalised, read_bound};
pub use self::moments::{Moments, Statistic};
pub use self::origin::Origin;
pub use self::value::{ValueCodec, ValueEncoder};

use crate::time::Time;

/// Changes of one time: rows and how often each was added (or, below zero, taken away).
#[derive(Clone, Debug)]
pub struct Delta {
    /// The rows.
    pub batch: RecordBatch,
    /// The multiplicity of each row; `None` means that each was added once.
    pub diffs: Option<Arc<[i64]>>,
    /// Where the rows were read, where each still is one row that was read.
    pub origin: Option<Origin>,
    /// When all of this happened.
    pub time: Time,
}

impl Delta {
    /// Rows that were each added once.
    pub fn inserts(batch: RecordBatch, time: Time) -> Self {
        Self {
            batch,
            diffs: None,
            origin: None,
            time,
        }
    }

    /// The rows that `keep` keeps.
    pub fn filter(&self, keep: &BooleanArray) -> std::result::Result<Self, ArrowError> {
        let diffs = match &self.diffs {
            Some(all) => {
                let kept = filter(&Int64Array::from(all.to_vec()), keep)?;
                Some(Arc::from(&kept.as_primitive::<Int64Type>().values()[..]))
            }
            None => None,
        };
        Ok(Self {
            batch: filter_record_batch(&self.batch, keep)?,
            diffs,
            origin: self.origin.as_ref().map(|origin| origin.filter(keep)),
            time: self.time,
        })
    }

    /// The rows from `offset` on, `length` of them.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            batch: self.batch.slice(offset, length),
            diffs: self
                .diffs
                .as_ref()
                .map(|diffs| Arc::from(&diffs[offset..offset + length])),
            origin: self
                .origin
                .as_ref()
                .map(|origin| origin.slice(offset, length)),
            time: self.time,
        }
    }

    /// The number of rows, whatever their multiplicities.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The multiplicity of row `i`.
    #[inline]
    pub fn diff(&self, i: usize) -> i64 {
        self.diffs.as_ref().map_or(1, |diffs| diffs[i])
    }

    /// Whether no row is taken away.
    pub fn is_append_only(&self) -> bool {
        self.diffs
            .as_ref()
            .is_none_or(|diffs| diffs.iter().all(|diff| *diff >= 0))
    }
}
