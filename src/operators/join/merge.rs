//! The second stage: an epoch's rows meet those that are kept, and are kept.

use std::sync::Arc;

use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::join::fresh::{self, fresh};
use crate::operators::join::known::{Touched, Tracked};
use crate::operators::join::pairs::{Half, Pairs};
use crate::operators::join::singles::{Out, Singles};
use crate::operators::join::{Known, NAME, Prepared};
use crate::operators::keyed::Keyed;
use crate::operators::{EpochInfo, OperatorError, OperatorStats, Restored};
use crate::plan::join::{LEFT, RIGHT};
use crate::row::{Bytes, Delta, RowError};
use crate::state::{Additions, IDLE_EFFORT, Multiset, Recorder, Rows};

const SIDES: [usize; 2] = [LEFT, RIGHT];

/// One worker's rows of both inputs.
pub(super) struct Merge {
    prepared: Arc<Prepared>,
    /// Those that are kept, by key.
    rows: [Multiset; 2],
    tracked: Vec<Tracked>,
}

impl Merge {
    pub(super) fn new(
        prepared: &Arc<Prepared>,
        info: &OperatorInfo,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> Result<Self, OperatorError> {
        let id = prepared.operator as u32;
        let failed = |source| prepared.state_error(source);
        let mut kept = |side: usize| {
            let trace = side as u32;
            let recorder = recorder.for_trace(id, trace);
            Multiset::new(info.clone(), recorder, restored.take(id, trace)).map_err(failed)
        };
        let rows = [kept(LEFT)?, kept(RIGHT)?];
        let mut tracked = Vec::new();
        for side in SIDES {
            if let Some(known) = prepared.tracked(side) {
                let trace = side as u32 + 2;
                let recorder = recorder.for_trace(id, trace);
                let begins = restored.take(id, trace);
                tracked.push(Tracked::new(known, side, info, recorder, begins).map_err(failed)?);
            }
        }
        Ok(Self {
            prepared: Arc::clone(prepared),
            rows,
            tracked,
        })
    }

    /// The new rows of a side whose matches are counted, with how often each was there before.
    fn touch(&self, side: usize, fresh: &fresh::Side<'_>) -> Result<Touched, RowError> {
        let mut touched = Touched::default();
        if self.prepared.tracked(side).is_none() {
            return Ok(touched);
        }
        let (mut keys, mut values) = (Bytes::default(), Bytes::default());
        for (key, name) in fresh.keys.iter().enumerate() {
            for row in &fresh.rows[fresh.of_key(key)] {
                keys.try_push(name)?;
                values.try_push(row.value)?;
            }
        }
        let mut before = vec![0; keys.len()];
        self.rows[side].counts((&keys, &values), &mut |at, count| before[at] = count);
        for (at, row) in fresh.rows.iter().enumerate() {
            touched.push((keys.get(at), values.get(at)), before[at], row.diff)?;
        }
        Ok(touched)
    }

    /// The new rows of `side` meet those kept of the other.
    fn meet_kept(
        &self,
        side: usize,
        fresh: &fresh::Side<'_>,
        touched: &mut [Touched; 2],
        pairs: &mut Pairs<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        let other = 1 - side;
        let (of_side, of_other) = (&self.prepared.sides[side], &self.prepared.sides[other]);
        let is_counted = self.prepared.tracked(side).is_some();
        let probes = self.prepared.probes(side, fresh);
        let probes = probes.map_err(|source| self.prepared.row_error(source))?;
        let mut result = Ok(());
        self.rows[other].each_from((&probes.keys, &probes.from), &mut |probe, value, count| {
            let near = self.prepared.seekers((&probes, probe), side, fresh, value);
            let Some(near) = near.filter(|_| result.is_ok()) else {
                return false;
            };
            if near.is_empty() {
                return true;
            }
            let met = (self.prepared.tracked(other))
                .map(|_| touched[other].push((probes.keys.get(probe), value), count, 0));
            let met = match met.transpose() {
                Ok(met) => met,
                Err(error) => {
                    result = Err(self.prepared.row_error(error));
                    return false;
                }
            };
            let kept = Half {
                row: of_other.row(value),
                count,
                touched: met,
            };
            for at in near {
                let row = fresh.rows[at];
                let new = Half {
                    row: of_side.row(row.value),
                    count: row.diff,
                    // One that was there has met what is kept.
                    touched: (is_counted && touched[side].before(at) == 0).then_some(at),
                };
                if let Err(error) = pairs.add(in_order(side, new, kept), touched, out) {
                    result = Err(error);
                    return false;
                }
            }
            true
        });
        result
    }

    /// The new rows of both sides meet each other.
    fn meet_fresh(
        &self,
        fresh: &[fresh::Side<'_>; 2],
        touched: &mut [Touched; 2],
        pairs: &mut Pairs<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        let is_counted = SIDES.map(|side| self.prepared.tracked(side).is_some());
        let half = |side: usize, at: usize, touched: &[Touched; 2]| {
            let (row, of) = (fresh[side].rows[at], &self.prepared.sides[side]);
            Half {
                row: of.row(row.value),
                count: row.diff,
                // One that was there meets what is new as one that is kept.
                touched: (is_counted[side] && touched[side].before(at) == 0).then_some(at),
            }
        };
        let (mut left, mut right) = (0, 0);
        while left < fresh[LEFT].keys.len() && right < fresh[RIGHT].keys.len() {
            let order = fresh[LEFT].keys.get(left).cmp(fresh[RIGHT].keys.get(right));
            if order.is_eq() {
                for one in fresh[LEFT].of_key(left) {
                    let row = fresh[LEFT].rows[one].value;
                    let of_key = fresh[RIGHT].of_key(right);
                    for other in self.prepared.near(LEFT, row, &fresh[RIGHT], of_key) {
                        let pair = [half(LEFT, one, touched), half(RIGHT, other, touched)];
                        pairs.add(pair, touched, out)?;
                    }
                }
            }
            left += usize::from(order.is_le());
            right += usize::from(order.is_ge());
        }
        Ok(())
    }

    /// Which of the keys, sorted and distinct, have rows on a side.
    fn has_rows(&self, side: usize, keys: &Bytes) -> Vec<bool> {
        let mut found = vec![false; keys.len()];
        self.rows[side].each(keys, &mut |key, _, count| {
            found[key] |= count > 0;
            count <= 0
        });
        found
    }

    fn keep(
        &mut self,
        fresh: &[fresh::Side<'_>; 2],
        epoch: &EpochInfo,
    ) -> Result<(), OperatorError> {
        for (rows, fresh) in self.rows.iter_mut().zip(fresh) {
            let mut additions = Additions::new(epoch.time());
            for (key, name) in fresh.keys.iter().enumerate() {
                for row in &fresh.rows[fresh.of_key(key)] {
                    if row.expiry > epoch.previous_watermark {
                        additions.push(name, row.value, row.diff, row.expiry);
                    }
                }
            }
            let applied = rows.add(additions);
            applied.map_err(|source| self.prepared.state_error(source))?;
        }
        Ok(())
    }

    /// What becomes of the rows of a side whose keys have, or had, rows on the other: `had` of those of `keys`
    /// before the epoch, whose rows are kept by now.
    fn settle_by_key(
        &self,
        side: usize,
        (keys, had): (&Bytes, &[bool]),
        fresh: &fresh::Side<'_>,
        singles: &mut Singles,
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        let has = self.has_rows(1 - side, keys);
        let mut changed = Bytes::default();
        for key in 0..keys.len() {
            if had[key] != has[key] {
                changed.push(keys.get(key));
            }
        }
        // The new rows of each key, as it is met.
        let mut next = 0;
        let mut of_key = |key: &[u8]| {
            while next < fresh.keys.len() && fresh.keys.get(next) < key {
                next += 1;
            }
            if next < fresh.keys.len() && fresh.keys.get(next) == key {
                &fresh.rows[fresh.of_key(next)]
            } else {
                &[]
            }
        };
        let mut kept: Vec<Vec<(Box<[u8]>, i64)>> = vec![Vec::new(); changed.len()];
        self.rows[side].each(&changed, &mut |key, value, count| {
            kept[key].push((value.into(), count));
            true
        });
        let mut kept = kept.into_iter();
        for key in 0..keys.len() {
            let fresh = of_key(keys.get(key));
            let (had, has) = (had[key], has[key]);
            if had == has {
                for row in fresh {
                    singles.tell(row.value, has, row.diff, out)?;
                }
                continue;
            }
            let after = kept.next().unwrap_or_default();
            for (value, count) in &after {
                singles.tell(value, has, *count, out)?;
                singles.tell(value, had, -*count, out)?;
            }
            // What was there before is what is there now, less what is new.
            for row in fresh {
                singles.tell(row.value, had, row.diff, out)?;
            }
        }
        Ok(())
    }
}

/// The row of `side` and the one of the other, the left one first.
fn in_order<'a>(side: usize, of_side: Half<'a>, of_other: Half<'a>) -> [Half<'a>; 2] {
    if side == LEFT {
        [of_side, of_other]
    } else {
        [of_other, of_side]
    }
}

/// The keys of both, each once.
fn all_keys([left, right]: &[fresh::Side<'_>; 2]) -> Result<Bytes, RowError> {
    let mut keys: Vec<&[u8]> = left.keys.iter().chain(right.keys.iter()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut all = Bytes::default();
    keys.into_iter().try_for_each(|key| all.try_push(key))?;
    Ok(all)
}

impl Keyed for Merge {
    fn operator(&self) -> usize {
        self.prepared.operator
    }

    fn epoch(
        &mut self,
        epoch: &EpochInfo,
        rows: &[Rows],
        give: &mut dyn FnMut(Delta),
    ) -> Result<OperatorStats, OperatorError> {
        let prepared = Arc::clone(&self.prepared);
        let time = epoch.time();
        let mut out = Out {
            prepared: &prepared,
            time,
            give,
        };
        let fresh = fresh(rows).map_err(|source| prepared.row_error(source))?;
        let mut singles = SIDES.map(Singles::of);
        for side in SIDES {
            for row in &fresh[side].lone {
                singles[side].tell(row.value, false, row.diff, &mut out)?;
            }
        }
        let touched = |side: usize| {
            let touched = self.touch(side, &fresh[side]);
            touched.map_err(|source| prepared.row_error(source))
        };
        let mut touched = [touched(LEFT)?, touched(RIGHT)?];
        if prepared.looks_at_pairs() {
            let mut pairs = Pairs::new(epoch);
            for side in SIDES {
                self.meet_kept(side, &fresh[side], &mut touched, &mut pairs, &mut out)?;
            }
            self.meet_fresh(&fresh, &mut touched, &mut pairs, &mut out)?;
            pairs.flush(&mut touched, &mut out)?;
        }
        let by_key = SIDES.map(|side| prepared.sides[side].known == Some(Known::ByKey));
        let keys = if by_key == [false, false] {
            Bytes::default()
        } else {
            all_keys(&fresh).map_err(|source| prepared.row_error(source))?
        };
        let had = SIDES.map(|side| self.has_rows(1 - side, &keys));
        self.keep(&fresh, epoch)?;
        for side in SIDES {
            if by_key[side] {
                let (known, singles) = ((&keys, &had[side][..]), &mut singles[side]);
                self.settle_by_key(side, known, &fresh[side], singles, &mut out)?;
            }
        }
        let mut stats = OperatorStats {
            name: NAME.into(),
            ..OperatorStats::default()
        };
        for tracked in &mut self.tracked {
            let singles = &mut singles[tracked.side()];
            tracked.settle(&touched[tracked.side()], epoch, singles, &mut out)?;
            tracked.close(epoch, singles, &mut out)?;
            tracked.forget(time);
            tracked.add_size(&mut stats);
            if prepared.kind.gives_unmatched(tracked.side()) {
                tracked.add_waiting(&mut stats);
            }
        }
        for singles in &mut singles {
            singles.flush(&mut out)?;
        }
        for (rows, fresh) in self.rows.iter_mut().zip(&fresh) {
            stats.rows_updated += fresh.rows.iter().filter(|row| row.diff > 0).count() as u64;
            let before = rows.size().rows;
            rows.forget(time);
            stats.rows_removed += before - rows.size().rows;
            stats.add_size(rows.size());
        }
        stats.sides = Some(SIDES.map(|side| self.rows[side].size().rows));
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        let mut more = false;
        for rows in &mut self.rows {
            more |= rows.work(IDLE_EFFORT);
        }
        for tracked in &mut self.tracked {
            more |= tracked.work();
        }
        more
    }
}
