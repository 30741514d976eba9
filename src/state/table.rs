//! A table: a value for each key.

use timely::dataflow::operators::generic::OperatorInfo;

use crate::row::{Bytes, bound_prefix, hash};
use crate::state::chunk::RowChunk;
use crate::state::diff::{Diff, Last};
use crate::state::error::Result;
use crate::state::recorder::Recorder;
use crate::state::restore::RestoredSections;
use crate::state::rows::Rows;
use crate::state::section::{SectionRows, TraceKind};
use crate::state::size::{Sizes, StateSize, Waiting};
use crate::state::sort::sort_rows;
use crate::state::trace::Trace;
use crate::state::walk::{Merged, Verdict, Walk};
use crate::time::{Epoch, EventTime, Time};

/// How a table is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A key keeps its newest value, and goes only by expiry; a key's expiry never moves back.
    AppendOnly,
    /// An update retracts the old value and puts in the new, so keys can be deleted and then leave
    /// nothing behind.
    General,
}

impl TableKind {
    const fn trace(self) -> TraceKind {
        match self {
            Self::AppendOnly => TraceKind::AppendOnly,
            Self::General => TraceKind::General,
        }
    }
}

/// The changes of a table in one epoch: each key at most once.
#[derive(Clone, Debug)]
pub struct TableChanges {
    kind: TableKind,
    parts: Vec<Rows>,
    sizes: Sizes,
    /// The length of a row that cannot be kept; [`Table::apply`] reports it, so that pushing stays simple.
    too_large: Option<usize>,
}

impl TableChanges {
    /// No changes, for a table of this kind.
    pub fn new(kind: TableKind) -> Self {
        Self {
            kind,
            parts: vec![],
            sizes: Sizes::default(),
            too_large: None,
        }
    }

    /// A key goes from `old` (none: it was not there) to `new` (none: it is deleted, which an
    /// append-only table ignores). `old` must be what the table holds, with this expiry; for another,
    /// see [`TableChanges::replace`].
    #[inline]
    pub fn push(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>, expiry: EventTime) {
        self.replace(key, old.map(|v| (v, expiry)), new.map(|v| (v, expiry)));
    }

    /// As [`TableChanges::push`] where the expiry changes: values each with its own.
    pub fn replace(
        &mut self,
        key: &[u8],
        old: Option<(&[u8], EventTime)>,
        new: Option<(&[u8], EventTime)>,
    ) {
        if self.kind == TableKind::AppendOnly {
            let Some((val, expiry)) = new else { return };
            if let Some((val, expiry)) = old {
                self.sizes.add_row(key, val, -1, expiry);
            }
            self.sizes.add_row(key, val, 1, expiry);
            self.row(key, val, 1, expiry);
            return;
        }
        if old == new {
            return;
        }
        for (change, count) in [(old, -1), (new, 1)] {
            if let Some((val, expiry)) = change {
                self.sizes.add_row(key, val, count, expiry);
                self.row(key, val, count, expiry);
            }
        }
    }

    fn row(&mut self, key: &[u8], val: &[u8], count: i64, expiry: EventTime) {
        let longest = key.len().max(val.len());
        if longest > Bytes::MAX_VALUE {
            self.too_large = Some(longest);
            return;
        }
        Rows::push_to(&mut self.parts, (key, val), count, expiry);
    }

    /// The number of rows that a trace will get.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Rows::len).sum()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A value for each key: what aggregates, deduplication and the like remember.
///
/// Reads see all that was applied, without what had expired at the watermark last handed to
/// [`Table::forget`]; when merges run does not show. After a restore, `forget` first what the query had
/// forgotten before.
pub struct Table {
    inner: Inner,
}

enum Inner {
    AppendOnly(Trace<Last>),
    General(Trace<i64>),
}

/// Does the same with the trace of either kind.
macro_rules! either {
    ($table:expr, $trace:ident => $do:expr) => {
        match $table {
            Inner::AppendOnly($trace) => $do,
            Inner::General($trace) => $do,
        }
    };
}

impl Table {
    /// A table: empty, or what was restored.
    pub fn new(
        kind: TableKind,
        info: OperatorInfo,
        recorder: Recorder,
        restored: Option<RestoredSections>,
    ) -> Result<Self> {
        let mut table = Self {
            inner: match kind {
                TableKind::AppendOnly => {
                    Inner::AppendOnly(Trace::new(kind.trace(), info, recorder, restored)?)
                }
                TableKind::General => {
                    Inner::General(Trace::new(kind.trace(), info, recorder, restored)?)
                }
            },
        };
        either!(&mut table.inner, trace => count_restored(trace));
        Ok(table)
    }

    /// How it is updated.
    pub fn kind(&self) -> TableKind {
        match self.inner {
            Inner::AppendOnly(_) => TableKind::AppendOnly,
            Inner::General(_) => TableKind::General,
        }
    }

    /// An empty set of changes for this table.
    pub fn changes(&self) -> TableChanges {
        TableChanges::new(self.kind())
    }

    /// Looks keys up that are sorted and distinct: `found` gets the index and the value of each that is
    /// there, in order.
    pub fn get(&self, keys: &Bytes, found: &mut dyn FnMut(usize, &[u8])) {
        either!(&self.inner, trace => get(trace, keys, found));
    }

    /// The keys in front of which [`bound_prefix`] put a bound with `after < bound <= upto`, in order,
    /// each with its value. Reads nothing but that range.
    pub fn due(&self, after: EventTime, upto: EventTime, found: &mut dyn FnMut(&[u8], &[u8])) {
        let Some(first) = after.checked_add(1).filter(|first| *first <= upto) else {
            return;
        };
        let end = upto.checked_add(1).map(bound_prefix);
        let end = end.as_ref().map(|end| &end[..]);
        let found = &mut |key: &[u8], val: &[u8]| {
            found(key, val);
            true
        };
        either!(&self.inner, trace => scan(trace, &bound_prefix(first), end, found));
    }

    /// All keys in order, each with its value.
    pub fn scan(&self, found: &mut dyn FnMut(&[u8], &[u8])) {
        self.scan_from(&[], &mut |key, val| {
            found(key, val);
            true
        });
    }

    /// The keys from `from` on, in order, each with its value, as long as `found` asks for more.
    pub fn scan_from(&self, from: &[u8], found: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        either!(&self.inner, trace => scan(trace, from, None, found));
    }

    /// Seals the epoch of `time` with these changes, and tells the recorder.
    pub fn apply(&mut self, time: Time, changes: &TableChanges) -> Result<()> {
        if let Some(bytes) = changes.too_large {
            let limit = Bytes::MAX_VALUE;
            return Err(crate::row::RowError::TooLarge { bytes, limit }.into());
        }
        either!(&mut self.inner, trace => {
            trace.seal(time, sort_rows(&changes.parts, time))?;
            trace.sizes.absorb(&changes.sizes, trace.watermark());
        });
        Ok(())
    }

    /// From now on, what expires at `time`'s watermark or before is gone; merges drop it.
    pub fn forget(&mut self, time: Time) {
        either!(&mut self.inner, trace => trace.forget(time));
    }

    /// Spends about `effort` rows' worth of merging. Whether there is more to do.
    pub fn work(&mut self, effort: usize) -> bool {
        either!(&mut self.inner, trace => trace.work(effort))
    }

    /// What is alive, at no cost.
    pub fn size(&self) -> StateSize {
        either!(&self.inner, trace => trace.sizes.size())
    }

    /// What is alive and will expire, and when.
    pub fn waiting(&self) -> Waiting {
        either!(&self.inner, trace => trace.sizes.waiting())
    }

    /// The memory of all rows, those included that have expired and wait for a merge. Looks at every
    /// chunk: not for each epoch.
    pub fn resident_bytes(&self) -> usize {
        either!(&self.inner, trace => trace.resident())
    }

    /// The first epoch that may still be applied.
    pub fn next_epoch(&self) -> Epoch {
        either!(&self.inner, trace => trace.next_epoch())
    }
}

/// Whether keys are sorted and distinct, as lookups want them.
pub(crate) fn ascends(keys: &Bytes) -> bool {
    (1..keys.len()).all(|i| keys.get(i - 1) < keys.get(i))
}

fn count_restored<R: Diff>(trace: &mut Trace<R>)
where
    Vec<RowChunk<R>>: Into<SectionRows>,
    SectionRows: TryInto<Vec<RowChunk<R>>>,
{
    let runs = trace.runs();
    let mut sizes = Sizes::default();
    let mut merged = Merged::new(&runs, &[]);
    while let Some(key) = merged.next_key() {
        if let Some((val, expiry)) = merged.value(trace.watermark()) {
            sizes.add_row(key, val, 1, expiry);
        }
    }
    trace.sizes = sizes;
}

fn get<R: Diff>(trace: &Trace<R>, keys: &Bytes, found: &mut dyn FnMut(usize, &[u8]))
where
    Vec<RowChunk<R>>: Into<SectionRows>,
    SectionRows: TryInto<Vec<RowChunk<R>>>,
{
    debug_assert!(ascends(keys), "keys are looked up sorted and distinct");
    let runs = trace.runs();
    let hashes: Vec<u64> = keys.iter().map(hash).collect();
    let mut verdicts = vec![Verdict::Silent; keys.len()];
    // The newest run that knows of a key decides.
    let mut open: Vec<usize> = (0..keys.len()).collect();
    for run in runs.iter().rev() {
        let wanted = open.iter().map(|i| (*i, keys.get(*i), hashes[*i]));
        Walk::new(run).find_all(wanted, &mut |i, vals| {
            verdicts[i] = vals.verdict(trace.watermark());
        });
        open.retain(|i| verdicts[*i] == Verdict::Silent);
    }
    for (i, verdict) in verdicts.iter().enumerate() {
        if let Verdict::Is(val, _) = verdict {
            found(i, val);
        }
    }
}

/// The keys from `from` on, and before `end` where there is one, until `found` says no.
fn scan<R: Diff>(
    trace: &Trace<R>,
    from: &[u8],
    end: Option<&[u8]>,
    found: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) where
    Vec<RowChunk<R>>: Into<SectionRows>,
    SectionRows: TryInto<Vec<RowChunk<R>>>,
{
    let runs = trace.runs();
    let mut merged = Merged::new(&runs, from);
    while let Some(key) = merged.next_key() {
        if end.is_some_and(|end| key >= end) {
            return;
        }
        if let Some((val, _)) = merged.value(trace.watermark())
            && !found(key, val)
        {
            return;
        }
    }
}
