//! Sorted chunks that come bit by bit: several sequences as one, folded and expired.
//!
//! What is held at a time is a few chunks of each sequence, however long they are. Merging goes two by
//! two, with the same steps that merge batches in a spine.

use std::collections::VecDeque;

use differential_dataflow::trace::chunk::Chunk;
use timely::progress::frontier::Antichain;

use crate::state::chunk::RowChunk;
use crate::state::diff::Diff;
use crate::state::error::Result;
use crate::time::Time;

/// Chunks in order, or what is wrong with them.
pub(crate) type Stream<'a, R> = Box<dyn Iterator<Item = Result<RowChunk<R>>> + 'a>;

/// How many chunks a side of a merge has at hand: a step copies what it leaves of the other side's first.
const AT_HAND: usize = 8;

/// Merges sequences, the oldest first, each with about how many rows it has; equal rows are left side
/// by side for [`folded`], and where the newest of a key wins the older ones go.
pub(crate) fn merged<R: Diff>(mut streams: Vec<(u64, Stream<'_, R>)>) -> Stream<'_, R> {
    // The neighbours with the fewest rows first, so that most rows are copied a few times only.
    while streams.len() > 1 {
        let least = (0..streams.len() - 1)
            .min_by_key(|i| streams[*i].0 + streams[i + 1].0)
            .unwrap_or_default();
        let (newer_rows, newer) = streams.remove(least + 1);
        let (older_rows, older) = streams.remove(least);
        let pair = Pair {
            older: Side::new(older),
            newer: Side::new(newer),
            ready: VecDeque::new(),
        };
        streams.insert(least, (older_rows + newer_rows, Box::new(pair)));
    }
    match streams.pop() {
        Some((_, stream)) => stream,
        None => Box::new(std::iter::empty()),
    }
}

/// Adds up rows that are equal, at `frontier`, and leaves out what has expired at its watermark.
pub(crate) fn folded<R: Diff>(
    stream: Stream<'_, R>,
    frontier: Time,
) -> impl Iterator<Item = Result<RowChunk<R>>> {
    Folded {
        input: Side::new(stream),
        frontier: Antichain::from_elem(frontier),
        advanced: VecDeque::new(),
        settled: VecDeque::new(),
        done: false,
    }
}

/// A sequence, and what was taken of it and is not used up.
struct Side<'a, R: Diff> {
    stream: Stream<'a, R>,
    chunks: VecDeque<RowChunk<R>>,
    ended: bool,
}

impl<'a, R: Diff> Side<'a, R> {
    fn new(stream: Stream<'a, R>) -> Self {
        Self {
            stream,
            chunks: VecDeque::new(),
            ended: false,
        }
    }

    /// Takes chunks up to `many`.
    fn fill(&mut self, many: usize) -> Result<()> {
        while !self.ended && self.chunks.len() < many {
            match self.stream.next() {
                Some(chunk) => self.chunks.push_back(chunk?),
                None => self.ended = true,
            }
        }
        Ok(())
    }
}

struct Pair<'a, R: Diff> {
    older: Side<'a, R>,
    newer: Side<'a, R>,
    ready: VecDeque<RowChunk<R>>,
}

impl<R: Diff> Pair<'_, R> {
    fn step(&mut self) -> Result<Option<RowChunk<R>>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some(chunk));
            }
            self.older.fill(AT_HAND)?;
            self.newer.fill(AT_HAND)?;
            let (older, newer) = (&mut self.older.chunks, &mut self.newer.chunks);
            if older.is_empty() || newer.is_empty() {
                return Ok(older.pop_front().or_else(|| newer.pop_front()));
            }
            RowChunk::merge(older, newer, &mut self.ready);
        }
    }
}

impl<R: Diff> Iterator for Pair<'_, R> {
    type Item = Result<RowChunk<R>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

struct Folded<'a, R: Diff> {
    input: Side<'a, R>,
    frontier: Antichain<Time>,
    advanced: VecDeque<RowChunk<R>>,
    settled: VecDeque<RowChunk<R>>,
    done: bool,
}

impl<R: Diff> Folded<'_, R> {
    fn step(&mut self) -> Result<Option<RowChunk<R>>> {
        while self.settled.is_empty() && !self.done {
            let held = self.input.chunks.len();
            self.input.fill(held + 1)?;
            self.done = self.input.ended;
            RowChunk::advance(
                &mut self.input.chunks,
                self.frontier.borrow(),
                self.done,
                &mut self.advanced,
            );
            RowChunk::settle(&mut self.advanced, self.done, &mut self.settled);
        }
        Ok(self.settled.pop_front())
    }
}

impl<R: Diff> Iterator for Folded<'_, R> {
    type Item = Result<RowChunk<R>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
