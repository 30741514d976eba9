//! Differential's cursors over our chunks: slower than `walk`, and its reference in tests.
//!
//! A cursor knows nothing of expiry, and yields what has expired as long as no merge has dropped it.

use std::marker::PhantomData;

use differential_dataflow::trace::chunk::NavigableChunk;
use differential_dataflow::trace::implementations::BatchContainer;
use differential_dataflow::trace::{Cursor, Navigable};

use crate::row::Bytes;
use crate::state::chunk::RowChunk;
use crate::state::diff::Diff;
use crate::time::Time;

/// A position in one chunk: a key and a row.
pub(crate) struct RowCursor<R> {
    key: usize,
    row: usize,
    rule: PhantomData<R>,
}

impl<R: Diff> RowCursor<R> {
    /// The row behind those of the same value.
    fn val_end(&self, chunk: &RowChunk<R>) -> usize {
        let body = &chunk.0;
        let val = body.vals.get(self.row);
        let rows = self.row..body.key_end(self.key);
        self.row + rows.take_while(|r| body.vals.get(*r) == val).count()
    }
}

impl<R: Diff> Navigable for RowChunk<R> {
    type Cursor = RowCursor<R>;

    fn cursor(&self) -> RowCursor<R> {
        RowCursor {
            key: 0,
            row: 0,
            rule: PhantomData,
        }
    }
}

impl<R: Diff> NavigableChunk for RowChunk<R> {
    fn bounds(&self) -> ((&[u8], &[u8], &Time), (&[u8], &[u8], &Time)) {
        let body = &*self.0;
        let (k, r) = (body.nkeys() - 1, body.rows() - 1);
        (
            (body.keys.get(0), body.vals.get(0), body.times.at(0)),
            (body.keys.get(k), body.vals.get(r), body.times.at(r)),
        )
    }
}

impl<R: Diff> Cursor for RowCursor<R> {
    type Storage = RowChunk<R>;
    type Key<'a> = &'a [u8];
    type ValOwn = Vec<u8>;
    type Val<'a> = &'a [u8];
    type Time = Time;
    type TimeGat<'a> = &'a Time;
    type Diff = R;
    type DiffGat<'a> = &'a R;
    type KeyContainer = Bytes;
    type ValContainer = Bytes;
    type TimeContainer = Vec<Time>;
    type DiffContainer = Vec<R>;

    fn key_valid(&self, chunk: &RowChunk<R>) -> bool {
        self.key < chunk.0.nkeys()
    }

    fn val_valid(&self, chunk: &RowChunk<R>) -> bool {
        self.key_valid(chunk) && self.row < chunk.0.key_end(self.key)
    }

    fn key<'a>(&self, chunk: &'a RowChunk<R>) -> &'a [u8] {
        chunk.0.keys.get(self.key)
    }

    fn val<'a>(&self, chunk: &'a RowChunk<R>) -> &'a [u8] {
        chunk.0.vals.get(self.row)
    }

    fn get_key<'a>(&self, chunk: &'a RowChunk<R>) -> Option<&'a [u8]> {
        self.key_valid(chunk).then(|| self.key(chunk))
    }

    fn get_val<'a>(&self, chunk: &'a RowChunk<R>) -> Option<&'a [u8]> {
        self.val_valid(chunk).then(|| self.val(chunk))
    }

    fn map_times<L: FnMut(&Time, &R)>(&mut self, chunk: &RowChunk<R>, mut logic: L) {
        if self.val_valid(chunk) {
            for row in self.row..self.val_end(chunk) {
                logic(chunk.0.times.at(row), chunk.0.diffs.at(row));
            }
        }
    }

    fn step_key(&mut self, chunk: &RowChunk<R>) {
        if self.key_valid(chunk) {
            self.row = chunk.0.key_end(self.key);
            self.key += 1;
        }
    }

    fn seek_key(&mut self, chunk: &RowChunk<R>, key: &[u8]) {
        self.key = chunk.0.seek(self.key, key).0;
        self.row = chunk.0.key_start(self.key);
    }

    fn step_val(&mut self, chunk: &RowChunk<R>) {
        if self.val_valid(chunk) {
            self.row = self.val_end(chunk);
        }
    }

    fn seek_val(&mut self, chunk: &RowChunk<R>, val: &[u8]) {
        while self.get_val(chunk).is_some_and(|v| v < val) {
            self.row += 1;
        }
    }

    fn rewind_keys(&mut self, _: &RowChunk<R>) {
        (self.key, self.row) = (0, 0);
    }

    fn rewind_vals(&mut self, chunk: &RowChunk<R>) {
        self.row = chunk.0.key_start(self.key);
    }
}

impl BatchContainer for Bytes {
    type Owned = Vec<u8>;
    type ReadItem<'a> = &'a [u8];

    fn into_owned(item: &[u8]) -> Vec<u8> {
        item.to_vec()
    }

    fn push_ref(&mut self, item: &[u8]) {
        self.push(item);
    }

    fn push_own(&mut self, item: &Vec<u8>) {
        self.push(item);
    }

    fn clear(&mut self) {
        Self::clear(self);
    }

    fn with_capacity(size: usize) -> Self {
        Self::with_capacity(size, 0)
    }

    fn merge_capacity(a: &Self, b: &Self) -> Self {
        Self::with_capacity(a.len() + b.len(), a.concat().len() + b.concat().len())
    }

    fn reborrow<'b, 'a: 'b>(item: &'a [u8]) -> &'b [u8] {
        item
    }

    fn index(&self, index: usize) -> &[u8] {
        self.get(index)
    }

    fn len(&self) -> usize {
        Self::len(self)
    }
}
