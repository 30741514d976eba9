//! A multiset of (key, value): how often each is there.

use timely::dataflow::operators::generic::OperatorInfo;

use crate::row::{Bytes, bound_prefix, hash};
use crate::state::chunk::{ChunkWriter, RowChunk};
use crate::state::error::Result;
use crate::state::recorder::Recorder;
use crate::state::restore::RestoredSections;
use crate::state::rows::Rows;
use crate::state::section::TraceKind;
use crate::state::size::{Sizes, StateSize, Waiting};
use crate::state::sort::sort_rows;
use crate::state::table::ascends;
use crate::state::trace::Trace;
use crate::state::walk::{Merged, Vals, Walk, next_count};
use crate::time::{Epoch, EventTime, Time};

/// What a scan calls with each key, value and count.
pub type FoundPair<'a> = dyn FnMut(&[u8], &[u8], i64) + 'a;

/// Values by key, each with a count: what joins, distinct aggregates and retractable minima remember.
///
/// Reads see all that was applied, without what had expired at the watermark last handed to
/// [`Multiset::forget`]; when merges run does not show. A retraction must have the expiry of what it
/// retracts: rows that expire apart do not cancel.
pub struct Multiset {
    trace: Trace<i64>,
}

/// Rows of one epoch for a multiset that come in the order in which they are kept.
pub struct Additions {
    time: Time,
    writer: ChunkWriter<i64>,
    chunks: Vec<RowChunk<i64>>,
    sizes: Sizes,
    rows: usize,
}

impl Additions {
    /// None yet, in the epoch of `time`.
    pub fn new(time: Time) -> Self {
        Self {
            time,
            writer: ChunkWriter::new(),
            chunks: vec![],
            sizes: Sizes::default(),
            rows: 0,
        }
    }

    /// Takes the next row, which sorts after all others by key and value; nothing where `diff` is zero.
    #[inline]
    pub fn push(&mut self, key: &[u8], val: &[u8], diff: i64, expiry: EventTime) {
        if diff == 0 {
            return;
        }
        debug_assert!(self.writer.sorts_before(key, val), "rows come in order");
        self.rows += 1;
        self.sizes.add_row(key, val, diff, expiry);
        let row = (key, val);
        self.writer
            .push(row, self.time, diff, expiry, &mut self.chunks);
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl Multiset {
    /// A multiset: empty, or what was restored.
    pub fn new(
        info: OperatorInfo,
        recorder: Recorder,
        restored: Option<RestoredSections>,
    ) -> Result<Self> {
        let mut trace = Trace::new(TraceKind::Multiset, info, recorder, restored)?;
        for run in trace.runs() {
            for chunk in run.chunks() {
                let body = &chunk.0;
                for k in 0..body.nkeys() {
                    for r in body.key_start(k)..body.key_end(k) {
                        let (key, val) = (body.keys.get(k), body.vals.get(r));
                        trace
                            .sizes
                            .add_row(key, val, body.diffs.get(r), body.expiry.get(r));
                    }
                }
            }
        }
        Ok(Self { trace })
    }

    /// Seals the epoch of `time` with these rows (whose own times do not matter), and tells the recorder.
    pub fn apply(&mut self, time: Time, rows: &Rows) -> Result<()> {
        self.apply_parts(time, std::slice::from_ref(rows))
    }

    /// As [`Multiset::apply`], of rows in several parts: one part holds 2 GiB.
    pub fn apply_parts(&mut self, time: Time, parts: &[Rows]) -> Result<()> {
        let chunks = sort_rows(parts, time);
        let watermark = self.trace.watermark();
        self.trace.seal(time, chunks)?;
        for part in parts {
            for r in 0..part.len() {
                let expiry = part.expiry.get(r);
                if expiry > watermark {
                    let (key, val) = (part.keys.get(r), part.vals.get(r));
                    self.trace
                        .sizes
                        .add_row(key, val, part.diffs.get(r), expiry);
                }
            }
        }
        Ok(())
    }

    /// Seals the epoch of these additions, and tells the recorder.
    pub fn add(&mut self, additions: Additions) -> Result<()> {
        let Additions {
            time,
            writer,
            mut chunks,
            sizes,
            ..
        } = additions;
        writer.finish(&mut chunks);
        self.trace.seal(time, chunks)?;
        self.trace.sizes.absorb(&sizes, self.trace.watermark());
        Ok(())
    }

    /// Looks pairs up that are sorted by (key, value) and distinct: `found` gets the index and the count
    /// of each whose count is not zero, in order.
    pub fn counts(&self, pairs: (&Bytes, &Bytes), found: &mut dyn FnMut(usize, i64)) {
        let (keys, vals) = pairs;
        let hashes: Vec<u64> = keys.iter().map(hash).collect();
        let mut counts = vec![0i64; keys.len().min(vals.len())];
        let first_of_key = |i: &usize| *i == 0 || keys.get(i - 1) != keys.get(*i);
        let firsts: Vec<usize> = (0..counts.len()).filter(first_of_key).collect();
        for run in &self.trace.runs() {
            let wanted = firsts.iter().map(|i| (*i, keys.get(*i), hashes[*i]));
            Walk::new(run).find_all(wanted, &mut |first, mut at| {
                for (i, count) in counts.iter_mut().enumerate().skip(first) {
                    if keys.get(i) != keys.get(first) {
                        break;
                    }
                    at.seek(vals.get(i));
                    *count += at.take_count(vals.get(i), self.trace.watermark());
                }
            });
        }
        for (i, count) in counts.into_iter().enumerate() {
            if count != 0 {
                found(i, count);
            }
        }
    }

    /// The least value with a positive count of each of `keys`, which are sorted and distinct: `found`
    /// gets the key's index and the value, in order. With values encoded in descending order that is
    /// the greatest.
    pub fn first(&self, keys: &Bytes, found: &mut dyn FnMut(usize, &[u8])) {
        self.each(keys, &mut |i, val, count| {
            if count > 0 {
                found(i, val);
            }
            count <= 0
        });
    }

    /// The values of each of `keys`, which are sorted and distinct, in order: `found` gets the key's
    /// index, the value and its count (never zero), and says whether to go on with this key.
    pub fn each(&self, keys: &Bytes, found: &mut dyn FnMut(usize, &[u8], i64) -> bool) {
        debug_assert!(ascends(keys), "keys are looked up sorted and distinct");
        self.visit(keys, &|_| &[], found);
    }

    /// As [`Multiset::each`], from the first value of each key that is not before the one of the same
    /// index in `from`. Nothing before it is read. The keys are sorted, and one may come several times.
    pub fn each_from(
        &self,
        (keys, from): (&Bytes, &Bytes),
        found: &mut dyn FnMut(usize, &[u8], i64) -> bool,
    ) {
        self.visit(keys, &|i| from.get(i), found);
    }

    fn visit<'a>(
        &self,
        keys: &Bytes,
        from: &dyn Fn(usize) -> &'a [u8],
        found: &mut dyn FnMut(usize, &[u8], i64) -> bool,
    ) {
        /// Keys that are looked up together.
        const BLOCK: usize = 1024;
        let runs = self.trace.runs();
        let mut walks: Vec<_> = runs.iter().map(|run| Walk::new(run)).collect();
        let mut there: Vec<Vec<(usize, Vals<'_, i64>)>> = walks.iter().map(|_| vec![]).collect();
        let mut heads = Vec::with_capacity(walks.len());
        for first in (0..keys.len()).step_by(BLOCK) {
            let block = first..keys.len().min(first + BLOCK);
            let wanted: Vec<_> = block
                .clone()
                .map(|i| (i, keys.get(i), hash(keys.get(i))))
                .collect();
            for (walk, there) in walks.iter_mut().zip(&mut there) {
                walk.find_all(wanted.iter().copied(), &mut |i, mut vals| {
                    if !from(i).is_empty() {
                        vals.seek(from(i));
                    }
                    there.push((i, vals));
                });
                there.reverse();
            }
            for i in block {
                heads.extend(there.iter_mut().filter_map(|there| {
                    let at = there.pop_if(|(at, _)| *at == i);
                    at.map(|(_, vals)| vals)
                }));
                while let Some((val, count)) = next_count(&mut heads, self.trace.watermark()) {
                    if !found(i, val, count) {
                        break;
                    }
                }
                heads.clear();
            }
        }
    }

    /// All pairs in order, each with its count.
    pub fn scan(&self, found: &mut FoundPair<'_>) {
        self.range(&[], None, found);
    }

    /// The pairs in front of whose keys [`bound_prefix`] put a bound with `after < bound <= upto`, in
    /// order, each with its count. Reads nothing but that range.
    pub fn due(&self, after: EventTime, upto: EventTime, found: &mut FoundPair<'_>) {
        let Some(first) = after.checked_add(1).filter(|first| *first <= upto) else {
            return;
        };
        let end = upto.checked_add(1).map(bound_prefix);
        self.range(&bound_prefix(first), end.as_ref().map(|e| &e[..]), found);
    }

    /// The pairs whose keys are `from` or behind it, and before `end` where there is one, in order,
    /// each with its count. Reads nothing but that range.
    pub fn range(&self, from: &[u8], end: Option<&[u8]>, found: &mut FoundPair<'_>) {
        let runs = self.trace.runs();
        let mut merged = Merged::new(&runs, from);
        while let Some(key) = merged.next_key() {
            if end.is_some_and(|end| key >= end) {
                return;
            }
            let mut vals = merged.vals();
            while let Some((val, count)) = next_count(&mut vals, self.trace.watermark()) {
                found(key, val, count);
            }
        }
    }

    /// From now on, what expires at `time`'s watermark or before is gone; merges drop it.
    pub fn forget(&mut self, time: Time) {
        self.trace.forget(time);
    }

    /// Spends about `effort` rows' worth of merging. Whether there is more to do.
    pub fn work(&mut self, effort: usize) -> bool {
        self.trace.work(effort)
    }

    /// What is alive, at no cost: each pair as often as its count.
    pub fn size(&self) -> StateSize {
        self.trace.sizes.size()
    }

    /// What is alive and will expire, and when.
    pub fn waiting(&self) -> Waiting {
        self.trace.sizes.waiting()
    }

    /// The memory of all rows, those included that have expired and wait for a merge. Looks at every
    /// chunk: not for each epoch.
    pub fn resident_bytes(&self) -> usize {
        self.trace.resident()
    }

    /// The first epoch that may still be applied.
    pub fn next_epoch(&self) -> Epoch {
        self.trace.next_epoch()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::prelude::*;

    use super::*;
    use crate::state::tests::info;
    use crate::time::{NEVER, NO_WATERMARK};

    #[test]
    fn what_is_being_merged_is_there_once_and_can_be_read() {
        let mut rng = StdRng::seed_from_u64(22);
        let mut set = Multiset::new(info(), Recorder::disabled(), None).unwrap();
        let mut expected: BTreeMap<(Vec<u8>, Vec<u8>), i64> = BTreeMap::new();
        for epoch in 0..6 {
            let mut rows = Rows::default();
            for _ in 0..60_000 {
                // One key in a hundred has half of all values: they lie in many chunks.
                let key = u32::from(rng.random_range(0..2u8)) * rng.random_range(0..40_000u32)
                    / 100
                    * 100;
                let key = if rng.random_range(0..100) == 0 {
                    7
                } else {
                    key + rng.random_range(0..100)
                };
                let val = rng.random_range(0..3000u32).to_be_bytes();
                let diff = if rng.random_range(0..10) == 0 { -1 } else { 1 };
                rows.push(&key.to_be_bytes(), &val, diff, NEVER);
                *expected
                    .entry((key.to_be_bytes().to_vec(), val.to_vec()))
                    .or_default() += diff;
            }
            let time = Time::new(epoch, NO_WATERMARK);
            set.apply(time, &rows).unwrap();
            set.forget(time);
        }
        expected.retain(|_, count| *count != 0);
        let all = || {
            expected
                .iter()
                .map(|((key, val), count)| (key.clone(), val.clone(), *count))
        };
        let scan = |set: &Multiset| {
            let mut found = vec![];
            set.scan(&mut |key, val, count| found.push((key.to_vec(), val.to_vec(), count)));
            found
        };
        let (mut steps, mut shared) = (0, 0);
        while set.work(3000) {
            steps += 1;
            shared += usize::from(set.trace.runs().iter().any(|run| run.start() > (0, 0)));
            let keys: BTreeSet<u32> = (0..50).map(|_| rng.random_range(0..40_100)).collect();
            let wanted: Bytes =
                keys.iter()
                    .map(|key| key.to_be_bytes())
                    .fold(Bytes::default(), |mut all, key| {
                        all.push(&key);
                        all
                    });
            let mut found = vec![];
            set.each(&wanted, &mut |i, val, count| {
                found.push((wanted.get(i).to_vec(), val.to_vec(), count));
                true
            });
            let of = |key: u32| {
                let key = key.to_be_bytes().to_vec();
                let range = (key.clone(), vec![])..=(key, vec![255; 5]);
                expected
                    .range(range)
                    .map(|((key, val), count)| (key.clone(), val.clone(), *count))
            };
            let right: Vec<_> = keys.iter().flat_map(|key| of(*key)).collect();
            assert!(found == right, "step {steps}");
            if steps % 10 == 0 {
                assert!(scan(&set).into_iter().eq(all()), "step {steps}");
            }
        }
        assert!(scan(&set).into_iter().eq(all()));
        assert!(steps > 20 && shared > steps / 4, "{shared} of {steps}");
    }
}
