//! Merging two batches in small steps, as a spine asks for it.

use std::collections::VecDeque;
use std::rc::Rc;

use differential_dataflow::trace::chunk::Chunk;
use differential_dataflow::trace::implementations::spine_fueled::Merger;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

use crate::state::batch::{Batch, Growing, Shared, free};
use crate::state::chunk::{ChunkWriter, RowChunk};
use crate::state::diff::Diff;
use crate::state::merge::{Head, merge_heads};
use crate::time::Time;

/// With each step so many chunks are freed that no run holds any more: a step comes to the end of two at most.
const FREED: usize = 4;

/// A merge of two batches that may stop at the end of each chunk: an epoch waits for no more than that, and what
/// it took too much it takes less the next time.
///
/// What it has merged is read from it, and given back by the batches, a share at a time.
///
/// It may take no more fuel than there are rows: the spine counts on a merge being done when another batch of
/// its size arrives.
pub(crate) struct BatchMerger<R: Diff> {
    older: Input<R>,
    newer: Input<R>,
    writer: ChunkWriter<R>,
    rewrite: Rewrite<R>,
    merged: Growing<R>,
    /// The fuel that has come, less what was taken: a chunk's worth below nothing at most.
    fuel: isize,
    complete: bool,
}

/// Makes a batch of sorted chunks as they come: moves them up to the compaction frontier, where what has
/// expired is dropped, and cuts them into chunks of the usual length.
pub(crate) struct Rewrite<R: Diff> {
    frontier: Antichain<Time>,
    /// What comes.
    pub(crate) input: VecDeque<RowChunk<R>>,
    advanced: VecDeque<RowChunk<R>>,
    settled: VecDeque<RowChunk<R>>,
    /// How many of those have their filters.
    filtered: usize,
}

impl<R: Diff> Rewrite<R> {
    /// Nothing has come yet.
    pub(crate) fn new(frontier: Antichain<Time>) -> Self {
        Self {
            frontier,
            input: VecDeque::new(),
            advanced: VecDeque::new(),
            settled: VecDeque::new(),
            filtered: 0,
        }
    }

    /// Takes what has come; with `done`, that was all.
    pub(crate) fn step(&mut self, done: bool) {
        let frontier = self.frontier.borrow();
        RowChunk::advance(&mut self.input, frontier, done, &mut self.advanced);
        RowChunk::settle(&mut self.advanced, done, &mut self.settled);
        for chunk in self.settled.range(self.filtered..) {
            chunk.filter();
        }
        self.filtered = self.settled.len();
    }

    /// What there is now and has not been shared.
    pub(crate) fn done(self) -> VecDeque<RowChunk<R>> {
        self.settled
    }

    /// Adds what there is now to a run, where that is an eighth of it, up to the end of a key. The key.
    fn share(&mut self, run: &mut Shared<R>) -> Option<Vec<u8>> {
        /// Fewer chunks are not worth it.
        const LEAST: usize = 64;
        let ready = self.settled.len();
        if ready < LEAST.max(run.chunks().len() / 8) {
            return None;
        }
        let ends = |at: &usize| {
            let (chunk, next) = (&self.settled[at - 1].0, &self.settled[*at].0);
            chunk.last_key() != next.keys.get(0)
        };
        let end = (1..ready).rev().find(ends)?;
        let key = self.settled[end - 1].0.last_key().to_vec();
        self.filtered -= end;
        Rc::make_mut(run).append(self.settled.drain(..end));
        Some(key)
    }
}

/// Where the merge is in one of the batches.
struct Input<R: Diff> {
    head: Option<Head<R>>,
    /// The chunk behind that of the head.
    next: usize,
}

impl<R: Diff> Input<R> {
    const START: Self = Self {
        head: None,
        next: 0,
    };

    /// The chunk that the merge is in, which has rows left; `None`: the batch has ended.
    fn head(&mut self, batch: &Batch<R>) -> Option<&mut Head<R>> {
        if self.head.as_ref().is_none_or(Head::ended) {
            self.head = batch.chunk(self.next).map(Head::new);
            self.next += 1;
        }
        self.head.as_mut()
    }
}

impl<R: Diff> BatchMerger<R> {
    /// Merges up to the end of a chunk. What it took, in rows; `None`: both batches have ended.
    fn step(&mut self, older: &Batch<R>, newer: &Batch<R>) -> Option<usize> {
        let (writer, out) = (&mut self.writer, &mut self.rewrite.input);
        match (self.older.head(older), self.newer.head(newer)) {
            (Some(a), Some(b)) => {
                let before = a.effort() + b.effort();
                merge_heads(a, b, writer, out);
                Some(a.effort() + b.effort() - before)
            }
            (Some(head), None) | (None, Some(head)) => {
                let before = head.effort();
                head.copy_rest(writer, out);
                Some(head.effort() - before)
            }
            (None, None) => None,
        }
    }
}

impl<R: Diff> Merger<Batch<R>> for BatchMerger<R> {
    fn new(older: &Batch<R>, _: &Batch<R>, frontier: AntichainRef<'_, Time>) -> Self {
        Self {
            older: Input::START,
            newer: Input::START,
            writer: ChunkWriter::new(),
            rewrite: Rewrite::new(frontier.to_owned()),
            merged: older.begin_merge(),
            fuel: 0,
            complete: false,
        }
    }

    fn work(&mut self, older: &Batch<R>, newer: &Batch<R>, fuel: &mut isize) {
        self.fuel = self.fuel.saturating_add(*fuel);
        while self.fuel > 0 && !self.complete {
            if let Some(effort) = self.step(older, newer) {
                self.rewrite.step(false);
                self.fuel -= effort as isize;
                let mut merged = self.merged.borrow_mut();
                free(merged.garbage(), FREED);
                if let Some(key) = self.rewrite.share(&mut merged) {
                    older.give_back(&key);
                    newer.give_back(&key);
                }
            } else {
                self.writer.flush(&mut self.rewrite.input);
                self.rewrite.step(true);
                self.complete = true;
            }
        }
        *fuel = self.fuel;
    }

    fn done(self) -> Option<Batch<R>> {
        let nothing = self.merged.borrow().without_rows();
        let mut run = self.merged.replace(Rc::new(nothing));
        Rc::make_mut(&mut run).append(self.rewrite.done());
        (!run.is_empty()).then(|| Batch::new(run))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::prelude::*;

    use crate::state::tests::info;
    use crate::state::{Recorder, Table, TableKind};
    use crate::time::{NEVER, NO_WATERMARK, Time};

    #[test]
    fn merges_are_done_in_time_where_no_epoch_leaves_a_moment() {
        let mut rng = StdRng::seed_from_u64(21);
        // Keys all over, known keys, keys that ascend with time, and long values.
        for (round, keys) in [u64::MAX, 20_000, 1 << 8, 500].into_iter().enumerate() {
            let kind = [TableKind::AppendOnly, TableKind::General][round % 2];
            let mut table = Table::new(kind, info(), Recorder::disabled(), None).unwrap();
            let mut expected = BTreeMap::new();
            for epoch in 0..1500 {
                let rows = match rng.random_range(0..100) {
                    0 => 5000,
                    1..10 => 300,
                    _ => rng.random_range(1..20),
                };
                let first = if round == 2 { epoch << 8 } else { 0 };
                let changed: BTreeSet<u64> = (0..rows)
                    .map(|_| first + rng.random_range(0..keys))
                    .collect();
                let val = vec![epoch as u8; if round == 3 { 2000 } else { 3 }];
                let mut changes = table.changes();
                for key in changed {
                    let old: Option<Vec<u8>> = expected.insert(key, val.clone());
                    changes.push(&key.to_be_bytes(), old.as_deref(), Some(&val), NEVER);
                }
                let time = Time::new(epoch, NO_WATERMARK);
                table.apply(time, &changes).unwrap();
                if rng.random_range(0..20) == 0 {
                    table.work(rng.random_range(1..3000));
                }
            }
            let mut found = BTreeMap::new();
            table.scan(&mut |key, val| {
                found.insert(u64::from_be_bytes(key.try_into().unwrap()), val.to_vec());
            });
            assert!(found == expected, "round {round}");
        }
    }
}
