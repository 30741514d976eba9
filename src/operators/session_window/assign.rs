//! Rows and their sessions: each row is kept, and given with the session that it belongs to.
//!
//! What changes in an epoch is taken region by region: a stretch of time in which the rows that
//! came or went, and the sessions that they touch, overlap or touch each other. Only the rows of a
//! region can change their session. They are read when someone is to be told, when a row has gone
//! (which can split a session), or when the session is complete; rows that merely come extend a
//! session unread.

use std::sync::Arc;

use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::expression::record_batch;
use crate::operators::keyed::{Change, Keyed, changes_of};
use crate::operators::session_window::index::{Session, Sessions, timed};
use crate::operators::session_window::spans::{Span, holding, regions};
use crate::operators::session_window::{BATCH, NAME, Prepared, session_column};
use crate::operators::{EpochInfo, OperatorError, OperatorStats, Restored};
use crate::plan::Emit;
use crate::row::{Bytes, Delta};
use crate::state::{IDLE_EFFORT, Multiset, Recorder, Rows, StateError};
use crate::time::{EventTime, NEVER, Time};

/// One worker's rows and sessions.
pub(super) struct Assign {
    prepared: Arc<Prepared>,
    sessions: Sessions,
    /// By key and start: end and row.
    rows: Multiset,
}

impl Change<'_> {
    /// Its value is start, end and row.
    fn span(&self) -> Span {
        Span::take(self.value)
    }
}

/// A row of a region with how often it was there before the epoch, and is after it.
struct Atom {
    /// Start, end and row.
    value: Box<[u8]>,
    before: i64,
    after: i64,
}

impl Atom {
    fn span(&self) -> Span {
        Span::take(&self.value)
    }
}

/// What an epoch does to the state and says of it.
struct Effects<'a> {
    prepared: &'a Prepared,
    time: Time,
    /// Sessions that end here or before are complete.
    complete: EventTime,
    kept: Vec<Rows>,
    rows: Bytes,
    sessions: Vec<Span>,
    diffs: Vec<i64>,
    give: &'a mut dyn FnMut(Delta),
    stats: OperatorStats,
}

impl Assign {
    pub(super) fn new(
        prepared: &Arc<Prepared>,
        info: &OperatorInfo,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> Result<Self, OperatorError> {
        let id = prepared.operator as u32;
        let bounded = prepared.bound.is_some();
        let failed = |source: StateError| prepared.state_error(source);
        let kept = restored.take(id, 0);
        let sessions =
            Sessions::new(bounded, info, recorder.for_trace(id, 0), kept).map_err(failed)?;
        let kept = restored.take(id, 1);
        let rows = Multiset::new(info.clone(), recorder.for_trace(id, 1), kept).map_err(failed)?;
        Ok(Self {
            prepared: Arc::clone(prepared),
            sessions,
            rows,
        })
    }

    /// The changes of one key, sorted by value.
    fn key(
        &mut self,
        changes: &[Change<'_>],
        effects: &mut Effects<'_>,
    ) -> Result<(), OperatorError> {
        let key = changes[0].key;
        let spans: Vec<Span> = changes.iter().map(Change::span).collect();
        let before = self.sessions.touching(key, Span::reach(&spans));
        let known: Vec<Span> = before.iter().map(|session| session.span).collect();
        for region in regions(&spans, &known) {
            let before = &before[region.sessions];
            let changes = &changes[region.changes];
            let only_come = changes.iter().all(|change| change.diff > 0);
            let unread = match self.prepared.emit {
                Emit::OnClose => true,
                Emit::Changes => {
                    before.is_empty() || matches!(before, [one] if one.span == region.span)
                }
            };
            if only_come && unread && !effects.completes(region.span) {
                for change in changes {
                    effects.keep(key, change.value, change.diff)?;
                    if self.prepared.emit == Emit::Changes {
                        effects.tell(&change.value[16..], region.span, change.diff)?;
                    }
                }
                self.sessions.replace(key, before, &[bare(region.span)]);
                continue;
            }
            let atoms = self.atoms(key, region.span, changes);
            let after = self.settle(key, &atoms, before, effects)?;
            self.sessions.replace(key, before, &after);
        }
        Ok(())
    }

    /// The rows of a key that start within a span, and what changes among them, in order.
    fn atoms(&self, key: &[u8], span: Span, changes: &[Change<'_>]) -> Vec<Atom> {
        let mut atoms: Vec<Atom> = Vec::new();
        let mut changes = changes.iter().peekable();
        let fresh = |change: &Change<'_>| Atom {
            value: change.value.into(),
            before: 0,
            after: change.diff,
        };
        let (from, to) = (timed(key, span.start), timed(key, span.end));
        self.rows.range(&from, Some(&to), &mut |at, rest, count| {
            let value: Box<[u8]> = [&at[key.len()..], rest].concat().into();
            while let Some(change) = changes.next_if(|change| *change.value < *value) {
                atoms.push(fresh(change));
            }
            let same = changes.next_if(|change| *change.value == *value);
            atoms.push(Atom {
                value,
                before: count,
                after: count + same.map_or(0, |change| change.diff),
            });
        });
        atoms.extend(changes.map(fresh));
        atoms
    }

    /// Says and keeps what becomes of the rows of a region; gives the sessions that stay open.
    fn settle(
        &self,
        key: &[u8],
        atoms: &[Atom],
        before: &[Session],
        effects: &mut Effects<'_>,
    ) -> Result<Vec<Session>, OperatorError> {
        if atoms.iter().any(|atom| atom.after < 0) {
            return Err(self
                .prepared
                .internal("a session has fewer rows than were taken from it"));
        }
        let old: Vec<Span> = before.iter().map(|session| session.span).collect();
        let alive: Vec<Span> = (atoms.iter().filter(|atom| atom.after > 0))
            .map(Atom::span)
            .collect();
        let new: Vec<Span> = regions(&alive, &[]).into_iter().map(|r| r.span).collect();
        for atom in atoms {
            let start = atom.span().start;
            let was = holding(&old, start).filter(|_| atom.before > 0);
            let is = holding(&new, start).filter(|_| atom.after > 0);
            let row = &atom.value[16..];
            let complete = is.is_some_and(|session| effects.completes(session));
            match (self.prepared.emit, was, is) {
                (Emit::Changes, Some(was), Some(is)) if was == is => {
                    effects.tell(row, is, atom.after - atom.before)?;
                }
                (Emit::Changes, was, is) => {
                    if let Some(was) = was {
                        effects.tell(row, was, -atom.before)?;
                    }
                    if let Some(is) = is {
                        effects.tell(row, is, atom.after)?;
                    }
                }
                (Emit::OnClose, _, Some(is)) if complete => effects.tell(row, is, atom.after)?,
                (Emit::OnClose, ..) => {}
            }
            let stays = if complete { 0 } else { atom.after };
            effects.keep(key, &atom.value, stays - atom.before)?;
        }
        let open = new
            .into_iter()
            .filter(|session| !effects.completes(*session));
        Ok(open.map(bare).collect())
    }

    /// The sessions that the epoch leaves as they are and that are complete.
    fn close(&mut self, effects: &mut Effects<'_>) -> Result<(), OperatorError> {
        for (key, session) in self.sessions.take_due(effects.complete) {
            let mut atoms = self.atoms(&key, session.span, &[]);
            for atom in &mut atoms {
                if self.prepared.emit == Emit::OnClose {
                    effects.tell(&atom.value[16..], session.span, atom.before)?;
                }
                effects.keep(&key, &atom.value, -atom.before)?;
            }
        }
        Ok(())
    }
}

impl Keyed for Assign {
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
        let mut effects = Effects {
            prepared: &prepared,
            time: epoch.time(),
            complete: prepared.complete(epoch),
            kept: Vec::new(),
            rows: Bytes::default(),
            sessions: Vec::new(),
            diffs: Vec::new(),
            give,
            stats: OperatorStats {
                name: NAME.into(),
                ..OperatorStats::default()
            },
        };
        let changes = changes_of(rows);
        for changes in changes.chunk_by(|one, other| one.key == other.key) {
            self.key(changes, &mut effects)?;
        }
        self.close(&mut effects)?;
        effects.flush()?;
        let Effects {
            kept, mut stats, ..
        } = effects;
        let time = epoch.time();
        let applied = (self.sessions.apply(time)).and_then(|()| self.rows.apply_parts(time, &kept));
        applied.map_err(|source| prepared.state_error(source))?;
        self.rows.forget(time);
        stats.add_size(self.rows.size());
        stats.memory_used_bytes += self.sessions.size().bytes;
        if prepared.emit == Emit::OnClose {
            stats.add_waiting(&self.sessions.waiting(prepared.lag()));
        }
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        let more = self.sessions.work(IDLE_EFFORT);
        self.rows.work(IDLE_EFFORT) || more
    }
}

/// A session of which nothing but its span is kept.
fn bare(span: Span) -> Session {
    Session {
        span,
        payload: Box::default(),
    }
}

impl Effects<'_> {
    fn completes(&self, session: Span) -> bool {
        session.end <= self.complete
    }

    /// A row of `value` (start, end and row) comes or goes.
    fn keep(&mut self, key: &[u8], value: &[u8], diff: i64) -> Result<(), OperatorError> {
        if diff == 0 {
            return Ok(());
        }
        let longest = value.len().max(key.len() + 8);
        if longest > Bytes::MAX_VALUE {
            return Err(self.prepared.too_large(longest));
        }
        let at = [key, &value[..8]].concat();
        Rows::push_to(&mut self.kept, (&at, &value[8..]), diff, NEVER);
        if diff > 0 {
            self.stats.rows_updated += 1;
        } else {
            self.stats.rows_removed += 1;
        }
        Ok(())
    }

    /// A row is given, or taken back, as one of `session`.
    fn tell(&mut self, row: &[u8], session: Span, diff: i64) -> Result<(), OperatorError> {
        if diff == 0 {
            return Ok(());
        }
        self.rows
            .try_push(row)
            .map_err(|source| self.prepared.row_error(source))?;
        self.sessions.push(session);
        self.diffs.push(diff);
        if self.sessions.len() == BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OperatorError> {
        let count = self.sessions.len();
        if count == 0 {
            return Ok(());
        }
        let prepared = self.prepared;
        let mut columns = prepared
            .rows
            .decode(self.rows.iter())
            .map_err(|source| prepared.row_error(source))?;
        columns.push(session_column(&self.sessions, &prepared.session)?);
        let batch = record_batch(&prepared.schema, columns, count)?;
        let once = self.diffs.iter().all(|diff| *diff == 1);
        (self.give)(Delta {
            batch,
            diffs: (!once).then(|| std::mem::take(&mut self.diffs).into()),
            origin: None,
            time: self.time,
        });
        self.rows.clear();
        self.sessions.clear();
        self.diffs.clear();
        Ok(())
    }
}
