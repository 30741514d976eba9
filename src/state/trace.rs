//! A spine of byte rows that is owned in one place: sealing, forgetting, merging, restoring.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use differential_dataflow::trace::implementations::spine_fueled::Spine;
use differential_dataflow::trace::{Description, Span, Trace as _, TraceReader};
use timely::dataflow::operators::generic::OperatorInfo;
use timely::progress::Antichain;

use crate::state::batch::{Batch, Garbage, Run, Shared, free};
use crate::state::chunk::RowChunk;
use crate::state::diff::Diff;
use crate::state::error::{Result, StateError};
use crate::state::merger::Rewrite;
use crate::state::recorder::Recorder;
use crate::state::restore::RestoredSections;
use crate::state::section::{SectionInfo, SectionRows, TraceKind};
use crate::state::size::Sizes;
use crate::time::{Epoch, EventTime, NO_WATERMARK, Time};

/// So many batches may wait for a moment without an epoch: readers look at each.
const MOST_HELD: usize = 2;

/// So many chunks that no run holds any more are freed with an epoch: most are freed by merges.
const FREED: usize = 64;

/// A spine and what its owner must know of it.
///
/// An epoch without rows costs nothing: the next batch with rows covers it too, in the spine and in what
/// the recorder gets.
pub(crate) struct Trace<R: Diff> {
    kind: TraceKind,
    info: OperatorInfo,
    spine: Spine<Rc<Batch<R>>>,
    recorder: Recorder,
    /// The first epoch that is not sealed.
    next: Epoch,
    /// The first epoch that the recorder has not been told of.
    recorded: Epoch,
    /// The first epoch that the spine does not cover.
    covered: Epoch,
    /// What has expired at it is skipped by readers, and may be dropped by merges.
    watermark: EventTime,
    /// The batches that the spine may not merge yet, by the first epoch after each.
    held: VecDeque<Epoch>,
    exertion: Arc<Exertion>,
    sweep: Option<Sweep<R>>,
    garbage: Garbage<R>,
    /// The watermark of the last sweep.
    swept: EventTime,
    pub(crate) sizes: Sizes,
}

/// How the spine works when it is told to.
#[derive(Default)]
struct Exertion {
    /// What it may spend, in rows.
    effort: AtomicUsize,
    /// Whether it is to make one batch of all.
    whole: AtomicBool,
    /// Whether it had anything to do.
    busy: AtomicBool,
}

/// A lone batch has nothing to merge with: it is rewritten, bit by bit, to drop what has expired.
struct Sweep<R: Diff> {
    run: Shared<R>,
    next: usize,
    rewrite: Rewrite<R>,
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
        let exertion = Arc::<Exertion>::default();
        let mut trace = Self {
            kind,
            spine: spine(&info, &exertion),
            info,
            recorder,
            next: 0,
            recorded: 0,
            covered: 0,
            watermark: NO_WATERMARK,
            held: VecDeque::new(),
            exertion,
            sweep: None,
            garbage: Garbage::default(),
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
            let chunks: Vec<_> = restored.rows.try_into().map_err(|_| wrong)?;
            if !chunks.is_empty() {
                trace.insert(chunks, upper);
            }
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

    /// Hands chunks that hold rows to the spine.
    fn insert(&mut self, chunks: Vec<RowChunk<R>>, upper: Epoch) {
        if upper <= self.covered {
            return;
        }
        let edge = |epoch| Antichain::from_elem(Time::opening(epoch));
        let since = edge(0);
        free(&self.garbage, FREED);
        let description = Description::new(edge(self.covered), edge(upper), since);
        self.covered = upper;
        let batch = Batch::new(Rc::new(Run::new(chunks, &self.garbage)));
        self.spine
            .insert(Span::new(description, Some(Rc::new(batch))));
        self.held.push_back(upper);
        if self.held.len() > MOST_HELD {
            self.release();
        }
    }

    /// Hands the oldest batch that is held to the spine's levels, which also pays for merges that are under
    /// way. Whether there was one. One at a time, so that no epoch pays for several.
    fn release(&mut self) -> bool {
        let Some(upper) = self.held.pop_front() else {
            return false;
        };
        self.compact();
        let upper = Antichain::from_elem(Time::opening(upper));
        self.spine.set_physical_compaction(upper.borrow());
        true
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

    /// All that there is, the oldest first.
    pub(crate) fn runs(&self) -> Vec<Shared<R>> {
        let mut runs = Vec::with_capacity(16);
        self.spine
            .map_spans(|span| runs.extend(span.inner.iter().flat_map(|batch| batch.runs())));
        runs
    }

    /// The memory that all rows take, those included that a merge has yet to drop.
    pub(crate) fn resident(&self) -> usize {
        let runs = self.runs();
        let chunks = runs.iter().flat_map(|run| &run.chunks()[run.start().0..]);
        chunks.map(|chunk| chunk.0.bytes()).sum()
    }

    /// Merges, and drops what has expired, for about `effort` rows. Whether there is more to do.
    ///
    /// An epoch waits for none of this as long as there is time between epochs. Merges that the spine
    /// has begun are finished, which costs a few rows for each that changed; more is done only for the
    /// room that expired rows take. What is held comes last: where no merge is under way there is none to
    /// pay for.
    pub(crate) fn work(&mut self, effort: usize) -> bool {
        let mut runs = self.runs();
        let rows: usize = runs.iter().map(|run| run.rows()).sum();
        let expired: usize = runs.iter().map(|run| run.expired(self.watermark)).sum();
        let wasteful = expired > 0 && 4 * expired >= rows;
        let only = runs.pop().filter(|_| runs.is_empty());
        // A merge changes what nobody else holds, and would copy it else.
        drop(runs);
        let more = match only {
            None if rows == 0 => false,
            Some(only) if self.held.is_empty() => self.sweep(&only, effort, wasteful),
            _ => {
                self.sweep = None;
                self.exert(effort, wasteful)
            }
        };
        more || free(&self.garbage, FREED) || self.release()
    }

    fn exert(&mut self, effort: usize, whole: bool) -> bool {
        self.exertion.effort.store(effort.max(1), Ordering::Relaxed);
        self.exertion.whole.store(whole, Ordering::Relaxed);
        self.spine.exert();
        self.exertion.effort.store(0, Ordering::Relaxed);
        self.exertion.busy.load(Ordering::Relaxed)
    }

    fn sweep(&mut self, only: &Shared<R>, effort: usize, wasteful: bool) -> bool {
        let mut sweep = match self.sweep.take() {
            Some(sweep) if Rc::ptr_eq(&sweep.run, only) => sweep,
            _ => {
                if self.swept >= self.watermark || !wasteful {
                    return false;
                }
                self.swept = self.watermark;
                Sweep {
                    run: Rc::clone(only),
                    next: 0,
                    rewrite: Rewrite::new(self.frontier()),
                }
            }
        };
        if !sweep.step(effort) {
            self.sweep = Some(sweep);
            return true;
        }
        self.spine = spine(&self.info, &self.exertion);
        let upper = std::mem::take(&mut self.covered);
        let swept: Vec<_> = sweep.rewrite.done().into();
        if !swept.is_empty() {
            self.insert(swept, upper);
            self.release();
        }
        false
    }
}

impl<R: Diff> Sweep<R> {
    /// Rewrites about `effort` rows. Whether it is done.
    fn step(&mut self, effort: usize) -> bool {
        let mut rows = 0;
        while rows < effort.max(1) && self.next < self.run.chunks().len() {
            let chunk = self.run.chunks()[self.next].clone();
            rows += chunk.0.rows();
            self.next += 1;
            self.rewrite.input.push_back(chunk);
        }
        let done = self.next == self.run.chunks().len();
        self.rewrite.step(done);
        done
    }
}

/// An empty spine that merges as batches come in, and else when it is told to.
fn spine<R: Diff>(info: &OperatorInfo, exertion: &Arc<Exertion>) -> Spine<Rc<Batch<R>>> {
    let mut spine = Spine::<Rc<Batch<R>>>::new(info.clone(), None, None);
    let exertion = Arc::clone(exertion);
    spine.set_exert_logic(Arc::new(move |levels| {
        let effort = exertion.effort.load(Ordering::Relaxed);
        let whole = exertion.whole.load(Ordering::Relaxed);
        let merging = levels.iter().any(|(_, batches, _)| *batches > 1);
        let held = levels.iter().filter(|(_, _, rows)| *rows > 0).count();
        let busy = effort > 0 && (merging || (whole && held > 1));
        exertion.busy.store(busy, Ordering::Relaxed);
        busy.then_some(effort)
    }));
    spine
}
