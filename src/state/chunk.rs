//! A run of sorted byte rows: the unit of a trace.
//!
//! A [`Body`] holds rows in ascending order of (key, value, expiry, time). Keys are kept once for all
//! of their rows, and [indexed](crate::state::heads), so that most comparisons are of integers. Expiry is part of a row's identity: rows add up only if they expire together, so what a
//! merge forgets and what a reader skips is always a whole group, and no answer depends on when a merge
//! ran. Where the newest row of a key wins, a batch has only one of each key. A [`RowChunk`] is a shared body; merges move it where nothing of it changes.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::rc::Rc;

use crate::row::{Bytes, Ends};
use crate::state::column::Column;
use crate::state::diff::Diff;
use crate::state::filter::Filter;
use crate::state::heads::Heads;
use crate::time::{EventTime, Time};

/// Rows of a chunk. With more, single steps of a merge stall an epoch.
pub(crate) const TARGET: usize = 1024;

/// A chunk this large takes no more rows: few of large rows fill the memory of many of small ones.
pub(crate) const MAX_BYTES: usize = 8 << 20;

/// Sorted rows, column by column.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body<R: Diff> {
    /// Each key once.
    pub(crate) keys: Bytes,
    /// The index of the keys, once all are there.
    heads: Heads,
    /// Of the keys, once the chunk is part of a batch, where keys are looked up.
    filter: OnceCell<Filter>,
    /// Where each key's rows end.
    pub(crate) key_ends: Ends,
    /// The value of each row.
    pub(crate) vals: Bytes,
    /// The time of each row.
    pub(crate) times: Column<Time>,
    /// The change of each row.
    pub(crate) diffs: Column<R>,
    /// The expiry of each row.
    pub(crate) expiry: Column<EventTime>,
    /// The least expiry.
    pub(crate) min_expiry: EventTime,
    /// The greatest expiry.
    pub(crate) max_expiry: EventTime,
    /// Whether two rows may differ in nothing but their time.
    pub(crate) unmerged: bool,
}

impl<R: Diff> Body<R> {
    /// An empty body with room for `rows` rows like those of `like`.
    pub(crate) fn like(rows: usize, like: &Self) -> Self {
        let n = like.rows().max(1);
        let keys = like.keys.len() * rows / n + 8;
        // A sixteenth more: a buffer that is too short by a little grows to twice its size.
        let share = |column: &Bytes| column.concat().len() * rows / n * 17 / 16 + 64;
        Self {
            keys: Bytes::with_capacity(keys, share(&like.keys).min(MAX_BYTES)),
            key_ends: Ends::with_capacity(keys),
            vals: Bytes::with_capacity(rows, share(&like.vals).min(MAX_BYTES)),
            ..Self::default()
        }
    }

    /// The number of rows.
    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.vals.len()
    }

    /// The number of keys.
    #[inline]
    pub(crate) fn nkeys(&self) -> usize {
        self.key_ends.len()
    }

    /// The first row of key `k`; `k` may be the number of keys.
    #[inline]
    pub(crate) fn key_start(&self, k: usize) -> usize {
        self.key_ends.start(k)
    }

    /// The row behind the last of key `k`.
    #[inline]
    pub(crate) fn key_end(&self, k: usize) -> usize {
        self.key_ends.get(k)
    }

    /// The key that a row belongs to.
    pub(crate) fn key_of(&self, row: usize) -> usize {
        self.key_ends.first_reaching(0, row + 1)
    }

    /// Whether no row should be added.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.rows() >= TARGET || self.keys.bytes() + self.vals.bytes() >= MAX_BYTES
    }

    /// The memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.heads.bytes()
            + self.filter.get().map_or(0, Filter::bytes)
            + self.keys.bytes()
            + self.key_ends.bytes()
            + self.vals.bytes()
            + self.times.bytes()
            + self.diffs.bytes()
            + self.expiry.bytes()
            + size_of::<Self>()
    }

    fn note_expiry(&mut self, least: EventTime, greatest: EventTime) {
        if self.vals.is_empty() {
            (self.min_expiry, self.max_expiry) = (least, greatest);
        } else {
            self.min_expiry = self.min_expiry.min(least);
            self.max_expiry = self.max_expiry.max(greatest);
        }
    }

    /// Appends a row that sorts after all others.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], val: &[u8], time: Time, diff: R, expiry: EventTime) {
        self.note_expiry(expiry, expiry);
        if self.keys.last() == Some(key) {
            let row = self.rows() - 1;
            self.unmerged |= self.expiry.get(row) == expiry && self.vals.get(row) == val;
            self.key_ends.extend_last(1);
        } else {
            self.keys.push(key);
            self.key_ends.push(self.vals.len() as u32 + 1);
        }
        self.vals.push(val);
        self.times.push(time);
        self.diffs.push(diff);
        self.expiry.push(expiry);
    }

    /// Appends rows `from..to` of `other`, the first of which belongs to its key `k`. They sort after
    /// all others.
    pub(crate) fn extend_rows(&mut self, other: &Self, mut k: usize, from: usize, to: usize) {
        if from >= to {
            return;
        }
        let base = self.vals.len();
        self.note_expiry(other.min_expiry, other.max_expiry);
        self.unmerged |= other.unmerged;
        if self.keys.last() == Some(other.keys.get(k)) {
            let row = base - 1;
            self.unmerged |= self.expiry.get(row) == other.expiry.get(from)
                && self.vals.get(row) == other.vals.get(from);
            let end = other.key_end(k).min(to);
            self.key_ends.extend_last((end - from) as u32);
            k += 1;
        }
        // All keys that begin before `to`.
        let end = other.key_ends.first_reaching(k, to);
        let end = if end < other.nkeys() && other.key_start(end) < to {
            end + 1
        } else {
            end
        };
        if k < end {
            self.keys.extend_range(&other.keys, k, end);
            let ends = (&other.key_ends, k, end);
            self.key_ends
                .extend_range(ends, to as u32, (from as u32, base as u32));
        }
        self.vals.extend_range(&other.vals, from, to);
        self.times.extend_range(&other.times, from, to);
        self.diffs.extend_range(&other.diffs, from, to);
        self.expiry.extend_range(&other.expiry, from, to);
    }

    /// The last key. There is one.
    #[inline]
    pub(crate) fn last_key(&self) -> &[u8] {
        self.keys.get(self.nkeys() - 1)
    }

    /// The order of key `i` and key `j` of `other`.
    #[inline]
    pub(crate) fn cmp_key(&self, i: usize, other: &Self, j: usize) -> Ordering {
        self.keys.get(i).cmp(other.keys.get(j))
    }

    /// The order of row `i` and row `j` of `other` within one key, times aside.
    #[inline]
    pub(crate) fn cmp_row(&self, i: usize, other: &Self, j: usize) -> Ordering {
        self.vals
            .get(i)
            .cmp(other.vals.get(j))
            .then_with(|| self.expiry.get(i).cmp(&other.expiry.get(j)))
    }

    /// Reads the places of memory that [`Body::seek`] will read for `key`, as far as can be said, so that no cache has
    /// to wait for them then. What is read means nothing.
    #[inline]
    pub(crate) fn warm(&self, key: &[u8]) -> u64 {
        let (guess, head) = self.heads.first_look(key);
        let ends = [self.keys.ends(), &self.key_ends, self.vals.ends()];
        let ends = ends.map(|ends| {
            if guess < ends.len() {
                ends.get(guess)
            } else {
                0
            }
        });
        ends.iter().fold(head, |sum, end| sum ^ *end as u64)
    }

    /// The first key from `start` on that is not before `key`, and whether it is `key`: near ones are
    /// found soonest.
    #[inline]
    pub(crate) fn seek(&self, start: usize, key: &[u8]) -> (usize, bool) {
        self.heads.seek(start, key, |i| self.keys.get(i))
    }
}

/// A shared run of rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowChunk<R: Diff>(pub(crate) Rc<Body<R>>);

impl<R: Diff> RowChunk<R> {
    /// Wraps a body, all of whose rows are there.
    pub(crate) fn new(mut body: Body<R>) -> Self {
        body.keys.compact();
        body.key_ends.compact();
        body.vals.compact();
        body.times.shrink();
        body.diffs.shrink();
        body.expiry.shrink();
        body.heads = Heads::of(body.nkeys(), |i| body.keys.get(i));
        Self(Rc::new(body))
    }

    /// The filter of its keys.
    pub(crate) fn filter(&self) -> &Filter {
        let body = &*self.0;
        let make = || Filter::of(body.nkeys(), body.keys.iter());
        body.filter.get_or_init(make)
    }
}

/// Cuts a sequence of sorted rows into chunks.
pub(crate) struct ChunkWriter<R: Diff> {
    body: Body<R>,
}

impl<R: Diff> ChunkWriter<R> {
    /// A writer that expects rows like those of `like`.
    pub(crate) fn like(like: &Body<R>) -> Self {
        Self {
            body: Body::like(TARGET, like),
        }
    }

    /// A writer that knows nothing of its rows.
    pub(crate) fn new() -> Self {
        Self {
            body: Body::default(),
        }
    }

    /// Whether nothing is waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.rows() == 0
    }

    /// Whether the last row that waits, if any, sorts before this one.
    pub(crate) fn sorts_before(&self, key: &[u8], val: &[u8]) -> bool {
        let last = (self.body.keys.last()).zip(self.body.vals.last());
        last.is_none_or(|last| last < (key, val))
    }

    /// Appends a row that sorts after all others.
    #[inline]
    pub(crate) fn push(
        &mut self,
        (key, val): (&[u8], &[u8]),
        time: Time,
        diff: R,
        expiry: EventTime,
        out: &mut impl Extend<RowChunk<R>>,
    ) {
        self.body.push(key, val, time, diff, expiry);
        if self.body.is_full() {
            self.flush(out);
        }
    }

    /// Appends row `r` of `other`, which belongs to its key `k`.
    #[inline]
    pub(crate) fn push_row(
        &mut self,
        other: &Body<R>,
        k: usize,
        r: usize,
        diff: R,
        out: &mut impl Extend<RowChunk<R>>,
    ) {
        let row = (other.keys.get(k), other.vals.get(r));
        self.push(row, other.times.get(r), diff, other.expiry.get(r), out);
    }

    /// Appends rows `from..to` of `other`, the first of which belongs to its key `k`.
    pub(crate) fn extend(
        &mut self,
        other: &Body<R>,
        mut k: usize,
        mut from: usize,
        to: usize,
        out: &mut impl Extend<RowChunk<R>>,
    ) {
        while from < to {
            let room = TARGET.saturating_sub(self.body.rows()).max(1);
            let end = (from + room).min(to);
            self.body.extend_rows(other, k, from, end);
            if self.body.is_full() {
                self.flush(out);
            }
            from = end;
            if from < to {
                k = other.key_of(from);
            }
        }
    }

    /// Hands out what is waiting.
    pub(crate) fn flush(&mut self, out: &mut impl Extend<RowChunk<R>>) {
        if self.is_empty() {
            return;
        }
        let next = Body::like(TARGET, &self.body);
        out.extend([RowChunk::new(std::mem::replace(&mut self.body, next))]);
    }

    /// Hands out what is waiting, for good.
    pub(crate) fn finish(self, out: &mut impl Extend<RowChunk<R>>) {
        if !self.is_empty() {
            out.extend([RowChunk::new(self.body)]);
        }
    }
}
