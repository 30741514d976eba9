//! What is known of rows: how many matches each has, or which have none.

use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::join::singles::{Out, Singles};
use crate::operators::join::{Known, Prepared};
use crate::operators::{EpochInfo, OperatorError, OperatorStats};
use crate::row::{Bytes, RowError, bound_prefix};
use crate::state::{IDLE_EFFORT, Multiset, Recorder, RestoredSections, Rows, StateError};
use crate::time::Time;

/// The rows of one input whose matches an epoch may change: those that are new, and those that met a new one.
#[derive(Default)]
pub(super) struct Touched {
    keys: Bytes,
    /// As they are kept.
    values: Bytes,
    /// How often each was there before the epoch.
    before: Vec<i64>,
    /// What the epoch adds to that.
    change: Vec<i64>,
    /// How many matches more it has.
    pub(super) matches: Vec<i64>,
}

impl Touched {
    /// Adds a row, and gives its number. An epoch has no more than fit into a column.
    pub(super) fn push(
        &mut self,
        (key, value): (&[u8], &[u8]),
        before: i64,
        change: i64,
    ) -> Result<usize, RowError> {
        self.keys.try_push(key)?;
        self.values.try_push(value)?;
        self.before.push(before);
        self.change.push(change);
        self.matches.push(0);
        Ok(self.before.len() - 1)
    }

    pub(super) fn before(&self, row: usize) -> i64 {
        self.before[row]
    }
}

/// What is known of the rows of one input.
pub(super) struct Tracked {
    known: Known,
    side: usize,
    /// By key and row: the number of matches. Or by moment, key and row: the rows that have none.
    trace: Multiset,
}

impl Tracked {
    pub(super) fn new(
        known: Known,
        side: usize,
        info: &OperatorInfo,
        recorder: Recorder,
        restored: Option<RestoredSections>,
    ) -> Result<Self, StateError> {
        Ok(Self {
            known,
            side,
            trace: Multiset::new(info.clone(), recorder, restored)?,
        })
    }

    /// Takes in what an epoch does to the rows, and says what becomes of them.
    pub(super) fn settle(
        &mut self,
        touched: &Touched,
        epoch: &EpochInfo,
        singles: &mut Singles,
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        let prepared = out.prepared;
        let expiry = |value: &[u8]| prepared.sides[self.side].expiry_of(value);
        let mut keys = Bytes::default();
        for (key, value) in touched.keys.iter().zip(touched.values.iter()) {
            let moment = bound_prefix(expiry(value));
            let moment = if self.known == Known::Unmatched {
                &moment[..]
            } else {
                &[]
            };
            let key = keys.try_push_pair(moment, key);
            key.map_err(|source| prepared.row_error(source))?;
        }
        let of = |at: &usize| (keys.get(*at), touched.values.get(*at));
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by(|a, b| of(a).cmp(&of(b)));
        // A row may be touched as a new one, and as one that was there.
        let same: Vec<&[usize]> = order.chunk_by(|a, b| of(a) == of(b)).collect();
        let (mut sought_keys, mut sought_rows) = (Bytes::default(), Bytes::default());
        for group in &same {
            let (key, value) = of(&group[0]);
            let pushed = sought_keys
                .try_push(key)
                .and_then(|()| sought_rows.try_push(value));
            pushed.map_err(|source| prepared.row_error(source))?;
        }
        let mut known = vec![0; same.len()];
        self.trace
            .counts((&sought_keys, &sought_rows), &mut |at, count| {
                known[at] = count;
            });
        let mut parts = Vec::new();
        for (group, known) in same.iter().zip(known) {
            let (key, value) = of(&group[0]);
            let before = group
                .iter()
                .map(|at| touched.before[*at])
                .max()
                .unwrap_or(0);
            let after = before + group.iter().map(|at| touched.change[*at]).sum::<i64>();
            let more: i64 = group.iter().map(|at| touched.matches[*at]).sum();
            if after < 0 {
                return Err(prepared.internal("more rows are taken from a join than it has"));
            }
            let expiry = expiry(value);
            let mut keep = |diff: i64| Rows::push_to(&mut parts, (key, value), diff, expiry);
            if self.known == Known::Counts {
                let matches = if after == 0 { 0 } else { known + more };
                let (had, has) = (known > 0, matches > 0);
                if had == has {
                    singles.tell(value, has, after - before, out)?;
                } else {
                    singles.tell(value, had, -before, out)?;
                    singles.tell(value, has, after, out)?;
                }
                keep(matches - known);
                continue;
            }
            // Rows without a match are not given yet.
            let had = before > 0 && known == 0;
            let has = had || more > 0;
            let over = expiry <= epoch.previous_watermark;
            if has {
                singles.tell(value, true, if had { after - before } else { after }, out)?;
            } else if over {
                singles.tell(value, false, after - before, out)?;
            }
            let waits = if has || over { 0 } else { after };
            keep(waits - known);
        }
        let applied = self.trace.apply_parts(epoch.time(), &parts);
        applied.map_err(|source| prepared.state_error(source))
    }

    /// The rows that can find no match any more.
    pub(super) fn close(
        &self,
        epoch: &EpochInfo,
        singles: &mut Singles,
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        if self.known != Known::Unmatched {
            return Ok(());
        }
        let mut result = Ok(());
        let (after, upto) = (epoch.previous_watermark, epoch.watermark);
        self.trace.due(after, upto, &mut |_, value, count| {
            if result.is_ok() {
                result = singles.tell(value, false, count, out);
            }
        });
        result
    }

    pub(super) fn forget(&mut self, time: Time) {
        self.trace.forget(time);
    }

    pub(super) fn work(&mut self) -> bool {
        self.trace.work(IDLE_EFFORT)
    }

    /// Its memory counts; its rows are those of the input.
    pub(super) fn add_size(&self, stats: &mut OperatorStats) {
        stats.memory_used_bytes += self.trace.size().bytes;
    }

    /// The rows that are given once they can find no match any more.
    pub(super) fn add_waiting(&self, stats: &mut OperatorStats) {
        if self.known == Known::Unmatched {
            stats.add_waiting(&self.trace.waiting());
        }
    }

    /// The side of the join that it is about.
    pub(super) fn side(&self) -> usize {
        self.side
    }
}

impl Prepared {
    /// What is kept of what is known of the rows of `side`.
    pub(super) fn tracked(&self, side: usize) -> Option<Known> {
        self.sides[side].known.filter(|known| known.is_kept())
    }
}
