//! The first stage: rows are grouped where they are read, and only partial groups travel.
//!
//! Rows that come too late are left out here, row by row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use hashbrown::HashTable;

use crate::operators::aggregate::accumulate::Groups;
use crate::operators::aggregate::calls::{Grouped, Values};
use crate::operators::aggregate::distinct::Seen;
use crate::operators::aggregate::{Evaluated, LATE_NAME, Prepared, VALUE_TAG};
use crate::operators::dead_letter::sift;
use crate::operators::late::Late;
use crate::operators::{Context, EpochInfo, OperatorError, OperatorStats};
use crate::row::{Bytes, Delta, hash};
use crate::state::Rows;
use crate::time::{EventTime, NEVER};

/// Groups are sent on when there are this many, so that memory stays bounded.
const MOST_GROUPS: usize = 1 << 16;

/// The groups of one epoch so far.
pub(super) struct Partial {
    prepared: Arc<Prepared>,
    table: HashTable<u32>,
    keys: Bytes,
    expiries: Vec<EventTime>,
    groups: Groups,
    /// For each call that keeps values: how often each value of each group came.
    values: Vec<HashMap<(u32, Box<[u8]>), i64>>,
    /// For each set of distinct values those that came.
    seen: Vec<Seen>,
    /// Where groups are of panes: how many rows each has.
    counts: Vec<u64>,
    /// Where groups are of panes: rows that came too late for a window of theirs.
    dropped: u64,
}

impl Partial {
    /// No groups yet.
    pub(super) fn new(prepared: &Arc<Prepared>) -> Self {
        Self {
            prepared: Arc::clone(prepared),
            table: HashTable::new(),
            keys: Bytes::default(),
            expiries: vec![],
            groups: prepared.calls.groups.like(0),
            values: vec![HashMap::new(); prepared.calls.calls.len()],
            seen: (prepared.calls.sets.iter())
                .map(|set| Seen::new(set, prepared.general))
                .collect(),
            counts: vec![],
            dropped: 0,
        }
    }

    /// Takes rows in.
    pub(super) fn add(
        &mut self,
        delta: Delta,
        epoch: &EpochInfo,
        context: &Context,
    ) -> Result<(), OperatorError> {
        let prepared = Arc::clone(&self.prepared);
        let (delta, evaluated) = sift(delta, context, |delta| prepared.evaluate(delta, epoch))?;
        let Evaluated { keys, calls } = evaluated;
        let rows = delta.rows();
        let (bounds, encoded) = match &prepared.panes {
            Some(panes) => (None, panes.codec().encode(&keys)),
            None => prepared.encode(&keys, rows),
        };
        let encoded = encoded.map_err(|source| prepared.row_error(source))?;
        let in_windows = prepared.panes.as_ref().and(keys.first());

        let late_at = prepared.late_watermark(epoch);
        let mut late = Late::default();
        let mut on_time = vec![];
        let mut of = Vec::with_capacity(rows);
        for row in 0..rows {
            let expiry = bounds.as_ref().map_or(NEVER, |bounds| bounds[row]);
            let is_late = expiry <= late_at && expiry != NEVER;
            if is_late || in_windows.is_some_and(|panes| panes.is_null(row)) {
                if on_time.is_empty() {
                    on_time = vec![true; rows];
                }
                on_time[row] = false;
                if is_late {
                    late.add(row, expiry);
                }
                of.push(0);
                continue;
            }
            let key = if prepared.keys.is_empty() {
                &[][..]
            } else {
                encoded.get(row)
            };
            let group = self.group(key, expiry);
            of.push(group);
            if in_windows.is_some() {
                self.counts.resize(self.keys.len(), 0);
                self.counts[group as usize] += u64::from(delta.diff(row) > 0);
            }
        }
        late.report((prepared.operator, LATE_NAME), &delta, epoch, context)?;
        self.groups.resize(self.keys.len());
        if self.keys.is_empty() {
            return Ok(());
        }
        // Late rows: multiplicity 0 in the count of rows, and not valid for any call.
        let on_time = (!on_time.is_empty()).then(|| BooleanArray::from(on_time));
        let diffs: Option<Vec<i64>> = match (&delta.diffs, &on_time) {
            (None, None) => None,
            (_, None) => delta.diffs.as_ref().map(|diffs| diffs.to_vec()),
            (_, Some(on_time)) => Some(
                (0..rows)
                    .map(|row| {
                        if on_time.value(row) {
                            delta.diff(row)
                        } else {
                            0
                        }
                    })
                    .collect(),
            ),
        };
        let grouped = Grouped {
            of: &of,
            diffs: diffs.as_deref(),
            counted: on_time.as_ref(),
        };
        let (values, seen) = (&mut self.values, &mut self.seen);
        let mut keep = |kept: Values<'_>| match kept {
            Values::OfCall(call, arguments, valid) => {
                let values = &mut values[call];
                keep_values(&prepared, call, arguments, valid, &grouped, values)
            }
            Values::OfSet(set, arguments, counted) => {
                see_values(&prepared, set, arguments, counted, &grouped, &mut seen[set])
            }
        };
        prepared
            .calls
            .accumulate(&mut self.groups, &grouped, &calls, &mut keep)
    }

    /// Whether there are so many groups that they should be sent on.
    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= MOST_GROUPS
            || self.values.iter().any(|values| values.len() >= MOST_GROUPS)
            || self.seen.iter().any(Seen::is_full)
    }

    /// Takes the groups out, as rows for the workers that own them.
    pub(super) fn take(&mut self, epoch: &EpochInfo) -> Result<Rows, OperatorError> {
        let prepared = Arc::clone(&self.prepared);
        let mut rows = Rows::new(epoch.time());
        let count = self.keys.len();
        // The groups to send, and for each group of this stage those that are made of it.
        let (keys, expiries, starts) = match &prepared.panes {
            Some(panes) if !self.keys.is_empty() => {
                let windows = panes.expand(&self.keys, epoch)?;
                let made = windows.starts.last().copied().unwrap_or_default();
                let (bounds, keys) = prepared.encode(&windows.keys, made);
                let keys = keys.map_err(|source| prepared.row_error(source))?;
                let bounds = bounds.unwrap_or_else(|| vec![NEVER; made]);
                (keys, bounds, Some(windows.starts))
            }
            _ => (
                std::mem::take(&mut self.keys),
                std::mem::take(&mut self.expiries),
                None,
            ),
        };
        let late = prepared.late_watermark(epoch);
        let is_late = |at: usize| expiries[at] <= late && expiries[at] != NEVER;
        let made_of = |group: usize| match &starts {
            Some(starts) => starts[group]..starts[group + 1],
            None => group..group + 1,
        };
        let mut value = vec![];
        for group in 0..count {
            value.clear();
            value.push(0);
            self.groups.encode(group, &mut value);
            for at in made_of(group) {
                if is_late(at) {
                    self.dropped += self.counts[group];
                } else {
                    rows.push(keys.get(at), &value, 1, expiries[at]);
                }
            }
        }
        for (call, values) in self.values.iter_mut().enumerate() {
            for ((group, kept), count) in values.drain().filter(|(_, count)| *count != 0) {
                value.clear();
                value.extend_from_slice(&(call as u16 + VALUE_TAG).to_be_bytes());
                value.extend_from_slice(&kept);
                for at in made_of(group as usize).filter(|at| !is_late(*at)) {
                    rows.push(keys.get(at), &value, count, expiries[at]);
                }
            }
        }
        for (set, seen) in prepared.calls.sets.iter().zip(&mut self.seen) {
            seen.take(|group, write| {
                value.clear();
                value.extend_from_slice(&(set.calls[0] as u16 + VALUE_TAG).to_be_bytes());
                write(&mut value);
                for at in made_of(group).filter(|at| !is_late(*at)) {
                    rows.push(keys.get(at), &value, 1, expiries[at]);
                }
            });
        }
        self.table.clear();
        self.keys.clear();
        self.expiries.clear();
        self.counts.clear();
        self.groups.clear();
        Ok(rows)
    }

    /// What was left out since the last call, for progress.
    pub(super) fn take_stats(&mut self) -> OperatorStats {
        OperatorStats {
            name: LATE_NAME.into(),
            rows_dropped_by_watermark: std::mem::take(&mut self.dropped),
            ..OperatorStats::default()
        }
    }

    fn group(&mut self, key: &[u8], expiry: EventTime) -> u32 {
        let hashed = hash(key);
        let keys = &self.keys;
        if let Some(group) = self
            .table
            .find(hashed, |group| keys.get(*group as usize) == key)
        {
            return *group;
        }
        let group = self.keys.len() as u32;
        self.keys.push(key);
        self.expiries.push(expiry);
        let keys = &self.keys;
        self.table
            .insert_unique(hashed, group, |group| hash(keys.get(*group as usize)));
        group
    }
}

/// Counts the values of a call that keeps them, by group.
fn keep_values(
    prepared: &Prepared,
    call: usize,
    arguments: &[ArrayRef],
    valid: &BooleanArray,
    rows: &Grouped<'_>,
    values: &mut HashMap<(u32, Box<[u8]>), i64>,
) -> Result<(), OperatorError> {
    let encoded = prepared.calls.calls[call]
        .encode_values(arguments)
        .map_err(|source| prepared.row_error(source))?;
    for row in valid.values().set_indices() {
        let diff = rows.diffs.map_or(1, |diffs| diffs[row]);
        *values
            .entry((rows.of[row], encoded.get(row).into()))
            .or_default() += diff;
    }
    Ok(())
}

/// Takes in the values of a set, by group, each row for the calls that count it.
fn see_values(
    prepared: &Prepared,
    set: usize,
    arguments: &[ArrayRef],
    counted: &[BooleanArray],
    rows: &Grouped<'_>,
    seen: &mut Seen,
) -> Result<(), OperatorError> {
    let call = &prepared.calls.calls[prepared.calls.sets[set].calls[0]];
    let encoded = call
        .encode_values(arguments)
        .map_err(|source| prepared.row_error(source))?;
    for (row, group) in rows.of.iter().enumerate() {
        let bits = counted.iter().enumerate();
        let bits = bits.fold(0, |bits, (bit, counted)| {
            bits | u64::from(counted.value(row)) << bit
        });
        let diff = rows.diffs.map_or(1, |diffs| diffs[row]);
        if bits != 0 && diff != 0 {
            seen.add(*group, encoded.get(row), bits, diff)
                .map_err(|source| prepared.row_error(source))?;
        }
    }
    Ok(())
}
