//! The second stage: an epoch's partial groups are taken into state, and what changed is given.

use std::sync::Arc;

use arrow::array::ArrayRef;

use crate::operators::aggregate::accumulate::Groups;
use crate::operators::aggregate::call::{Folded, Kind};
use crate::operators::aggregate::distinct::{self, Brought};
use crate::operators::aggregate::{LATE_NAME, Prepared, VALUE_TAG};
use crate::operators::expression::record_batch;
use crate::operators::keyed::Keyed;
use crate::operators::{Context, EpochInfo, OperatorError, OperatorStats, Restored};
use crate::plan::Emit;
use crate::row::{Bytes, Delta, RowError, hash, route};
use crate::state::{
    IDLE_EFFORT, Multiset, Place, Recorder, Rows, StateError, Table, TableKind, places_by_key,
};
use timely::dataflow::operators::generic::OperatorInfo;

/// Rows are given in batches of this size.
const BATCH: usize = 8192;

/// The state of one worker's groups.
pub(super) struct Merge {
    prepared: Arc<Prepared>,
    groups: Table,
    /// For each call that keeps values, its values.
    values: Vec<Option<Multiset>>,
    /// The values of each set.
    sets: Vec<distinct::Kept>,
    owns_global: bool,
}

/// The groups that an epoch touches, in the order of their keys.
struct Touched {
    keys: Bytes,
    /// What the epoch adds, then what the groups are after it.
    new: Groups,
    /// For each call the values that came and went: (group, value, change), in order.
    values: Vec<Vec<(usize, Box<[u8]>, i64)>>,
    /// For each set the values that came and went.
    brought: Vec<Brought>,
}

impl Merge {
    /// `restored` holds what each trace begins with.
    pub(super) fn new(
        prepared: &Arc<Prepared>,
        context: &Context,
        info: &OperatorInfo,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> Result<Self, OperatorError> {
        let operator = prepared.operator;
        let failed = |source| OperatorError::State { operator, source };
        let kind = if prepared.general {
            TableKind::General
        } else {
            TableKind::AppendOnly
        };
        let id = operator as u32;
        let groups = Table::new(
            kind,
            info.clone(),
            recorder.for_trace(id, 0),
            restored.take(id, 0),
        )
        .map_err(failed)?;
        let values = prepared
            .calls
            .calls
            .iter()
            .enumerate()
            .map(|(call, spec)| {
                let trace = call as u32 + 1;
                let recorder = recorder.for_trace(id, trace);
                spec.keeps_values()
                    .then(|| Multiset::new(info.clone(), recorder, restored.take(id, trace)))
                    .transpose()
            })
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let sets = (prepared.calls.sets.iter())
            .map(|set| {
                // Where versions before this one kept them.
                for call in &set.calls {
                    let trace = *call as u32 + 1;
                    if let Some(found) = restored.take(id, trace) {
                        return Err(StateError::Kind {
                            operator: id,
                            trace,
                            expected: "no values of count(DISTINCT)",
                            found: found.kind().name(),
                        });
                    }
                }
                let trace = distinct::TRACES + set.calls[0] as u32;
                let recorder = recorder.for_trace(id, trace);
                let restored = restored.take(id, trace);
                distinct::Kept::new(set, prepared.general, info, recorder, restored)
            })
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let owns_global =
            prepared.keys.is_empty() && route(hash(&[]), context.peers()) == context.worker();
        Ok(Self {
            prepared: Arc::clone(prepared),
            groups,
            values,
            sets,
            owns_global,
        })
    }

    /// Sorts the rows by key and merges the partial groups of each key.
    fn touch(&self, rows: &[Rows]) -> Result<Touched, OperatorError> {
        let prepared = &self.prepared;
        let order = places_by_key(rows);
        let key = |place: &Place| rows[place.1 as usize].keys.get(place.2 as usize);

        let mut keys = Bytes::default();
        if self.owns_global {
            keys.push(&[]);
        }
        let mut of = Vec::with_capacity(order.len());
        for entry in &order {
            if keys.last() != Some(key(entry)) {
                keys.push(key(entry));
            }
            of.push(keys.len() - 1);
        }
        let mut new = prepared.calls.groups.like(keys.len());
        let mut values = vec![Vec::new(); prepared.calls.calls.len()];
        let mut brought: Vec<Brought> = vec![];
        brought.resize_with(prepared.calls.sets.len(), Brought::default);
        let set_of = |call: usize| {
            let mut sets = prepared.calls.sets.iter();
            sets.position(|set| set.calls[0] == call)
        };
        let set_of: Vec<_> = (0..values.len()).map(set_of).collect();
        for (entry, group) in order.iter().zip(of) {
            let (part, row) = (&rows[entry.1 as usize], entry.2 as usize);
            match part.vals.get(row) {
                [0, accumulators @ ..] => {
                    new.merge(group, accumulators)
                        .map_err(|source| prepared.row_error(source))?;
                }
                [high, low, value @ ..] => {
                    let call = usize::from(u16::from_be_bytes([*high, *low]) - VALUE_TAG);
                    let Some(set) = set_of[call] else {
                        values[call].push((group, Box::from(value), part.diffs.get(row)));
                        continue;
                    };
                    let of = (&prepared.calls.sets[set], prepared.general);
                    let group = (group, keys.get(group));
                    (brought[set].add(of, group, value, prepared.expiry_of(group.1)))
                        .ok_or_else(|| self.internal("a value of a set is cut off"))?;
                }
                _ => return Err(self.internal("a partial group without content")),
            }
        }
        for values in &mut values {
            consolidate(values);
        }
        Ok(Touched {
            keys,
            new,
            values,
            brought,
        })
    }

    /// Adds what came to what is kept, and gives the difference; says how many groups changed.
    fn update(
        &mut self,
        epoch: &EpochInfo,
        touched: Touched,
        give: &mut dyn FnMut(Delta),
    ) -> Result<u64, OperatorError> {
        let prepared = Arc::clone(&self.prepared);
        let Touched {
            keys,
            mut new,
            values,
            brought,
        } = touched;
        let count = keys.len();
        let mut old = prepared.calls.groups.like(count);
        let mut kept: Vec<Option<Box<[u8]>>> = vec![None; count];
        let mut damage: Option<RowError> = None;
        self.groups.get(&keys, &mut |group, value| {
            let merged = old
                .merge(group, value)
                .and_then(|()| new.merge(group, value));
            if let Err(error) = merged {
                damage.get_or_insert(error);
            }
            kept[group] = Some(value.into());
        });
        if let Some(error) = damage {
            return Err(prepared.row_error(error));
        }
        for (call, values) in values.iter().enumerate() {
            self.update_values(epoch, call, &keys, values, &mut new)?;
        }
        for (set, brought) in self.sets.iter_mut().zip(&brought) {
            let add = &mut |call, group, change| new.add_distinct(call, group, change);
            let consistent = set.update(epoch.time(), brought, add);
            let failed = |source| OperatorError::State {
                operator: prepared.operator,
                source,
            };
            if !consistent.map_err(failed)? {
                return Err(self.internal("a value goes that was not there"));
            }
        }

        let mut changes = self.groups.changes();
        let (mut gone, mut come) = (vec![], vec![]);
        let mut encoded = vec![];
        let mut updated = 0;
        for (group, before) in kept.iter().enumerate() {
            let key = keys.get(group);
            let vanishes = prepared.general && !key.is_empty() && new.rows(group) == 0;
            if prepared.general && new.rows(group) < 0 {
                return Err(self.internal("a group has fewer rows than were taken from it"));
            }
            encoded.clear();
            new.encode(group, &mut encoded);
            let before = before.as_deref();
            let after = (!vanishes).then_some(&encoded[..]);
            if before == after {
                continue;
            }
            updated += 1;
            changes.push(key, before, after, prepared.expiry_of(key));
            if before.is_some() {
                gone.push(group);
            }
            if after.is_some() {
                come.push(group);
            }
        }
        self.groups
            .apply(epoch.time(), &changes)
            .map_err(|source| OperatorError::State {
                operator: prepared.operator,
                source,
            })?;
        if prepared.emit == Emit::Changes {
            self.give(epoch, &keys, &old, &gone, -1, give)?;
            self.give(epoch, &keys, &new, &come, 1, give)?;
        }
        Ok(updated)
    }

    /// Takes in the values of one call and sets what they make of each group.
    fn update_values(
        &mut self,
        epoch: &EpochInfo,
        call: usize,
        keys: &Bytes,
        changes: &[(usize, Box<[u8]>, i64)],
        new: &mut Groups,
    ) -> Result<(), OperatorError> {
        let prepared = Arc::clone(&self.prepared);
        let Some(multiset) = &mut self.values[call] else {
            return Ok(());
        };
        let mut rows = Rows {
            time: epoch.time(),
            ..Rows::default()
        };
        for (group, value, change) in changes {
            let key = keys.get(*group);
            rows.push(key, value, *change, prepared.expiry_of(key));
        }
        let failed = |source: StateError| OperatorError::State {
            operator: prepared.operator,
            source,
        };
        multiset.apply(epoch.time(), &rows).map_err(failed)?;
        let mut groups: Vec<usize> = changes.iter().map(|(group, ..)| *group).collect();
        groups.dedup();
        let mut touched = Bytes::default();
        for group in &groups {
            touched.push(keys.get(*group));
            new.set_value(call, *group, None);
        }
        match &prepared.calls.calls[call].kind {
            // A group that is given once is computed then.
            Kind::Folded(_) if prepared.emit == Emit::OnClose => {}
            Kind::Folded(folded) => self.fold(call, folded, &touched, &groups, new)?,
            _ => self.values[call].iter().for_each(|multiset| {
                multiset.first(&touched, &mut |index, value| {
                    new.set_value(call, groups[index], Some(value));
                });
            }),
        }
        Ok(())
    }

    /// Computes a call from the values of some groups: those of `keys`, which are sorted and
    /// distinct, are the groups of these indices.
    fn fold(
        &self,
        call: usize,
        folded: &Folded,
        keys: &Bytes,
        groups: &[usize],
        into: &mut Groups,
    ) -> Result<(), OperatorError> {
        let spec = &self.prepared.calls.calls[call];
        let Some(multiset) = &self.values[call] else {
            return Ok(());
        };
        let mut failure = None;
        let mut of_group = (usize::MAX, Bytes::default(), vec![]);
        let mut finish = |(index, values, counts): &(usize, Bytes, Vec<i64>)| {
            if let Some(group) = groups.get(*index) {
                let rows = values.iter().zip(counts.iter().copied());
                match spec.fold(folded, rows) {
                    Ok(result) => into.set_value(call, *group, Some(&result)),
                    Err(error) => failure = Some(error),
                }
            }
        };
        multiset.each(keys, &mut |index, value, count| {
            let (current, values, counts) = &mut of_group;
            if *current == index {
                values.push(value);
                counts.push(count);
            } else {
                finish(&of_group);
                of_group = (index, Bytes::default(), vec![]);
                of_group.1.push(value);
                of_group.2.push(count);
            }
            true
        });
        finish(&of_group);
        failure.map_or(Ok(()), Err)
    }

    /// Gives the groups whose bound the watermark has passed in this epoch.
    fn close(
        &mut self,
        epoch: &EpochInfo,
        give: &mut dyn FnMut(Delta),
    ) -> Result<(), OperatorError> {
        let prepared = Arc::clone(&self.prepared);
        let (after, upto) = (prepared.late_watermark(epoch), prepared.watermark(epoch));
        if upto <= after {
            return Ok(());
        }
        let mut keys = Bytes::default();
        let mut groups = prepared.calls.groups.like(0);
        let mut failure: Option<OperatorError> = None;
        let mut flush = |keys: &mut Bytes, groups: &mut Groups| {
            let all: Vec<usize> = (0..keys.len()).collect();
            for (call, spec) in prepared.calls.calls.iter().enumerate() {
                if let Kind::Folded(folded) = &spec.kind {
                    self.fold(call, folded, keys, &all, groups)?;
                }
            }
            let given = self.give(epoch, keys, groups, &all, 1, give);
            keys.clear();
            groups.clear();
            given
        };
        self.groups.due(after, upto, &mut |key, value| {
            if failure.is_some() {
                return;
            }
            keys.push(key);
            groups.resize(keys.len());
            let mut taken = groups
                .merge(keys.len() - 1, value)
                .map_err(|source| prepared.row_error(source));
            if taken.is_ok() && keys.len() == BATCH {
                taken = flush(&mut keys, &mut groups);
            }
            failure = taken.err();
        });
        match failure {
            Some(error) => Err(error),
            None => flush(&mut keys, &mut groups),
        }
    }

    /// Gives the rows of some groups, `diff` times each.
    fn give(
        &self,
        epoch: &EpochInfo,
        keys: &Bytes,
        groups: &Groups,
        which: &[usize],
        diff: i64,
        give: &mut dyn FnMut(Delta),
    ) -> Result<(), OperatorError> {
        let prepared = &self.prepared;
        let skip = if prepared.bound.is_some() { 8 } else { 0 };
        for which in which.chunks(BATCH) {
            let mut columns: Vec<ArrayRef> = if prepared.keys.is_empty() {
                vec![]
            } else {
                prepared
                    .codec
                    .decode(which.iter().map(|group| &keys.get(*group)[skip..]))
                    .map_err(|source| prepared.row_error(source))?
            };
            columns.extend(groups.finish(which)?);
            let batch = record_batch(&prepared.schema, columns, which.len())?;
            let diffs = (diff != 1).then(|| vec![diff; which.len()].into());
            give(Delta {
                batch,
                diffs,
                origin: None,
                time: epoch.time(),
            });
        }
        Ok(())
    }

    fn internal(&self, reason: &str) -> OperatorError {
        OperatorError::Internal {
            operator: self.prepared.operator,
            reason: reason.into(),
        }
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
        let touched = self.touch(rows)?;
        let mut stats = OperatorStats {
            name: LATE_NAME.into(),
            ..OperatorStats::default()
        };
        stats.rows_updated = self.update(epoch, touched, give)?;
        if self.prepared.emit == Emit::OnClose {
            self.close(epoch, give)?;
        }
        let before = self.groups.size().rows;
        let forgotten = epoch.time();
        self.groups.forget(forgotten);
        stats.rows_removed = before.saturating_sub(self.groups.size().rows);
        stats.add_size(self.groups.size());
        if self.prepared.emit == Emit::OnClose {
            stats.add_waiting(&self.groups.waiting());
        }
        for values in self.values.iter_mut().flatten() {
            values.forget(forgotten);
            stats.memory_used_bytes += values.size().bytes;
        }
        for set in &mut self.sets {
            set.forget(forgotten);
            stats.memory_used_bytes += set.size().bytes;
        }
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        let mut more = self.groups.work(IDLE_EFFORT);
        for values in self.values.iter_mut().flatten() {
            more |= values.work(IDLE_EFFORT);
        }
        for set in &mut self.sets {
            more |= set.work(IDLE_EFFORT);
        }
        more
    }
}

/// Sorts changes and adds up those of one value.
fn consolidate(changes: &mut Vec<(usize, Box<[u8]>, i64)>) {
    changes.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    changes.dedup_by(|next, kept| {
        let same = next.0 == kept.0 && next.1 == kept.1;
        if same {
            kept.2 += next.2;
        }
        same
    });
    changes.retain(|(.., change)| *change != 0);
}
