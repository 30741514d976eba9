//! How chunks are merged, and what a merge may forget: differential's [`Chunk`] for [`RowChunk`].
//!
//! [`advance`](Chunk::advance) is handed the compaction frontier, one [`Time`], and does three things at
//! once: it moves times up to the frontier, folds rows that are then equal, and forgets what the frontier's watermark has expired, a whole chunk unread
//! if its greatest expiry says so. Only the present is ever read from our traces, so times later than
//! the frontier are folded as well. [`merge`](Chunk::merge) takes its second input to be the newer, as it
//! is in a spine: where the newest wins, that decides.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;

use differential_dataflow::trace::chunk::Chunk;
use timely::progress::frontier::{Antichain, AntichainRef};

use crate::state::chunk::{Body, ChunkWriter, MAX_BYTES, RowChunk, TARGET};
use crate::state::column::Column;
use crate::state::diff::Diff;
use crate::time::Time;

impl<R: Diff> Chunk for RowChunk<R> {
    type Time = Time;

    const TARGET: usize = TARGET;

    fn len(&self) -> usize {
        self.0.rows()
    }

    fn merge(in1: &mut VecDeque<Self>, in2: &mut VecDeque<Self>, out: &mut VecDeque<Self>) {
        let (Some(c1), Some(c2)) = (in1.pop_front(), in2.pop_front()) else {
            return;
        };
        let mut writer = ChunkWriter::like(&c1.0);
        let (mut a, mut b) = (Head::new(c1), Head::new(c2));
        loop {
            merge_heads(&mut a, &mut b, &mut writer, out);
            let (a_ended, b_ended) = (a.refill(in1), b.refill(in2));
            if a_ended || b_ended {
                writer.finish(out);
                if !a_ended {
                    a.give_back(in1);
                }
                if !b_ended {
                    b.give_back(in2);
                }
                return;
            }
        }
    }

    fn extract(
        input: &mut VecDeque<Self>,
        frontier: AntichainRef<Time>,
        residual: &mut Antichain<Time>,
        keep: &mut VecDeque<Self>,
        ship: &mut VecDeque<Self>,
    ) {
        let Some(chunk) = input.pop_front() else {
            return;
        };
        let body = &*chunk.0;
        let (mut kept, mut shipped) = (ChunkWriter::new(), ChunkWriter::new());
        for k in 0..body.nkeys() {
            for r in body.key_start(k)..body.key_end(k) {
                let time = body.times.at(r);
                if frontier.less_equal(time) {
                    residual.insert_ref(time);
                    kept.push_row(body, k, r, body.diffs.get(r), keep);
                } else {
                    shipped.push_row(body, k, r, body.diffs.get(r), ship);
                }
            }
        }
        kept.finish(keep);
        shipped.finish(ship);
    }

    fn advance(
        input: &mut VecDeque<Self>,
        frontier: AntichainRef<Time>,
        done: bool,
        out: &mut VecDeque<Self>,
    ) {
        // With an empty frontier nothing will be read again.
        let Some(frontier) = frontier.first().copied() else {
            out.extend(input.drain(..));
            return;
        };
        let watermark = frontier.watermark;
        let mut writer = ChunkWriter::new();
        let mut group: Option<Group<R>> = None;
        while let Some(chunk) = input.pop_front() {
            let body = &*chunk.0;
            if body.max_expiry <= watermark {
                continue;
            }
            let continues = group.as_ref().is_some_and(|g| g.holds(body, 0, 0));
            if !continues && let Some(group) = group.take() {
                group.write(frontier, &mut writer, out);
            }
            if input.is_empty() && !done && !continues {
                // Its last rows may go on in what comes next: keep it whole, it may be shared.
                writer.finish(out);
                input.push_front(chunk);
                return;
            }
            let last = (body.nkeys() - 1, body.rows() - 1);
            let goes_on = match input.front() {
                None => !done,
                Some(next) => same_group(body, last, &next.0, (0, 0)),
            };
            if !continues && !goes_on && !body.unmerged && body.min_expiry > watermark {
                writer.flush(out);
                out.push_back(advance_times(chunk, frontier));
                continue;
            }
            if writer.is_empty() {
                writer = ChunkWriter::like(body);
            }
            for k in 0..body.nkeys() {
                for r in body.key_start(k)..body.key_end(k) {
                    if body.expiry.get(r) <= watermark {
                        continue;
                    }
                    match &mut group {
                        Some(g) if g.holds(body, k, r) => g.add(body, r),
                        _ => {
                            if let Some(group) = group.replace(Group::new(&chunk, k, r)) {
                                group.write(frontier, &mut writer, out);
                            }
                        }
                    }
                }
            }
        }
        if let Some(group) = group {
            if done {
                group.write(frontier, &mut writer, out);
            } else {
                // It may go on in what comes next.
                let mut held = ChunkWriter::new();
                group.write(frontier, &mut held, input);
                held.finish(input);
            }
        }
        writer.finish(out);
    }

    fn settle(input: &mut VecDeque<Self>, done: bool, out: &mut VecDeque<Self>) {
        let (mut carry, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while let Some(chunk) = input.pop_front() {
            let size = chunk.0.keys.bytes() + chunk.0.vals.bytes();
            if rows + chunk.len() <= TARGET && bytes + size <= MAX_BYTES {
                rows += chunk.len();
                bytes += size;
                carry.push(chunk);
            } else if !carry.is_empty() {
                out.push_back(fuse(std::mem::take(&mut carry)));
                (rows, bytes) = (0, 0);
                input.push_front(chunk);
            } else {
                // Too many rows for one chunk, or few rows too large to be joined by others.
                if chunk.len() > TARGET {
                    let mut writer = ChunkWriter::like(&chunk.0);
                    let mut rest = Vec::new();
                    writer.extend(&chunk.0, 0, 0, chunk.len(), out);
                    writer.finish(&mut rest);
                    if let Some(chunk) = rest.pop() {
                        input.push_front(chunk);
                    }
                } else {
                    out.push_back(chunk);
                }
            }
        }
        if done {
            if !carry.is_empty() {
                out.push_back(fuse(carry));
            }
        } else {
            input.extend(carry);
        }
    }
}

/// Joins neighbours into one chunk.
fn fuse<R: Diff>(mut chunks: Vec<RowChunk<R>>) -> RowChunk<R> {
    if chunks.len() == 1
        && let Some(chunk) = chunks.pop()
    {
        return chunk;
    }
    let rows = chunks.iter().map(RowChunk::len).sum();
    let mut body = Body::like(rows, chunks.first().map_or(&Body::default(), |c| &c.0));
    for chunk in &chunks {
        body.extend_rows(&chunk.0, 0, 0, chunk.len());
    }
    RowChunk::new(body)
}

/// The same rows, times of their own moved up to `frontier`, so that they need no room. One that all rows
/// share may stay: nobody reads the past, and the chunk can go on being shared.
fn advance_times<R: Diff>(mut chunk: RowChunk<R>, frontier: Time) -> RowChunk<R> {
    if let Column::Many(times) = &chunk.0.times {
        let mut column = Column::default();
        for time in times {
            column.push((*time).max(frontier));
        }
        Rc::make_mut(&mut chunk.0).times = column;
    }
    chunk
}

/// Whether two rows are to be folded into one.
fn same_group<R: Diff>(
    a: &Body<R>,
    (ka, ra): (usize, usize),
    b: &Body<R>,
    (kb, rb): (usize, usize),
) -> bool {
    a.cmp_key(ka, b, kb) == Ordering::Equal && a.cmp_row(ra, b, rb) == Ordering::Equal
}

/// Rows that fold into one: the one that stands for them, and what they come to.
struct Group<R: Diff> {
    chunk: RowChunk<R>,
    key: usize,
    row: usize,
    time: Time,
    diff: R,
}

impl<R: Diff> Group<R> {
    fn new(chunk: &RowChunk<R>, key: usize, row: usize) -> Self {
        Self {
            time: chunk.0.times.get(row),
            diff: chunk.0.diffs.get(row),
            chunk: chunk.clone(),
            key,
            row,
        }
    }

    fn holds(&self, body: &Body<R>, key: usize, row: usize) -> bool {
        same_group(&self.chunk.0, (self.key, self.row), body, (key, row))
    }

    fn add(&mut self, body: &Body<R>, row: usize) {
        self.time = self.time.max(body.times.get(row));
        self.diff.plus_equals(&body.diffs.get(row));
    }

    fn write(self, frontier: Time, writer: &mut ChunkWriter<R>, out: &mut VecDeque<RowChunk<R>>) {
        if self.diff.is_zero() {
            return;
        }
        let body = &*self.chunk.0;
        let row = (body.keys.get(self.key), body.vals.get(self.row));
        writer.push(
            row,
            self.time.max(frontier),
            self.diff,
            body.expiry.get(self.row),
            out,
        );
    }
}

/// How far a merge has come in one of its inputs: in a chunk of it.
pub(super) struct Head<R: Diff> {
    chunk: RowChunk<R>,
    key: usize,
    row: usize,
    /// What has been merged so far, in rows; one that is handed on with its chunk counts for little.
    effort: usize,
}

impl<R: Diff> Head<R> {
    pub(super) fn new(chunk: RowChunk<R>) -> Self {
        Self {
            chunk,
            key: 0,
            row: 0,
            effort: 0,
        }
    }

    /// Whether nothing is left of the chunk.
    pub(super) fn ended(&self) -> bool {
        self.key == self.chunk.0.nkeys()
    }

    /// What has been merged of the chunk so far.
    pub(super) fn effort(&self) -> usize {
        self.effort
    }

    fn key(&self) -> &[u8] {
        self.chunk.0.keys.get(self.key)
    }

    /// Moves all keys before `other` across. Whether it then stands at `other`.
    fn copy_before(
        &mut self,
        other: &[u8],
        writer: &mut ChunkWriter<R>,
        out: &mut VecDeque<RowChunk<R>>,
    ) -> bool {
        let (end, there) = self.chunk.0.seek(self.key, other);
        self.copy_to(end, writer, out);
        there
    }

    /// Moves what is left of the chunk across.
    pub(super) fn copy_rest(
        &mut self,
        writer: &mut ChunkWriter<R>,
        out: &mut VecDeque<RowChunk<R>>,
    ) {
        self.copy_to(self.chunk.0.nkeys(), writer, out);
    }

    /// Moves all keys before the one of this number across; a whole chunk as it is.
    fn copy_to(
        &mut self,
        end: usize,
        writer: &mut ChunkWriter<R>,
        out: &mut VecDeque<RowChunk<R>>,
    ) {
        /// To hand on a chunk, in rows.
        const WHOLE: usize = 16;
        if end == self.key {
            return;
        }
        let body = &*self.chunk.0;
        let rows_end = body.key_end(end - 1);
        let whole = self.row == 0 && rows_end == body.rows();
        if whole && (writer.is_empty() || body.rows() >= TARGET / 2) {
            writer.flush(out);
            out.push_back(self.chunk.clone());
            self.effort += WHOLE.min(body.rows());
        } else {
            writer.extend(body, self.key, self.row, rows_end, out);
            self.effort += rows_end - self.row;
        }
        (self.key, self.row) = (end, rows_end);
    }

    /// Goes on to the next chunk at the end of this one. Whether there is none.
    fn refill(&mut self, input: &mut VecDeque<RowChunk<R>>) -> bool {
        if !self.ended() {
            return false;
        }
        match input.pop_front() {
            Some(chunk) => {
                *self = Self::new(chunk);
                false
            }
            None => true,
        }
    }

    /// Puts what is left back in front.
    fn give_back(self, input: &mut VecDeque<RowChunk<R>>) {
        if self.row == 0 {
            input.push_front(self.chunk);
            return;
        }
        let rows = self.chunk.0.rows();
        let mut rest = Body::like(rows - self.row, &self.chunk.0);
        rest.extend_rows(&self.chunk.0, self.key, self.row, rows);
        input.push_front(RowChunk::new(rest));
    }
}

/// Merges up to the end of one of two chunks, or of both.
pub(super) fn merge_heads<R: Diff>(
    a: &mut Head<R>,
    b: &mut Head<R>,
    writer: &mut ChunkWriter<R>,
    out: &mut VecDeque<RowChunk<R>>,
) {
    while !a.ended() && !b.ended() {
        if a.copy_before(b.key(), writer, out) {
            merge_key(a, b, writer, out);
        } else if !a.ended() {
            b.copy_before(a.key(), writer, out);
        }
    }
}

/// Merges the rows of a key that both have, up to the end of either. Where the newest wins each has one,
/// and the second is the newer: times may have been moved up, so they do not tell.
fn merge_key<R: Diff>(
    a: &mut Head<R>,
    b: &mut Head<R>,
    writer: &mut ChunkWriter<R>,
    out: &mut VecDeque<RowChunk<R>>,
) {
    let (x, y) = (&*a.chunk.0, &*b.chunk.0);
    let (a_end, b_end) = (x.key_end(a.key), y.key_end(b.key));
    let (a_start, b_start) = (a.row, b.row);
    if R::NEWEST_WINS {
        writer.push_row(y, b.key, b.row, y.diffs.get(b.row), out);
        (a.row, b.row) = (a_end, b_end);
    }
    while a.row < a_end && b.row < b_end {
        let order = x
            .cmp_row(a.row, y, b.row)
            .then_with(|| x.times.at(a.row).cmp(y.times.at(b.row)));
        match order {
            Ordering::Less => {
                writer.push_row(x, a.key, a.row, x.diffs.get(a.row), out);
                a.row += 1;
            }
            Ordering::Greater => {
                writer.push_row(y, b.key, b.row, y.diffs.get(b.row), out);
                b.row += 1;
            }
            Ordering::Equal => {
                let mut diff = x.diffs.get(a.row);
                diff.plus_equals(&y.diffs.get(b.row));
                if !diff.is_zero() {
                    writer.push_row(x, a.key, a.row, diff, out);
                }
                a.row += 1;
                b.row += 1;
            }
        }
    }
    a.effort += a.row - a_start;
    b.effort += b.row - b_start;
    a.key += usize::from(a.row == a_end);
    b.key += usize::from(b.row == b_end);
}
