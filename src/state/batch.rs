//! Sorted chunks in a row, as a spine holds and merges them.

use std::rc::Rc;

use differential_dataflow::trace::chunk::{ChunkBatch, ChunkBatchMerger};
use differential_dataflow::trace::implementations::spine_fueled::{Merger, SpineBatch};
use timely::progress::frontier::AntichainRef;

use crate::state::chunk::RowChunk;
use crate::state::diff::Diff;
use crate::state::heads::Heads;
use crate::time::{EventTime, Time};

/// What a spine asks of a batch again and again is kept: it must not cost more where there is more state.
pub(crate) struct Batch<R: Diff> {
    inner: ChunkBatch<RowChunk<R>>,
    rows: usize,
    /// Of the last key of each chunk.
    fences: Heads,
    min_expiry: EventTime,
    max_expiry: EventTime,
}

impl<R: Diff> Batch<R> {
    /// Of chunks that hold rows.
    pub(crate) fn new(chunks: Vec<RowChunk<R>>) -> Self {
        Self::of(ChunkBatch::new(chunks))
    }

    fn of(inner: ChunkBatch<RowChunk<R>>) -> Self {
        let bodies = || inner.chunks.iter().map(|chunk| &chunk.0);
        let (mut rows, mut min_expiry, mut max_expiry) = (0, EventTime::MAX, EventTime::MIN);
        for body in bodies() {
            rows += body.rows();
            min_expiry = min_expiry.min(body.min_expiry);
            max_expiry = max_expiry.max(body.max_expiry);
        }
        let fences = Heads::of(inner.chunks.len(), |i| inner.chunks[i].0.last_key());
        Self {
            inner,
            rows,
            fences,
            min_expiry,
            max_expiry,
        }
    }

    /// The chunks.
    #[inline]
    pub(crate) fn chunks(&self) -> &[RowChunk<R>] {
        &self.inner.chunks
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The first chunk from `start` on that may hold `key`, or what sorts after it.
    #[inline]
    pub(crate) fn seek(&self, start: usize, key: &[u8]) -> usize {
        let last_key = |i: usize| self.inner.chunks[i].0.last_key();
        self.fences.seek(start, key, last_key).0
    }

    /// How many rows `watermark` has expired, taking expiries to be spread evenly.
    pub(crate) fn expired(&self, watermark: EventTime) -> usize {
        if self.max_expiry <= watermark {
            self.rows
        } else if self.min_expiry <= watermark {
            let span = self.max_expiry as f64 - self.min_expiry as f64;
            let share = (watermark as f64 - self.min_expiry as f64) / span.max(1.0);
            (self.rows as f64 * share) as usize
        } else {
            0
        }
    }
}

impl<R: Diff> SpineBatch for Batch<R> {
    type Time = Time;
    type Merger = BatchMerger<R>;

    fn len(&self) -> usize {
        self.rows
    }
}

/// Merges two batches bit by bit.
pub(crate) struct BatchMerger<R: Diff>(ChunkBatchMerger<RowChunk<R>>);

impl<R: Diff> Merger<Batch<R>> for BatchMerger<R> {
    fn new(older: &Batch<R>, newer: &Batch<R>, frontier: AntichainRef<'_, Time>) -> Self {
        Self(ChunkBatchMerger::new(&older.inner, &newer.inner, frontier))
    }

    fn work(&mut self, older: &Batch<R>, newer: &Batch<R>, fuel: &mut isize) {
        self.0.work(&older.inner, &newer.inner, fuel);
    }

    fn done(self) -> Option<Batch<R>> {
        self.0.done().map(Batch::of)
    }
}

/// A batch as a spine and its readers share it.
pub(crate) type Shared<R> = Rc<Batch<R>>;
