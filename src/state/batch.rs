//! Sorted chunks in a row, as a spine holds and merges them, and as readers see them.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use differential_dataflow::trace::implementations::spine_fueled::SpineBatch;

use crate::row::Bytes;
use crate::state::chunk::RowChunk;
use crate::state::diff::Diff;
use crate::state::filter::Filter;
use crate::state::heads::Heads;
use crate::state::merger::BatchMerger;
use crate::state::walk::Walk;
use crate::time::{EventTime, Time};

/// Chunks that no run holds any more. They are freed a few at a time: a large batch takes milliseconds.
pub(crate) type Garbage<R> = Rc<RefCell<Vec<RowChunk<R>>>>;

/// Frees so many of the chunks that no run holds any more. Whether there were any.
pub(crate) fn free<R: Diff>(garbage: &Garbage<R>, many: usize) -> bool {
    let mut garbage = garbage.borrow_mut();
    let left = garbage.len().saturating_sub(many);
    garbage.drain(left..).count() > 0
}

/// What a spine holds.
///
/// While two batches are merged, what has been merged is read from there, and their own chunks are given back: rows are
/// there once, but for a few.
pub(crate) struct Batch<R: Diff> {
    /// As it was made.
    rows: usize,
    /// What is not yet merged with another.
    rest: RefCell<Shared<R>>,
    /// What is, in the older of the two.
    merged: OnceCell<Growing<R>>,
}

/// A run that a merge adds to while it is read.
pub(crate) type Growing<R> = Rc<RefCell<Shared<R>>>;

impl<R: Diff> Batch<R> {
    /// Of a run that is not empty.
    pub(crate) fn new(run: Shared<R>) -> Self {
        Self {
            rows: run.rows(),
            rest: RefCell::new(run),
            merged: OnceCell::new(),
        }
    }

    /// What is to be read in its place: no key is in both.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Shared<R>> {
        let merged = self.merged.get().map(|merged| merged.borrow().clone());
        let rest = self.rest.borrow().clone();
        [Some(rest), merged]
            .into_iter()
            .flatten()
            .filter(|run| !run.is_empty())
    }

    /// A chunk, if there is one of this number: one that has not been given back.
    pub(crate) fn chunk(&self, number: usize) -> Option<RowChunk<R>> {
        self.rest.borrow().chunks().get(number).cloned()
    }

    /// Where a merge with the next newer batch, which begins, puts what it has merged.
    pub(crate) fn begin_merge(&self) -> Growing<R> {
        let empty = || Rc::new(RefCell::new(Rc::new(self.rest.borrow().without_rows())));
        Rc::clone(self.merged.get_or_init(empty))
    }

    /// All keys up to `key` have been merged, and are read from there.
    pub(crate) fn give_back(&self, key: &[u8]) {
        Rc::make_mut(&mut self.rest.borrow_mut()).give_back(key);
    }
}

impl<R: Diff> SpineBatch for Batch<R> {
    type Time = Time;
    type Merger = BatchMerger<R>;

    fn len(&self) -> usize {
        self.rows
    }
}

/// Sorted chunks. What is asked of them again and again is kept: it must not cost more where there is more state.
#[derive(Clone)]
pub(crate) struct Run<R: Diff> {
    /// Those before the start are empty: they have been given back.
    chunks: Vec<RowChunk<R>>,
    /// The first key that there is: its chunk, and which of its keys.
    start: (usize, usize),
    /// The rows of the chunks that there are.
    rows: usize,
    last_keys: Bytes,
    /// Of the keys of each chunk, so that to ask one reads nothing else of its chunk.
    filters: Vec<Filter>,
    /// Of the last key of each chunk.
    fences: Heads,
    min_expiry: EventTime,
    max_expiry: EventTime,
    garbage: Garbage<R>,
}

/// A run as its readers share it.
pub(crate) type Shared<R> = Rc<Run<R>>;

impl<R: Diff> Run<R> {
    fn empty(garbage: &Garbage<R>) -> Self {
        Self {
            chunks: vec![],
            start: (0, 0),
            rows: 0,
            last_keys: Bytes::default(),
            filters: vec![],
            fences: Heads::default(),
            min_expiry: EventTime::MAX,
            max_expiry: EventTime::MIN,
            garbage: Rc::clone(garbage),
        }
    }

    /// A run of no rows whose chunks will go where those of this one go.
    pub(crate) fn without_rows(&self) -> Self {
        Self::empty(&self.garbage)
    }

    /// Where its chunks go.
    pub(crate) fn garbage(&self) -> &Garbage<R> {
        &self.garbage
    }

    /// Of chunks that hold rows.
    pub(crate) fn new(chunks: impl IntoIterator<Item = RowChunk<R>>, garbage: &Garbage<R>) -> Self {
        let mut run = Self::empty(garbage);
        run.append(chunks);
        run
    }

    /// Takes in what sorts after all others: chunks that hold rows.
    pub(crate) fn append(&mut self, chunks: impl IntoIterator<Item = RowChunk<R>>) {
        for chunk in chunks {
            self.filters.push(chunk.filter().clone());
            let body = &*chunk.0;
            self.rows += body.rows();
            self.last_keys.push(body.last_key());
            self.min_expiry = self.min_expiry.min(body.min_expiry);
            self.max_expiry = self.max_expiry.max(body.max_expiry);
            self.chunks.push(chunk);
        }
        self.fences = Heads::of(self.chunks.len(), |i| self.last_keys.get(i));
    }

    /// Forgets all keys up to `key`.
    fn give_back(&mut self, key: &[u8]) {
        let mut walk = Walk::new(self);
        if walk.seek(key) {
            walk.step();
        }
        let start = walk.place();
        let none = RowChunk::default();
        let given = &mut self.chunks[self.start.0..start.0];
        let given = given
            .iter_mut()
            .map(|chunk| std::mem::replace(chunk, none.clone()));
        let mut garbage = self.garbage.borrow_mut();
        for chunk in given {
            self.rows -= chunk.0.rows();
            garbage.push(chunk);
        }
        self.start = start;
    }

    /// The chunks.
    #[inline]
    pub(crate) fn chunks(&self) -> &[RowChunk<R>] {
        &self.chunks
    }

    /// The first key that there is: its chunk, and which of its keys.
    #[inline]
    pub(crate) fn start(&self) -> (usize, usize) {
        self.start
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.start.0 == self.chunks.len()
    }

    /// The number of rows, those of a first chunk that is given back in part included.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The first chunk from `start` on that may hold `key`, or what sorts after it.
    #[inline]
    pub(crate) fn seek(&self, start: usize, key: &[u8]) -> usize {
        let last_key = |i: usize| self.last_keys.get(i);
        self.fences.seek(start, key, last_key).0
    }

    /// Whether a key of this hash may be among those of a chunk.
    #[inline]
    pub(crate) fn may_hold(&self, chunk: usize, hash: u64) -> bool {
        let filter = self.filters.get(chunk);
        filter.is_some_and(|filter| filter.may_hold(hash))
    }

    /// How many rows `watermark` has expired, taking expiries to be spread evenly.
    pub(crate) fn expired(&self, watermark: EventTime) -> usize {
        let (rows, min, max) = (self.rows, self.min_expiry, self.max_expiry);
        if max <= watermark {
            rows
        } else if min <= watermark {
            let span = max as f64 - min as f64;
            let share = (watermark as f64 - min as f64) / span.max(1.0);
            (rows as f64 * share) as usize
        } else {
            0
        }
    }
}

impl<R: Diff> Drop for Run<R> {
    fn drop(&mut self) {
        self.garbage.borrow_mut().append(&mut self.chunks);
    }
}
