//! The second stage: an epoch's rows meet those that are kept, and are kept.

use std::sync::Arc;

use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::keyed::{Change, Keyed, changes_of};
use crate::operators::nearest::encode::LONE;
use crate::operators::nearest::out::Out;
use crate::operators::nearest::versions::Versions;
use crate::operators::nearest::{NAME, Order, Place, Prepared, TIMED};
use crate::operators::{EpochInfo, OperatorError, OperatorStats, Restored, behind};
use crate::plan::Emit;
use crate::plan::join::{LEFT, RIGHT};
use crate::row::{Bytes, Delta, RowError, bound_prefix, read_bound};
use crate::state::{IDLE_EFFORT, Multiset, Recorder, Rows};
use crate::time::{EventTime, NEVER, NO_WATERMARK};

/// One worker's rows of both inputs.
pub(super) struct Merge {
    prepared: Arc<Prepared>,
    left: Multiset,
    right: Multiset,
    /// The keys of right rows, by moment.
    moments: Multiset,
}

/// What an epoch changes of one key.
struct Touched<'a> {
    key: &'a [u8],
    left: &'a [Change<'a>],
    right: &'a [Change<'a>],
    lone: &'a [Change<'a>],
}

/// What an epoch changes of each key, by key.
fn touched<'a>(changes: &'a [Change<'a>]) -> Vec<Touched<'a>> {
    let of_key = changes.chunk_by(|one, other| one.key == other.key);
    let split = |all: &'a [Change<'a>]| {
        let upto = |tag: u8| all.partition_point(|change| change.value[0] < tag);
        let (right, lone) = (upto(RIGHT as u8), upto(LONE));
        Touched {
            key: all[0].key,
            left: &all[..right],
            right: &all[right..lone],
            lone: &all[lone..],
        }
    };
    of_key.map(split).collect()
}

/// Left rows that look for the right rows of their key.
struct Seekers {
    key: Box<[u8]>,
    /// As they are kept, with how often each is there.
    rows: Vec<(Box<[u8]>, i64)>,
}

impl Merge {
    pub(super) fn new(
        prepared: &Arc<Prepared>,
        info: &OperatorInfo,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> Result<Self, OperatorError> {
        let id = prepared.operator as u32;
        let mut kept = |trace: u32| {
            let recorder = recorder.for_trace(id, trace);
            Multiset::new(info.clone(), recorder, restored.take(id, trace))
                .map_err(|source| prepared.state_error(source))
        };
        let left = if prepared.by_moment() {
            TIMED + 1
        } else {
            LEFT as u32
        };
        Ok(Self {
            left: kept(left)?,
            right: kept(RIGHT as u32)?,
            moments: kept(TIMED)?,
            prepared: Arc::clone(prepared),
        })
    }

    fn place(side: usize, change: &Change<'_>) -> Place {
        Order::place_of(side, &change.value[1..])
    }

    fn reach(&self, change: &Change<'_>) -> Place {
        self.prepared.order.reach(Self::place(LEFT, change))
    }

    /// The right rows that the changes of each key are about: from the nearest that one of them may take, up to
    /// the first that is beyond all of them.
    fn versions(&self, touched: &[Touched<'_>]) -> Result<Vec<Versions>, OperatorError> {
        let (mut keys, mut from) = (Bytes::default(), Bytes::default());
        let mut last = Vec::with_capacity(touched.len());
        for of_key in touched {
            let reaches = || of_key.left.iter().map(|change| self.reach(change));
            let places = of_key.right.iter().map(|change| Self::place(RIGHT, change));
            last.push(reaches().chain(places).max());
            // Which rows are nearer than a new one must be known, too.
            let first = reaches().min().filter(|_| of_key.right.is_empty());
            let first = first.map(bound_prefix);
            (keys.try_push(of_key.key))
                .and_then(|()| from.try_push(first.as_ref().map_or(&[][..], |first| first)))
                .map_err(|source| self.prepared.row_error(source))?;
        }
        let mut found: Vec<Versions> = touched.iter().map(|_| Versions::default()).collect();
        self.right
            .each_from((&keys, &from), &mut |at, value, count| {
                found[at].push(value, count);
                let changes = touched[at].right;
                let changed = changes.binary_search_by(|change| change.value[1..].cmp(value));
                let after = count + changed.map_or(0, |at| changes[at].diff);
                let beyond = last[at].is_none_or(|last| Order::place_of(RIGHT, value) >= last);
                let behind_all = changes
                    .last()
                    .is_none_or(|change| &change.value[1..] <= value);
                !(after > 0 && beyond && behind_all)
            });
        for (versions, of_key) in found.iter_mut().zip(touched) {
            if !versions.change(of_key.right) {
                return Err(self.taken_too_often());
            }
        }
        Ok(found)
    }

    fn taken_too_often(&self) -> OperatorError {
        OperatorError::Internal {
            operator: self.prepared.operator,
            reason: "more rows are taken from a join than it has".into(),
        }
    }

    /// What new rows find, and what changes for those that are kept. Of the keys that are `due`, looking for later
    /// rows, the right row of the moment is forgotten already: the left rows that had it have their answer.
    fn answer_at_once(
        &self,
        touched: &[Touched<'_>],
        due: &[(Box<[u8]>, EventTime)],
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        let order = self.prepared.order;
        let answered = |key: &[u8]| {
            let at = due.binary_search_by(|(due, _)| (**due).cmp(key)).ok();
            at.filter(|_| order.later).map(|at| order.place(due[at].1))
        };
        let versions = self.versions(touched)?;
        let (mut keys, mut from) = (Bytes::default(), Bytes::default());
        // The key, and the reach at which a nearer row begins that has not changed.
        let mut ends: Vec<(usize, Option<Place>)> = Vec::new();
        for (at, (of_key, versions)) in touched.iter().zip(&versions).enumerate() {
            for change in of_key.left {
                let nearest = versions.after(self.reach(change));
                out.add(&change.value[1..], nearest, change.diff)?;
            }
            let answered = answered(of_key.key);
            let mut covered: Option<Option<Place>> = None;
            for change in of_key.right.iter().rev().filter(|_| self.prepared.waits) {
                let place = Self::place(RIGHT, change);
                if covered.is_some_and(|end| end.is_none_or(|end| place > end)) {
                    continue;
                }
                let end = versions.steady_before(place).max(answered);
                covered = Some(end);
                ends.push((at, end));
                (keys.try_push(of_key.key))
                    .and_then(|()| from.try_push(&order.first_taker(place)))
                    .map_err(|source| self.prepared.row_error(source))?;
            }
        }
        let mut result = Ok(());
        self.left
            .each_from((&keys, &from), &mut |probe, value, count| {
                let (at, end) = ends[probe];
                let reach = order.reach(Order::place_of(LEFT, value));
                if end.is_some_and(|end| reach <= end) {
                    return false;
                }
                let (before, after) = (versions[at].before(reach), versions[at].after(reach));
                if before != after {
                    result = (out.add(value, before, -count))
                        .and_then(|()| out.add(value, after, count));
                }
                result.is_ok()
            });
        result
    }

    /// Gives the left rows for which no nearer row can come any more.
    fn answer_final(&self, epoch: &EpochInfo, out: &mut Out<'_>) -> Result<(), OperatorError> {
        let Some(lag) = self.prepared.lag else {
            return Ok(());
        };
        let (after, upto) = (
            behind(epoch.previous_watermark, lag),
            behind(epoch.watermark, lag),
        );
        let seekers = if self.prepared.by_moment() {
            self.due_left(after, upto)
        } else {
            let moments = self.due_moments(after, upto);
            self.takers(&moments)?
        };
        let (mut keys, mut from) = (Bytes::default(), Bytes::default());
        let reach =
            |row: &(Box<[u8]>, i64)| self.prepared.order.reach(Order::place_of(LEFT, &row.0));
        let mut last = Vec::with_capacity(seekers.len());
        for of_key in &seekers {
            let first = of_key.rows.iter().map(reach).min();
            last.push(of_key.rows.iter().map(reach).max());
            (keys.try_push(&of_key.key))
                .and_then(|()| from.try_push(&bound_prefix(first.unwrap_or(Place::MIN))))
                .map_err(|source| self.prepared.row_error(source))?;
        }
        let mut versions: Vec<Versions> = seekers.iter().map(|_| Versions::default()).collect();
        self.right
            .each_from((&keys, &from), &mut |at, value, count| {
                versions[at].push(value, count);
                count <= 0 || last[at].is_some_and(|last| Order::place_of(RIGHT, value) < last)
            });
        for (of_key, versions) in seekers.iter().zip(&versions) {
            for row in &of_key.rows {
                out.add(&row.0, versions.after(reach(row)), row.1)?;
            }
        }
        Ok(())
    }

    /// The left rows with a moment in a range, by key.
    fn due_left(&self, after: EventTime, upto: EventTime) -> Vec<Seekers> {
        let mut due: Vec<(Box<[u8]>, Box<[u8]>, i64)> = Vec::new();
        self.left.due(after, upto, &mut |key, value, count| {
            due.push((key[8..].into(), value.into(), count));
        });
        due.sort_unstable();
        let mut seekers: Vec<Seekers> = Vec::new();
        for (key, value, count) in due {
            match seekers.last_mut() {
                Some(last) if last.key == key => last.rows.push((value, count)),
                _ => seekers.push(Seekers {
                    key,
                    rows: vec![(value, count)],
                }),
            }
        }
        seekers
    }

    /// The keys of right rows with a moment in a range, each once, with the last such moment.
    fn due_moments(&self, after: EventTime, upto: EventTime) -> Vec<(Box<[u8]>, EventTime)> {
        let mut due: Vec<(Box<[u8]>, EventTime)> = Vec::new();
        self.moments.due(after, upto, &mut |key, _, _| {
            due.push((key[8..].into(), read_bound(key)));
        });
        due.sort_unstable();
        due.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = next.1;
            }
            same
        });
        due
    }

    /// The left rows of these keys that can take a right row of these moments.
    fn takers(&self, moments: &[(Box<[u8]>, EventTime)]) -> Result<Vec<Seekers>, OperatorError> {
        let order = self.prepared.order;
        let first = |time: EventTime| order.first_taker(order.place(time));
        let probes = self.probes(moments.iter().map(|(key, time)| (&**key, first(*time))))?;
        let mut takers: Vec<Seekers> = (moments.iter())
            .map(|(key, _)| Seekers {
                key: key.clone(),
                rows: Vec::new(),
            })
            .collect();
        self.left
            .each_from((&probes.0, &probes.1), &mut |at, value, count| {
                takers[at].rows.push((value.into(), count));
                true
            });
        takers.retain(|of_key| !of_key.rows.is_empty());
        Ok(takers)
    }

    fn probes<'a>(
        &self,
        probes: impl Iterator<Item = (&'a [u8], [u8; 8])>,
    ) -> Result<(Bytes, Bytes), OperatorError> {
        let (mut keys, mut from) = (Bytes::default(), Bytes::default());
        for (key, first) in probes {
            (keys.try_push(key))
                .and_then(|()| from.try_push(&first))
                .map_err(|source| self.prepared.row_error(source))?;
        }
        Ok((keys, from))
    }

    /// Takes out what the epochs before have answered for good: at or below `line`, where the keys are `due`.
    fn prune(
        &self,
        line: EventTime,
        due: &[(Box<[u8]>, EventTime)],
        [left, right, moments]: &mut [Vec<Rows>; 3],
    ) -> Result<(), OperatorError> {
        if due.is_empty() {
            return Ok(());
        }
        self.moments
            .due(NO_WATERMARK, line, &mut |key, value, count| {
                Rows::push_to(moments, (key, value), -count, NEVER);
            });
        let order = self.prepared.order;
        if order.later {
            for of_key in self.takers(due)? {
                for (value, count) in &of_key.rows {
                    Rows::push_to(left, (&of_key.key, value), -count, NEVER);
                }
            }
            return Ok(());
        }
        let first = bound_prefix(order.place(line));
        let probes = self.probes(due.iter().map(|(key, _)| (&**key, first)))?;
        let mut stays = vec![true; due.len()];
        self.right
            .each_from((&probes.0, &probes.1), &mut |at, value, count| {
                if !std::mem::take(&mut stays[at]) {
                    Rows::push_to(right, (&due[at].0, value), -count, NEVER);
                }
                true
            });
        Ok(())
    }

    /// Takes in the rows of the epoch.
    fn keep(
        &self,
        touched: &[Touched<'_>],
        [left, right, moments]: &mut [Vec<Rows>; 3],
    ) -> Result<(), RowError> {
        let prepared = &self.prepared;
        let mut timed = Bytes::default();
        let mut with_moment = |time: EventTime, key: &[u8]| {
            timed.clear();
            timed.try_push_pair(&bound_prefix(time), key)?;
            Ok::<_, RowError>(timed.get(0).to_vec())
        };
        for of_key in touched {
            for change in of_key.left.iter().filter(|_| prepared.waits) {
                let time = prepared.order.time(Self::place(LEFT, change));
                let row = |key: &[u8], parts: &mut Vec<Rows>| {
                    let expiry = prepared.expiry(LEFT, time);
                    Rows::push_to(parts, (key, &change.value[1..]), change.diff, expiry);
                };
                if prepared.by_moment() {
                    row(&with_moment(time, of_key.key)?, left);
                } else {
                    row(of_key.key, left);
                }
            }
            for change in of_key.right {
                let time = prepared.order.time(Self::place(RIGHT, change));
                let expiry = prepared.expiry(RIGHT, time);
                let value = &change.value[1..];
                Rows::push_to(right, (of_key.key, value), change.diff, expiry);
                if prepared.lag.is_some() {
                    let key = with_moment(time, of_key.key)?;
                    Rows::push_to(moments, (&key, &[]), change.diff, NEVER);
                }
            }
        }
        Ok(())
    }
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
        let mut out = Out::new(&prepared, time, give);
        let changes = changes_of(rows);
        let touched = touched(&changes);
        for change in touched.iter().flat_map(|of_key| of_key.lone) {
            out.add(&change.value[1..], None, change.diff)?;
        }
        let line = (prepared.lag).map_or(NO_WATERMARK, |lag| behind(epoch.previous_watermark, lag));
        let due = self.due_moments(NO_WATERMARK, line);
        if prepared.emit == Emit::Changes || !prepared.waits {
            self.answer_at_once(&touched, &due, &mut out)?;
        }
        let mut parts: [Vec<Rows>; 3] = Default::default();
        self.prune(line, &due, &mut parts)?;
        (self.keep(&touched, &mut parts)).map_err(|source| prepared.row_error(source))?;
        let kept = [&mut self.left, &mut self.right, &mut self.moments];
        for (kept, parts) in kept.into_iter().zip(&parts) {
            let applied = kept.apply_parts(time, parts);
            applied.map_err(|source| prepared.state_error(source))?;
        }
        if prepared.emit == Emit::OnClose && prepared.waits {
            self.answer_final(epoch, &mut out)?;
        }
        out.flush()?;
        let mut stats = OperatorStats {
            name: NAME.into(),
            rows_updated: changes.iter().filter(|change| change.diff > 0).count() as u64,
            ..OperatorStats::default()
        };
        for kept in [&mut self.left, &mut self.right] {
            let before = kept.size().rows;
            kept.forget(time);
            stats.rows_removed += before - kept.size().rows;
            stats.add_size(kept.size());
        }
        // Pruned rows are gone from the sizes already.
        let pruned = parts[..2].iter().flatten();
        stats.rows_removed += pruned
            .map(|part| {
                (0..part.len())
                    .filter(|row| part.diffs.get(*row) < 0)
                    .count() as u64
            })
            .sum::<u64>();
        stats.memory_used_bytes += self.moments.size().bytes;
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        let mut more = false;
        for kept in [&mut self.left, &mut self.right, &mut self.moments] {
            more |= kept.work(IDLE_EFFORT);
        }
        more
    }
}
