//! Reading sorted chunks: galloping to keys and values, and several runs as one.

use std::hint::black_box;

use crate::state::batch::{Run, Shared};
use crate::state::chunk::{Body, RowChunk};
use crate::state::diff::Diff;
use crate::state::heads::gallop;
use crate::time::EventTime;

/// A position in a run: a key. Moves forward only.
#[derive(Clone)]
pub(crate) struct Walk<'a, R: Diff> {
    run: &'a Run<R>,
    chunk: usize,
    key: usize,
}

impl<'a, R: Diff> Walk<'a, R> {
    /// The first key of a run.
    pub(crate) fn new(run: &'a Run<R>) -> Self {
        let (chunk, key) = run.start();
        Self { run, chunk, key }
    }

    /// Its chunk, and which of the chunk's keys it is.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.chunk, self.key)
    }

    #[inline]
    fn body(&self) -> Option<&'a Body<R>> {
        self.run.chunks().get(self.chunk).map(|c| &*c.0)
    }

    /// The key; `None` behind the last.
    #[inline]
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        self.body().map(|b| b.keys.get(self.key))
    }

    /// Moves to the first key that is not before `key`, and says whether it is that key.
    #[inline]
    pub(crate) fn seek(&mut self, key: &[u8]) -> bool {
        match self.chunk_of(key) {
            Some(body) => {
                let (at, there) = body.seek(self.key, key);
                self.key = at;
                there
            }
            None => false,
        }
    }

    /// Finds those of `keys` that are there; they ascend, one may come several times, and each has a number and its
    /// hash. Nearly all that are not there cost little.
    ///
    /// The places in memory that a search reads are in no cache where there is much state. All keys go through each step
    /// together, and the steps that read such places do little else: so the processor waits for many at a time.
    pub(crate) fn find_all<'k>(
        &mut self,
        keys: impl Iterator<Item = (usize, &'k [u8], u64)>,
        found: &mut impl FnMut(usize, Vals<'a, R>),
    ) {
        let mut maybe = Vec::with_capacity(keys.size_hint().0);
        for (i, key, hash) in keys {
            self.chunk_of(key);
            maybe.push((i, key, hash, (self.chunk, self.key)));
        }
        maybe.retain(|(_, _, hash, (chunk, _))| self.run.may_hold(*chunk, *hash));
        let bodies = self.run.chunks();
        let warmed = maybe
            .iter()
            .map(|(_, key, _, (chunk, _))| bodies[*chunk].0.warm(key));
        black_box(warmed.fold(0, |all, read| all ^ read));
        let mut last = (usize::MAX, 0);
        maybe.retain_mut(|(_, key, _, (chunk, at))| {
            if *chunk == last.0 {
                *at = last.1;
            }
            let (place, there) = bodies[*chunk].0.seek(*at, key);
            *at = place;
            last = (*chunk, place);
            there
        });
        if last.0 == self.chunk {
            self.key = last.1;
        }
        for (i, _, _, (chunk, key)) in maybe {
            let run = self.run;
            found(i, Walk { run, chunk, key }.vals());
        }
    }

    /// Moves to the first chunk that may hold `key`.
    #[inline]
    fn chunk_of(&mut self, key: &[u8]) -> Option<&'a Body<R>> {
        let chunk = self.run.seek(self.chunk, key);
        if chunk != self.chunk {
            (self.chunk, self.key) = (chunk, 0);
        }
        self.body()
    }

    /// Moves to the next key.
    pub(crate) fn step(&mut self) {
        let Some(body) = self.body() else { return };
        let key = body.keys.get(self.key);
        self.key += 1;
        if self.key < body.nkeys() {
            return;
        }
        // The key may go on in the chunks that follow.
        (self.chunk, self.key) = (self.chunk + 1, 0);
        while let Some(body) = self.body()
            && body.keys.get(0) == key
        {
            if body.nkeys() > 1 {
                self.key = 1;
                return;
            }
            self.chunk += 1;
        }
    }

    /// The rows of the key, in order of value and expiry.
    pub(crate) fn vals(&self) -> Vals<'a, R> {
        let (row, end) = self
            .body()
            .map_or((0, 0), |b| (b.key_start(self.key), b.key_end(self.key)));
        Vals {
            chunks: self.run.chunks(),
            chunk: self.chunk,
            key: self.key,
            row,
            end,
        }
    }
}

/// A position in the rows of a key.
#[derive(Clone)]
pub(crate) struct Vals<'a, R: Diff> {
    chunks: &'a [RowChunk<R>],
    chunk: usize,
    key: usize,
    row: usize,
    end: usize,
}

impl<'a, R: Diff> Vals<'a, R> {
    /// The row; `None` behind the last.
    #[inline]
    pub(crate) fn row(&self) -> Option<(&'a Body<R>, usize)> {
        (self.row < self.end).then(|| (&*self.chunks[self.chunk].0, self.row))
    }

    /// The value of the row.
    #[inline]
    fn val(&self) -> Option<&'a [u8]> {
        self.row().map(|(body, row)| body.vals.get(row))
    }

    /// Moves to the next row.
    #[inline]
    pub(crate) fn step(&mut self) {
        self.row += 1;
        if self.row >= self.end {
            self.next_chunk();
        }
    }

    /// At the end of the key's rows in a chunk, goes on to those of the next.
    fn next_chunk(&mut self) {
        let Some(chunk) = self.chunks.get(self.chunk) else {
            return;
        };
        let body = &*chunk.0;
        if self.key + 1 < body.nkeys() {
            return;
        }
        if let Some(next) = self.chunks.get(self.chunk + 1)
            && next.0.keys.get(0) == body.keys.get(self.key)
        {
            self.chunk += 1;
            (self.key, self.row, self.end) = (0, 0, next.0.key_end(0));
        }
    }

    /// Moves to the first row whose value is not before `val`.
    pub(crate) fn seek(&mut self, val: &[u8]) {
        while let Some((body, row)) = self.row() {
            self.row = gallop(row, self.end, |r| body.vals.get(r) < val);
            if self.row < self.end {
                return;
            }
            self.next_chunk();
        }
    }

    /// The count of value `val`, if that is where it stands, without what has expired; moves past it.
    pub(crate) fn take_count(&mut self, val: &[u8], watermark: EventTime) -> i64 {
        let mut count = 0;
        while let Some((body, row)) = self.row()
            && body.vals.get(row) == val
        {
            if body.expiry.get(row) > watermark {
                count += body.diffs.get(row).count();
            }
            self.step();
        }
        count
    }

    /// The count of the rows of one value and expiry, if that is where it stands; moves past them.
    fn take_group(&mut self, val: &[u8], expiry: EventTime) -> i64 {
        let mut count = 0;
        while let Some((body, row)) = self.row()
            && body.expiry.get(row) == expiry
            && body.vals.get(row) == val
        {
            count += body.diffs.get(row).count();
            self.step();
        }
        count
    }

    /// What this run alone says of a key that holds one value at a time.
    pub(crate) fn verdict(mut self, watermark: EventTime) -> Verdict<'a> {
        if R::NEWEST_WINS {
            return match self.row() {
                None => Verdict::Silent,
                Some((body, row)) if body.expiry.get(row) > watermark => {
                    Verdict::Is(body.vals.get(row), body.expiry.get(row))
                }
                Some(_) => Verdict::Gone,
            };
        }
        let mut verdict = Verdict::Silent;
        while let Some((body, row)) = self.row() {
            let expiry = body.expiry.get(row);
            match self.take_group(body.vals.get(row), expiry) {
                _ if expiry <= watermark => {}
                0 => {}
                count if count > 0 => return Verdict::Is(body.vals.get(row), expiry),
                _ => verdict = Verdict::Gone,
            }
        }
        verdict
    }
}

/// What a run says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// Nothing: older runs decide.
    Silent,
    /// It has no value any more.
    Gone,
    /// This is its value, and when it expires.
    Is(&'a [u8], EventTime),
}

/// Several runs, the oldest first, as one sequence of keys.
pub(crate) struct Merged<'a, R: Diff> {
    walks: Vec<Walk<'a, R>>,
    /// Which runs have the present key.
    at: Vec<usize>,
}

impl<'a, R: Diff> Merged<'a, R> {
    /// The runs from `from` on.
    pub(crate) fn new(runs: &'a [Shared<R>], from: &[u8]) -> Self {
        let walks: Vec<_> = runs
            .iter()
            .map(|run| {
                let mut walk = Walk::new(run);
                walk.seek(from);
                walk
            })
            .collect();
        Self {
            at: Vec::with_capacity(walks.len()),
            walks,
        }
    }

    /// Goes on to the next key, and gives it.
    pub(crate) fn next_key(&mut self) -> Option<&'a [u8]> {
        for i in self.at.drain(..) {
            self.walks[i].step();
        }
        let mut least: Option<&[u8]> = None;
        for (i, walk) in self.walks.iter().enumerate() {
            let Some(key) = walk.key() else { continue };
            match least.map_or(std::cmp::Ordering::Less, |l| key.cmp(l)) {
                std::cmp::Ordering::Less => {
                    least = Some(key);
                    self.at.clear();
                    self.at.push(i);
                }
                std::cmp::Ordering::Equal => self.at.push(i),
                std::cmp::Ordering::Greater => {}
            }
        }
        least
    }

    /// The value of the present key and its expiry, if it holds one value at a time: the newest run decides.
    pub(crate) fn value(&self, watermark: EventTime) -> Option<(&'a [u8], EventTime)> {
        let verdicts = self
            .at
            .iter()
            .rev()
            .map(|i| self.walks[*i].vals().verdict(watermark));
        match verdicts.into_iter().find(|v| *v != Verdict::Silent) {
            Some(Verdict::Is(val, expiry)) => Some((val, expiry)),
            _ => None,
        }
    }

    /// The rows of the present key, of each run that has it.
    pub(crate) fn vals(&self) -> Vec<Vals<'a, R>> {
        self.at.iter().map(|i| self.walks[*i].vals()).collect()
    }
}

/// The next of the values that one key has in several runs, in order, each once with its count: the next whose
/// count is not zero, without what has expired.
pub(crate) fn next_count<'a, R: Diff>(
    heads: &mut [Vals<'a, R>],
    watermark: EventTime,
) -> Option<(&'a [u8], i64)> {
    loop {
        let val = heads.iter().filter_map(Vals::val).min()?;
        let counts = heads.iter_mut().map(|head| head.take_count(val, watermark));
        let count: i64 = counts.sum();
        if count != 0 {
            return Some((val, count));
        }
    }
}
