//! The values that `count(DISTINCT ...)` counts.
//!
//! Calls over the same values share a set: it keeps each value of a group once, and with it which of the calls have
//! seen it, their filters decide. Over input that never retracts that is a bit for each call, and a value that all of them
//! have seen before costs no more than looking it up; over input that may retract it is how often each call has it.
//!
//! A set's key is the length of the group's key, the key, and the value.

use hashbrown::HashTable;
use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::aggregate::call::{Call, Kind};
use crate::row::{Bytes, RowError, hash, varint};
use crate::state::{
    Recorder, RestoredSections, Rows, StateError, StateSize, Table, TableKind, places_by_key,
};
use crate::time::{EventTime, Time};

/// The trace of a set is this and the number of its first call.
pub(super) const TRACES: u32 = 1 << 16;

/// A call is a bit of a word.
const MOST_CALLS: usize = 64;

/// Values are sent on when there are this many, so that memory stays bounded.
const MOST_VALUES: usize = 1 << 16;

/// Or this many bytes.
const MOST_BYTES: usize = 64 << 20;

/// The part of a key in state that says which worker it lives on.
pub fn routed(trace: u32, key: &[u8]) -> &[u8] {
    if trace < TRACES {
        return key;
    }
    let mut rest = key;
    let length = varint::take(&mut rest).and_then(|length| usize::try_from(length).ok());
    length.and_then(|length| rest.get(..length)).unwrap_or(key)
}

/// Calls over the same values.
#[derive(Clone, Debug)]
pub struct Set {
    /// In the order of their bits.
    pub calls: Vec<usize>,
}

/// The sets of some calls; `same` says whether two have the same values.
pub(super) fn sets(calls: &[Call], same: impl Fn(usize, usize) -> bool) -> Vec<Set> {
    let mut sets: Vec<Set> = vec![];
    for (index, _) in calls
        .iter()
        .enumerate()
        .filter(|(_, call)| matches!(call.kind, Kind::Distinct))
    {
        let shared = sets
            .iter_mut()
            .find(|set| set.calls.len() < MOST_CALLS && same(set.calls[0], index));
        match shared {
            Some(set) => set.calls.push(index),
            None => sets.push(Set { calls: vec![index] }),
        }
    }
    sets
}

/// What an epoch's rows have of the values of a set, by group: the first stage.
pub(super) struct Seen {
    /// The hash and the number of each name.
    table: HashTable<(u64, u32)>,
    /// The group, four bytes, and the value.
    names: Bytes,
    /// For each name the calls that have it, as bits; where values may go, how often each has it.
    bits: Vec<u64>,
    counts: Vec<i64>,
    calls: usize,
    general: bool,
}

impl Seen {
    pub(super) fn new(set: &Set, general: bool) -> Self {
        Self {
            table: HashTable::new(),
            names: Bytes::default(),
            bits: vec![],
            counts: vec![],
            calls: set.calls.len(),
            general,
        }
    }

    /// Whether there is so much that it should be sent on.
    pub(super) fn is_full(&self) -> bool {
        self.names.len() >= MOST_VALUES || self.names.bytes() >= MOST_BYTES
    }

    /// A value came to a group so often, for the calls of these bits.
    pub(super) fn add(
        &mut self,
        group: u32,
        value: &[u8],
        bits: u64,
        diff: i64,
    ) -> Result<(), RowError> {
        let hash = hash(value) ^ u64::from(group).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let names = &self.names;
        let known = self.table.find(hash, |(other, name)| {
            *other == hash && {
                let name = names.get(*name as usize);
                name[..4] == group.to_le_bytes() && name[4..] == *value
            }
        });
        let name = if let Some((_, name)) = known {
            *name as usize
        } else {
            let name = self.names.len();
            self.names.try_push_pair(&group.to_le_bytes(), value)?;
            self.table
                .insert_unique(hash, (hash, name as u32), |(hash, _)| *hash);
            if self.general {
                self.counts.resize(self.counts.len() + self.calls, 0);
            } else {
                self.bits.push(0);
            }
            name
        };
        if self.general {
            let counts = &mut self.counts[name * self.calls..][..self.calls];
            for (call, count) in counts.iter_mut().enumerate() {
                *count += diff * (bits >> call & 1) as i64;
            }
        } else {
            self.bits[name] |= bits;
        }
        Ok(())
    }

    /// Takes the values out: the group of each, and what is sent of it, after what `out` holds.
    pub(super) fn take(&mut self, mut give: impl FnMut(usize, &dyn Fn(&mut Vec<u8>))) {
        for (name, text) in self.names.iter().enumerate() {
            let Some((group, value)) = text.split_first_chunk::<4>() else {
                continue;
            };
            let counts = self.counts.get(name * self.calls..(name + 1) * self.calls);
            let counts = counts.unwrap_or_default();
            if self.general && counts.iter().all(|count| *count == 0) {
                continue;
            }
            give(u32::from_le_bytes(*group) as usize, &|out: &mut Vec<u8>| {
                if self.general {
                    put_counts(out, counts);
                } else {
                    varint::put(out, self.bits[name]);
                }
                out.extend_from_slice(value);
            });
        }
        self.table.clear();
        self.names.clear();
        self.bits.clear();
        self.counts.clear();
    }
}

fn put_counts(out: &mut Vec<u8>, counts: &[i64]) {
    counts
        .iter()
        .for_each(|count| varint::put_signed(out, *count));
}

/// The values of a set that an epoch brings, as they come: the second stage.
#[derive(Default)]
pub(super) struct Brought {
    /// The state's key, and behind the number of the group what is known of the value.
    parts: Vec<Rows>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Brought {
    /// Takes in what was [sent](Seen::take) of a group of this number and key.
    pub(super) fn add(
        &mut self,
        (set, general): (&Set, bool),
        (group, name): (usize, &[u8]),
        sent: &[u8],
        expiry: EventTime,
    ) -> Option<()> {
        let mut value = sent;
        for _ in 0..if general { set.calls.len() } else { 1 } {
            varint::take(&mut value)?;
        }
        let known = &sent[..sent.len() - value.len()];
        self.key.clear();
        varint::put(&mut self.key, name.len() as u64);
        self.key.extend_from_slice(name);
        self.key.extend_from_slice(value);
        self.value.clear();
        self.value.extend_from_slice(&(group as u64).to_le_bytes());
        self.value.extend_from_slice(known);
        Rows::push_to(&mut self.parts, (&self.key, &self.value), 1, expiry);
        Some(())
    }
}

/// The values of a set in state.
pub(super) struct Kept {
    set: Set,
    general: bool,
    table: Table,
}

impl Kept {
    pub(super) fn new(
        set: &Set,
        general: bool,
        info: &OperatorInfo,
        recorder: Recorder,
        restored: Option<RestoredSections>,
    ) -> Result<Self, StateError> {
        let kind = if general {
            TableKind::General
        } else {
            TableKind::AppendOnly
        };
        Ok(Self {
            set: set.clone(),
            general,
            table: Table::new(kind, info.clone(), recorder, restored)?,
        })
    }

    /// Takes an epoch's values in. `change` gets a call, a group, and by how much its number of values changes.
    /// `Ok(false)`: a value went that was not there.
    pub(super) fn update(
        &mut self,
        time: Time,
        brought: &Brought,
        change: &mut dyn FnMut(usize, usize, i64),
    ) -> Result<bool, StateError> {
        let calls = self.set.calls.len();
        let width = if self.general { calls } else { 1 };
        let parts = &brought.parts;
        let places = places_by_key(parts);
        let mut keys = Bytes::default();
        let mut groups = vec![];
        let mut expiries = vec![];
        // By key what came: bits, or counts.
        let mut new: Vec<i64> = vec![];
        for (_, part, row) in &places {
            let (part, row) = (&parts[*part as usize], *row as usize);
            let Some((group, mut known)) = part.vals.get(row).split_first_chunk::<8>() else {
                continue;
            };
            if keys.last() != Some(part.keys.get(row)) {
                keys.push(part.keys.get(row));
                groups.push(u64::from_le_bytes(*group) as usize);
                expiries.push(part.expiry.get(row));
                new.resize(new.len() + width, 0);
            }
            let at = new.len() - width;
            self.read(&mut known, &mut new[at..]);
        }
        let mut old = vec![0; new.len()];
        self.table.get(&keys, &mut |at, mut value| {
            self.read(&mut value, &mut old[at * width..(at + 1) * width]);
        });
        let mut changes = self.table.changes();
        let (mut before, mut after) = (vec![], vec![]);
        for (at, key) in keys.iter().enumerate() {
            let (old, new) = (&old[at * width..][..width], &mut new[at * width..][..width]);
            before.clear();
            after.clear();
            if self.general {
                for (bit, (old, new)) in old.iter().zip(&mut *new).enumerate() {
                    *new += old;
                    if *new < 0 {
                        return Ok(false);
                    }
                    let distinct = i64::from(*new > 0) - i64::from(*old > 0);
                    if distinct != 0 {
                        change(self.set.calls[bit], groups[at], distinct);
                    }
                }
                put_counts(&mut before, old);
                put_counts(&mut after, new);
                let is_there = |counts: &[i64]| counts.iter().any(|count| *count > 0);
                let before = is_there(old).then_some(&before[..]);
                changes.push(
                    key,
                    before,
                    is_there(new).then_some(&after[..]),
                    expiries[at],
                );
                continue;
            }
            let (old, new) = (old[0] as u64, (new[0] | old[0]) as u64);
            if old == new {
                continue;
            }
            for (bit, call) in self.set.calls.iter().enumerate() {
                if (new & !old) >> bit & 1 == 1 {
                    change(*call, groups[at], 1);
                }
            }
            varint::put(&mut before, old);
            varint::put(&mut after, new);
            let before = (old != 0).then_some(&before[..]);
            changes.push(key, before, Some(&after), expiries[at]);
        }
        self.table.apply(time, &changes)?;
        Ok(true)
    }

    /// Adds what is known of a value to `to`.
    fn read(&self, known: &mut &[u8], to: &mut [i64]) {
        for to in to {
            if self.general {
                *to += varint::take_signed(known).unwrap_or_default();
            } else {
                *to |= varint::take(known).unwrap_or_default() as i64;
            }
        }
    }

    pub(super) fn forget(&mut self, time: Time) {
        self.table.forget(time);
    }

    pub(super) fn work(&mut self, effort: usize) -> bool {
        self.table.work(effort)
    }

    pub(super) fn size(&self) -> StateSize {
        self.table.size()
    }
}
