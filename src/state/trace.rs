//! A spine of byte rows that is owned in one place: sealing, forgetting, merging, restoring.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use differential_dataflow::trace::chunk::{Chunk, ChunkBatch, ChunkSpine};
use differential_dataflow::trace::{Description, Span, Trace as _, TraceReader};
use timely::dataflow::operators::generic::OperatorInfo;
use timely::progress::Antichain;

use crate::state::chunk::RowChunk;
use crate::state::diff::Diff;
use crate::state::error::{Result, StateError};
use crate::state::recorder::Recorder;
use crate::state::restore::RestoredSections;
use crate::state::section::{SectionInfo, SectionRows, TraceKind};
use crate::state::size::Sizes;
use crate::time::{Epoch, EventTime, NO_WATERMARK, Time};

type Batch<R> = Rc<ChunkBatch<RowChunk<R>>>;

/// A spine and what its owner must know of it.
///
/// An epoch without rows costs nothing: the next batch with rows covers it too, in the spine and in what
/// the recorder gets.
pub(crate) struct Trace<R: Diff> {
    kind: TraceKind,
    info: OperatorInfo,
    spine: ChunkSpine<RowChunk<R>>,
    recorder: Recorder,
    /// The first epoch that is not sealed.
    next: Epoch,
    /// The first epoch that the recorder has not been told of.
    recorded: Epoch,
    /// The first epoch that the spine does not cover.
    covered: Epoch,
    /// What has expired at it is skipped by readers, and may be dropped by merges.
    watermark: EventTime,
    /// What the spine may spend on merges when it is told to work.
    effort: Arc<AtomicUsize>,
    sweep: Option<Sweep<R>>,
    /// The watermark at which the last batch was found not worth a sweep.
    swept: EventTime,
    pub(crate) sizes: Sizes,
}

/// A lone batch has nothing to merge with: it is rewritten, bit by bit, to drop what has expired.
struct Sweep<R: Diff> {
    batch: Batch<R>,
    next: usize,
    frontier: Antichain<Time>,
    input: VecDeque<RowChunk<R>>,
    advanced: VecDeque<RowChunk<R>>,
    settled: VecDeque<RowChunk<R>>,
}

impl<R: Diff> Trace<R>
where
    Vec<RowChunk<R>>: Into<SectionRows>,
    SectionRows: TryInto<Vec<RowChunk<R>>>,
{
    pub(crate) fn new(
        kind: TraceKind,
        info: OperatorInfo,
        recorder: Recorder,
        restored: Option<RestoredSections>,
    ) -> Result<Self> {
        let effort = Arc::new(AtomicUsize::new(0));
        let mut trace = Self {
            kind,
            spine: spine(&info, &effort),
            info,
            recorder,
            next: 0,
            recorded: 0,
            covered: 0,
            watermark: NO_WATERMARK,
            effort,
            sweep: None,
            swept: NO_WATERMARK,
            sizes: Sizes::default(),
        };
        if let Some(restored) = restored {
            let wrong = StateError::Kind {
                operator: trace.recorder.operator(),
                trace: trace.recorder.trace(),
                expected: kind.name(),
                found: restored.kind().name(),
            };
            if restored.kind() != kind {
                return Err(wrong);
            }
            let upper = restored.upper();
            (trace.next, trace.recorded) = (upper, upper);
            let chunks = restored.rows.try_into().map_err(|_| wrong)?;
            trace.insert(chunks, upper);
        }
        Ok(trace)
    }

    /// Seals the epoch of `time` with these rows. Epochs that were skipped are sealed with it.
    pub(crate) fn seal(&mut self, time: Time, chunks: Vec<RowChunk<R>>) -> Result<()> {
        if time.epoch < self.next {
            return Err(StateError::Sealed {
                operator: self.recorder.operator(),
                trace: self.recorder.trace(),
                epoch: time.epoch,
                next: self.next,
            });
        }
        self.next = time.epoch + 1;
        if !chunks.is_empty() {
            let info = SectionInfo {
                kind: self.kind,
                operator: 0,
                trace: 0,
                lower: self.recorded,
                upper: self.next,
                time,
                rows: chunks.iter().map(|c| c.0.rows() as u64).sum(),
            };
            self.recorder.record(info, &chunks);
            self.recorded = self.next;
            self.insert(chunks, self.next);
        }
        Ok(())
    }

    fn insert(&mut self, chunks: Vec<RowChunk<R>>, upper: Epoch) {
        if chunks.is_empty() || upper <= self.covered {
            return;
        }
        let edge = |epoch| Antichain::from_elem(Time::opening(epoch));
        let since = edge(0);
        let batch = Rc::new(ChunkBatch::new(chunks));
        let description = Description::new(edge(self.covered), edge(upper), since);
        self.covered = upper;
        self.compact();
        self.spine.insert(Span::new(description, Some(batch)));
        self.spine.set_physical_compaction(edge(upper).borrow());
    }

    /// Lets merges fold all that is sealed, and forget what the watermark has expired. The frontier
    /// is in the last sealed epoch, so what comes later is also later than what was moved up to it.
    fn compact(&mut self) {
        self.spine.set_logical_compaction(self.frontier().borrow());
    }

    fn frontier(&self) -> Antichain<Time> {
        Antichain::from_elem(Time::new(self.covered.saturating_sub(1), self.watermark))
    }

    /// From now on, what expires at `time`'s watermark or before is gone.
    pub(crate) fn forget(&mut self, time: Time) {
        if time.watermark > self.watermark {
            self.watermark = time.watermark;
            self.sizes.expire(self.watermark);
            self.compact();
        }
    }

    pub(crate) fn watermark(&self) -> EventTime {
        self.watermark
    }

    pub(crate) fn next_epoch(&self) -> Epoch {
        self.next
    }

    /// The batches, the oldest first.
    pub(crate) fn batches(&self) -> Vec<Batch<R>> {
        let mut batches = Vec::with_capacity(16);
        self.spine
            .map_spans(|span| batches.extend(span.inner.clone()));
        batches
    }

    /// The memory that all rows take, those included that a merge has yet to drop.
    pub(crate) fn resident(&self) -> usize {
        let batches = self.batches();
        batches
            .iter()
            .flat_map(|b| &b.chunks)
            .map(|c| c.0.bytes())
            .sum()
    }

    /// Merges, and drops what has expired, for about `effort` rows. Whether there is more to do.
    pub(crate) fn work(&mut self, effort: usize) -> bool {
        let batches = self.batches();
        match &batches[..] {
            [] => false,
            [only] => self.sweep(only, effort),
            _ => {
                self.sweep = None;
                self.effort.store(effort.max(1), Ordering::Relaxed);
                self.spine.exert();
                self.effort.store(0, Ordering::Relaxed);
                true
            }
        }
    }

    fn sweep(&mut self, only: &Batch<R>, effort: usize) -> bool {
        let mut sweep = match self.sweep.take() {
            Some(sweep) if Rc::ptr_eq(&sweep.batch, only) => sweep,
            _ => {
                if self.swept >= self.watermark || !worth_a_sweep(only, self.watermark) {
                    self.swept = self.watermark;
                    return false;
                }
                Sweep {
                    batch: Rc::clone(only),
                    next: 0,
                    frontier: self.frontier(),
                    input: VecDeque::new(),
                    advanced: VecDeque::new(),
                    settled: VecDeque::new(),
                }
            }
        };
        if !sweep.step(effort) {
            self.sweep = Some(sweep);
            return true;
        }
        let swept: Vec<_> = sweep.settled.into();
        self.spine = spine(&self.info, &self.effort);
        let upper = std::mem::take(&mut self.covered);
        if swept.is_empty() {
            return false;
        }
        self.insert(swept, upper);
        false
    }
}

impl<R: Diff> Sweep<R> {
    /// Rewrites about `effort` rows. Whether it is done.
    fn step(&mut self, effort: usize) -> bool {
        let mut rows = 0;
        while rows < effort.max(1) && self.next < self.batch.chunks.len() {
            let chunk = self.batch.chunks[self.next].clone();
            rows += chunk.len();
            self.next += 1;
            self.input.push_back(chunk);
        }
        let done = self.next == self.batch.chunks.len();
        RowChunk::advance(
            &mut self.input,
            self.frontier.borrow(),
            done,
            &mut self.advanced,
        );
        RowChunk::settle(&mut self.advanced, done, &mut self.settled);
        done
    }
}

/// Whether about a quarter of a batch or more has expired, taking expiries to be spread evenly.
fn worth_a_sweep<R: Diff>(batch: &Batch<R>, watermark: EventTime) -> bool {
    let (mut dead, mut all) = (0.0, 0.0);
    for chunk in &batch.chunks {
        let (body, rows) = (&chunk.0, chunk.len() as f64);
        all += rows;
        if body.max_expiry <= watermark {
            dead += rows;
        } else if body.min_expiry <= watermark {
            let span = (body.max_expiry as f64 - body.min_expiry as f64).max(1.0);
            dead += rows * (watermark as f64 - body.min_expiry as f64) / span;
        }
    }
    dead * 4.0 >= all && dead > 0.0
}

/// An empty spine that merges on its own only as batches come in, and else when it is given effort.
fn spine<R: Diff>(info: &OperatorInfo, effort: &Arc<AtomicUsize>) -> ChunkSpine<RowChunk<R>> {
    let mut spine = ChunkSpine::<RowChunk<R>>::new(info.clone(), None, None);
    let effort = Arc::clone(effort);
    spine.set_exert_logic(Arc::new(move |levels| {
        let effort = effort.load(Ordering::Relaxed);
        let batches: usize = levels
            .iter()
            .filter(|(_, _, rows)| *rows > 0)
            .map(|(_, count, _)| count)
            .sum();
        (effort > 0 && batches > 1).then_some(effort)
    }));
    spine
}
