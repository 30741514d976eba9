//! The open sessions of one worker: which touch a span, and which are due.

use std::collections::{BTreeMap, BTreeSet};

use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::session_window::spans::Span;
use crate::row::{Bytes, bound_prefix, read_bound};
use crate::state::{
    Recorder, RestoredSections, StateError, StateSize, Table, TableChanges, TableKind, Waiting,
};
use crate::time::{EventTime, NEVER, Time};

/// What comes with a session in state, beside its span.
pub(super) type Payload = Box<[u8]>;

/// A session with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) span: Span,
    pub(super) payload: Payload,
}

/// The sessions by key and end, each with its start and payload.
///
/// The sessions of a key lie apart, so their ends are in the order of their starts: those that touch
/// a span are neighbours, from the first that ends in it or later. Beside them, in memory only and made
/// anew at a restart, stand the ends of all sessions in order: what is due is at the front.
pub(super) struct Sessions {
    table: Table,
    changes: TableChanges,
    /// `None` where sessions are never due.
    ends: Option<BTreeSet<(EventTime, Box<[u8]>)>>,
    /// The bytes of the keys in `ends`.
    ends_bytes: u64,
}

impl Sessions {
    /// The sessions that were restored, or none.
    pub(super) fn new(
        bounded: bool,
        info: &OperatorInfo,
        recorder: Recorder,
        restored: Option<RestoredSections>,
    ) -> Result<Self, StateError> {
        let table = Table::new(TableKind::General, info.clone(), recorder, restored)?;
        let mut sessions = Self {
            changes: table.changes(),
            table,
            ends: None,
            ends_bytes: 0,
        };
        if bounded {
            let mut ends = BTreeSet::new();
            let mut bytes = 0;
            sessions.table.scan(&mut |key, _| {
                let (key, end) = split(key);
                bytes += key.len() as u64;
                ends.insert((end, Box::from(key)));
            });
            (sessions.ends, sessions.ends_bytes) = (Some(ends), bytes);
        }
        Ok(sessions)
    }

    /// The sessions of a key that overlap or touch a span, in order; as they were when the epoch
    /// began.
    pub(super) fn touching(&self, key: &[u8], span: Span) -> Vec<Session> {
        let mut found = Vec::new();
        self.table
            .scan_from(&timed(key, span.start), &mut |at, value| {
                let (of, end) = split(at);
                let start = read_bound(value);
                let touches = of == key && start <= span.end;
                if touches {
                    found.push(Session {
                        span: Span { start, end },
                        payload: value[8..].into(),
                    });
                }
                touches
            });
        found
    }

    /// Some sessions of a key become others. Each session of a key may be named once in an epoch.
    pub(super) fn replace(&mut self, key: &[u8], before: &[Session], after: &[Session]) {
        let mut by_end: BTreeMap<EventTime, [Option<&Session>; 2]> = BTreeMap::new();
        for (side, sessions) in [before, after].into_iter().enumerate() {
            for session in sessions {
                by_end.entry(session.span.end).or_default()[side] = Some(session);
            }
        }
        for (end, sides) in by_end {
            let [old, new] = sides.map(|session| session.map(value));
            self.changes
                .push(&timed(key, end), old.as_deref(), new.as_deref(), NEVER);
            let Some(ends) = &mut self.ends else { continue };
            if old.is_some() != new.is_some() {
                let entry = (end, Box::from(key));
                if new.is_some() {
                    ends.insert(entry);
                    self.ends_bytes += key.len() as u64;
                } else {
                    ends.remove(&entry);
                    self.ends_bytes -= key.len() as u64;
                }
            }
        }
    }

    /// Takes out the sessions that end at `upto` or before and that the epoch has not touched, in
    /// the order of their keys.
    pub(super) fn take_due(&mut self, upto: EventTime) -> Vec<(Box<[u8]>, Session)> {
        let Some(ends) = &mut self.ends else {
            return Vec::new();
        };
        let mut due = Vec::new();
        while ends.first().is_some_and(|(end, _)| *end <= upto) {
            due.extend(ends.pop_first());
        }
        let mut keys: Vec<Vec<u8>> = due.iter().map(|(end, key)| timed(key, *end)).collect();
        keys.sort_unstable();
        let mut looked_up = Bytes::default();
        keys.iter().for_each(|key| looked_up.push(key));
        let mut taken = Vec::with_capacity(due.len());
        let changes = &mut self.changes;
        self.table.get(&looked_up, &mut |index, value| {
            let (key, end) = split(&keys[index]);
            changes.push(&keys[index], Some(value), None, NEVER);
            let start = read_bound(value);
            let session = Session {
                span: Span { start, end },
                payload: value[8..].into(),
            };
            taken.push((Box::from(key), session));
        });
        self.ends_bytes -= due.iter().map(|(_, key)| key.len() as u64).sum::<u64>();
        taken
    }

    /// Seals the epoch with what was replaced and taken.
    pub(super) fn apply(&mut self, time: Time) -> Result<(), StateError> {
        let changes = std::mem::replace(&mut self.changes, self.table.changes());
        self.table.apply(time, &changes)?;
        self.table.forget(time);
        Ok(())
    }

    /// See [`Table::work`].
    pub(super) fn work(&mut self, effort: usize) -> bool {
        self.table.work(effort)
    }

    /// The sessions and when they are due, on an edge that runs `lag` behind.
    pub(super) fn waiting(&self, lag: i64) -> Waiting {
        let ends = self.ends.iter().flatten();
        // The ends of sessions are rarely alike: they are told one by one.
        let moments = ends.map(|(end, _)| (end.saturating_add(lag), 1));
        Waiting::new(self.table.size().rows, moments)
    }

    /// What is kept, the order of ends included.
    pub(super) fn size(&self) -> StateSize {
        let mut size = self.table.size();
        let entry = size_of::<(EventTime, Box<[u8]>)>() as u64;
        size.bytes += self
            .ends
            .as_ref()
            .map_or(0, |ends| ends.len() as u64 * entry);
        size.bytes += self.ends_bytes;
        size
    }
}

/// A key with a moment behind it: in order of keys, then of moments. The moment takes no part in
/// the choice of a worker.
pub(super) fn timed(key: &[u8], moment: EventTime) -> Vec<u8> {
    [key, &bound_prefix(moment)].concat()
}

/// The key and its moment.
pub(super) fn split(timed: &[u8]) -> (&[u8], EventTime) {
    let (key, moment) = timed.split_at(timed.len().saturating_sub(8));
    (key, read_bound(moment))
}

fn value(session: &Session) -> Vec<u8> {
    [&bound_prefix(session.span.start)[..], &session.payload].concat()
}
