//! Sorted chunks in a row, as a spine holds and merges them.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::trace::implementations::spine_fueled::SpineBatch;

use crate::row::Bytes;
use crate::state::chunk::RowChunk;
use crate::state::diff::Diff;
use crate::state::filter::Filter;
use crate::state::heads::Heads;
use crate::state::merger::BatchMerger;
use crate::time::{EventTime, Time};

/// Chunks that no batch holds any more. They are freed a few at a time: a large batch takes milliseconds.
pub(crate) type Garbage<R> = Rc<RefCell<Vec<RowChunk<R>>>>;

/// What a spine asks of a batch again and again is kept: it must not cost more where there is more state.
pub(crate) struct Batch<R: Diff> {
    chunks: Vec<RowChunk<R>>,
    summary: Summary,
    /// Of the last key of each chunk.
    fences: Heads,
    garbage: Garbage<R>,
}

/// What is to be known of the chunks of a batch, gathered as they come.
pub(crate) struct Summary {
    rows: usize,
    last_keys: Bytes,
    /// Of the keys of each chunk, so that to ask one reads nothing else of its chunk.
    filters: Vec<Filter>,
    min_expiry: EventTime,
    max_expiry: EventTime,
}

impl Summary {
    /// Of no chunks.
    pub(crate) fn new() -> Self {
        Self {
            rows: 0,
            last_keys: Bytes::default(),
            filters: vec![],
            min_expiry: EventTime::MAX,
            max_expiry: EventTime::MIN,
        }
    }

    /// The number of chunks.
    pub(crate) fn chunks(&self) -> usize {
        self.last_keys.len()
    }

    /// Takes in the next chunk.
    pub(crate) fn add<R: Diff>(&mut self, chunk: &RowChunk<R>) {
        self.filters.push(chunk.filter().clone());
        let body = &chunk.0;
        self.rows += body.rows();
        self.last_keys.push(body.last_key());
        self.min_expiry = self.min_expiry.min(body.min_expiry);
        self.max_expiry = self.max_expiry.max(body.max_expiry);
    }
}

impl<R: Diff> Batch<R> {
    /// Of chunks that hold rows.
    pub(crate) fn new(chunks: Vec<RowChunk<R>>, garbage: &Garbage<R>) -> Self {
        let mut summary = Summary::new();
        chunks.iter().for_each(|chunk| summary.add(chunk));
        Self::summed_up(chunks, summary, garbage)
    }

    /// Of chunks that hold rows, which `summary` has taken in.
    pub(crate) fn summed_up(
        chunks: Vec<RowChunk<R>>,
        summary: Summary,
        garbage: &Garbage<R>,
    ) -> Self {
        Self {
            fences: Heads::of(chunks.len(), |i| summary.last_keys.get(i)),
            chunks,
            summary,
            garbage: Rc::clone(garbage),
        }
    }

    /// Where its chunks go.
    pub(crate) fn garbage(&self) -> &Garbage<R> {
        &self.garbage
    }

    /// The chunks.
    #[inline]
    pub(crate) fn chunks(&self) -> &[RowChunk<R>] {
        &self.chunks
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.summary.rows
    }

    /// The first chunk from `start` on that may hold `key`, or what sorts after it.
    #[inline]
    pub(crate) fn seek(&self, start: usize, key: &[u8]) -> usize {
        let last_key = |i: usize| self.summary.last_keys.get(i);
        self.fences.seek(start, key, last_key).0
    }

    /// Whether a key of this hash may be among those of a chunk.
    #[inline]
    pub(crate) fn may_hold(&self, chunk: usize, hash: u64) -> bool {
        let filter = self.summary.filters.get(chunk);
        filter.is_some_and(|filter| filter.may_hold(hash))
    }

    /// How many rows `watermark` has expired, taking expiries to be spread evenly.
    pub(crate) fn expired(&self, watermark: EventTime) -> usize {
        let Summary {
            rows,
            min_expiry,
            max_expiry,
            ..
        } = self.summary;
        if max_expiry <= watermark {
            rows
        } else if min_expiry <= watermark {
            let span = max_expiry as f64 - min_expiry as f64;
            let share = (watermark as f64 - min_expiry as f64) / span.max(1.0);
            (rows as f64 * share) as usize
        } else {
            0
        }
    }
}

impl<R: Diff> Drop for Batch<R> {
    fn drop(&mut self) {
        self.garbage.borrow_mut().append(&mut self.chunks);
    }
}

impl<R: Diff> SpineBatch for Batch<R> {
    type Time = Time;
    type Merger = BatchMerger<R>;

    fn len(&self) -> usize {
        self.summary.rows
    }
}

/// A batch as a spine and its readers share it.
pub(crate) type Shared<R> = Rc<Batch<R>>;
