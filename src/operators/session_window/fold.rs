//! Aggregates of sessions, folded as rows come: a session keeps its accumulators.
//!
//! Rows are never taken back here, so a region of rows and sessions that hang together is one session
//! afterwards, and its accumulators are those of all that went into it.

use std::sync::Arc;

use arrow::array::BooleanArray;
use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::aggregate::accumulate::Groups;
use crate::operators::aggregate::calls::{Arguments, Calls, Grouped};
use crate::operators::expression::record_batch;
use crate::operators::keyed::Keyed;
use crate::operators::session_window::index::{Payload, Session, Sessions};
use crate::operators::session_window::own::Own;
use crate::operators::session_window::spans::{Span, regions};
use crate::operators::session_window::{BATCH, NAME, Prepared, session_column};
use crate::operators::{EpochInfo, OperatorError, OperatorStats, Restored};
use crate::plan::Emit;
use crate::row::{Bytes, Delta};
use crate::state::{IDLE_EFFORT, Recorder, Rows};
use crate::time::NEVER;

/// Folds the rows of a batch into partial sessions: by key, span and accumulators.
pub(super) fn partial(
    prepared: &Prepared,
    calls: &Calls,
    arguments: &Arguments,
    delta: &Delta,
    own: &Own,
) -> Result<Rows, OperatorError> {
    let rows = own.counts.len();
    let mut order: Vec<usize> = (0..rows).filter(|row| own.counts[*row]).collect();
    order.sort_unstable_by(|a, b| {
        (own.key(*a), own.spans[*a].start).cmp(&(own.key(*b), own.spans[*b].start))
    });
    let mut of = vec![0; rows];
    let mut partials: Vec<(usize, Span)> = Vec::new();
    for rows in order.chunk_by(|a, b| own.key(*a) == own.key(*b)) {
        let spans: Vec<Span> = rows.iter().map(|row| own.spans[*row]).collect();
        for region in regions(&spans, &[]) {
            for row in &rows[region.changes] {
                of[*row] = partials.len() as u32;
            }
            partials.push((rows[0], region.span));
        }
    }
    let mut given = Rows::new(delta.time);
    if partials.is_empty() {
        return Ok(given);
    }
    let all = order.len() == rows;
    let counted = (!all).then(|| BooleanArray::from(own.counts.clone()));
    let counts = own.counts.iter().enumerate();
    let diffs = counts.map(|(row, counts)| if *counts { delta.diff(row) } else { 0 });
    let diffs: Option<Vec<i64>> = (!all || delta.diffs.is_some()).then(|| diffs.collect());
    let mut groups = calls.groups.like(partials.len());
    let grouped = Grouped {
        of: &of,
        diffs: diffs.as_deref(),
        counted: counted.as_ref(),
    };
    calls.accumulate(&mut groups, &grouped, arguments, &mut |_| {
        Err(prepared.internal("a call that keeps values cannot be folded into sessions"))
    })?;
    let mut value = Vec::new();
    for (group, (row, span)) in partials.into_iter().enumerate() {
        value.clear();
        span.put(&mut value);
        groups.encode(group, &mut value);
        given.push(own.key(row), &value, 1, NEVER);
    }
    Ok(given)
}

/// One worker's sessions.
pub(super) struct Fold {
    prepared: Arc<Prepared>,
    calls: Arc<Calls>,
    sessions: Sessions,
}

/// A partial session as it travels.
struct Part<'a> {
    key: &'a [u8],
    span: Span,
    accumulators: &'a [u8],
}

/// Sessions that are given: to come, or to go.
struct Given<'a> {
    prepared: &'a Prepared,
    epoch: EpochInfo,
    diff: i64,
    keys: Bytes,
    spans: Vec<Span>,
    groups: Groups,
}

impl<'a> Given<'a> {
    fn new(prepared: &'a Prepared, calls: &Calls, epoch: &EpochInfo, diff: i64) -> Self {
        Self {
            prepared,
            epoch: *epoch,
            diff,
            keys: Bytes::default(),
            spans: Vec::new(),
            groups: calls.groups.like(0),
        }
    }

    fn push(
        &mut self,
        key: &[u8],
        session: &Session,
        give: &mut dyn FnMut(Delta),
    ) -> Result<(), OperatorError> {
        self.keys.push(key);
        self.spans.push(session.span);
        self.groups.resize(self.spans.len());
        self.groups
            .merge(self.spans.len() - 1, &session.payload)
            .map_err(|source| self.prepared.row_error(source))?;
        if self.spans.len() == BATCH {
            self.flush(give)?;
        }
        Ok(())
    }

    fn flush(&mut self, give: &mut dyn FnMut(Delta)) -> Result<(), OperatorError> {
        let count = self.spans.len();
        if count == 0 {
            return Ok(());
        }
        let prepared = self.prepared;
        let mut columns = match &prepared.keys {
            Some(codec) => codec
                .decode(self.keys.iter())
                .map_err(|source| prepared.row_error(source))?,
            None => Vec::new(),
        };
        columns.push(session_column(&self.spans, &prepared.session)?);
        let all: Vec<usize> = (0..count).collect();
        columns.extend(self.groups.finish(&all)?);
        let batch = record_batch(&prepared.schema, columns, count)?;
        give(Delta {
            batch,
            diffs: (self.diff != 1).then(|| vec![self.diff; count].into()),
            origin: None,
            time: self.epoch.time(),
        });
        self.keys.clear();
        self.spans.clear();
        self.groups.clear();
        Ok(())
    }
}

impl Fold {
    pub(super) fn new(
        prepared: &Arc<Prepared>,
        calls: &Arc<Calls>,
        info: &OperatorInfo,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> Result<Self, OperatorError> {
        let id = prepared.operator as u32;
        let (recorder, kept) = (recorder.for_trace(id, 0), restored.take(id, 0));
        let sessions = Sessions::new(prepared.bound.is_some(), info, recorder, kept)
            .map_err(|source| prepared.state_error(source))?;
        Ok(Self {
            prepared: Arc::clone(prepared),
            calls: Arc::clone(calls),
            sessions,
        })
    }

    /// The accumulators of several sessions as those of one.
    fn merged<'b>(
        &self,
        scratch: &mut Groups,
        all: impl Iterator<Item = &'b [u8]>,
    ) -> Result<Payload, OperatorError> {
        scratch.clear();
        scratch.resize(1);
        for accumulators in all {
            scratch
                .merge(0, accumulators)
                .map_err(|source| self.prepared.row_error(source))?;
        }
        let mut bytes = Vec::new();
        scratch.encode(0, &mut bytes);
        let longest = bytes.len() + 8;
        if longest > Bytes::MAX_VALUE {
            return Err(self.prepared.too_large(longest));
        }
        Ok(bytes.into())
    }
}

impl Keyed for Fold {
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
        let calls = Arc::clone(&self.calls);
        let complete = prepared.complete(epoch);
        let mut stats = OperatorStats {
            name: NAME.into(),
            ..OperatorStats::default()
        };
        let mut gone = Given::new(&prepared, &calls, epoch, -1);
        let mut come = Given::new(&prepared, &calls, epoch, 1);
        let mut scratch = calls.groups.like(0);
        let parts = sorted(rows);
        for parts in parts.chunk_by(|one, other| one.key == other.key) {
            let key = parts[0].key;
            let spans: Vec<Span> = parts.iter().map(|part| part.span).collect();
            let before = self.sessions.touching(key, Span::reach(&spans));
            let known: Vec<Span> = before.iter().map(|session| session.span).collect();
            for region in regions(&spans, &known) {
                let before = &before[region.sessions];
                let fresh = parts[region.changes].iter().map(|part| part.accumulators);
                let all = before.iter().map(|session| &*session.payload).chain(fresh);
                let session = Session {
                    span: region.span,
                    payload: self.merged(&mut scratch, all)?,
                };
                let closes = session.span.end <= complete;
                let tell = prepared.emit == Emit::Changes;
                let same = matches!(before, [one] if *one == session);
                if tell && !same {
                    for session in before {
                        gone.push(key, session, give)?;
                    }
                }
                if (tell && !same) || (!tell && closes) {
                    come.push(key, &session, give)?;
                }
                stats.rows_updated += u64::from(!same);
                stats.rows_removed += before.len() as u64 - u64::from(!before.is_empty());
                stats.rows_removed += u64::from(closes);
                let after = if closes { &[][..] } else { &[session] };
                self.sessions.replace(key, before, after);
            }
        }
        for (key, session) in self.sessions.take_due(complete) {
            stats.rows_removed += 1;
            if prepared.emit == Emit::OnClose {
                come.push(&key, &session, give)?;
            }
        }
        gone.flush(give)?;
        come.flush(give)?;
        self.sessions
            .apply(epoch.time())
            .map_err(|source| prepared.state_error(source))?;
        stats.add_size(self.sessions.size());
        if prepared.emit == Emit::OnClose {
            stats.add_waiting(&self.sessions.waiting(prepared.lag()));
        }
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        self.sessions.work(IDLE_EFFORT)
    }
}

/// All partial sessions by key and start.
fn sorted(rows: &[Rows]) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = rows
        .iter()
        .flat_map(|rows| {
            (0..rows.len()).map(|row| {
                let value = rows.vals.get(row);
                Part {
                    key: rows.keys.get(row),
                    span: Span::take(value),
                    accumulators: &value[16..],
                }
            })
        })
        .collect();
    parts.sort_unstable_by(|a, b| (a.key, a.span.start).cmp(&(b.key, b.span.start)));
    parts
}
