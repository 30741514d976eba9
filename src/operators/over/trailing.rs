//! Window functions that look back only, in append mode: a row is given once, when the watermark has passed it.
//!
//! By then all rows before it are there. Its results are computed over those that it looks back on, which stay
//! for the rows to come: the last so many, and those of so long before the watermark.

use crate::operators::keyed::{Change, changes_of};
use crate::operators::over::{Given, Partition, Prepared, changed};
use crate::operators::rank::layout::Layout;
use crate::operators::{EpochInfo, OperatorError, expires};
use crate::plan::Trailing;
use crate::row::{Bytes, RowError, bound_prefix, read_bound};
use crate::state::{Multiset, Rows};
use crate::time::EventTime;

/// One worker's rows, those that the watermark has not passed among them.
pub(super) struct Passing<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) trailing: &'a Trailing,
    pub(super) rows: &'a mut Multiset,
    /// The partitions by the moments of rows that are not given yet.
    pub(super) moments: &'a mut Multiset,
}

impl Passing<'_> {
    /// Takes in the rows of an epoch, and gives those that the watermark has passed. How many came.
    pub(super) fn advance(
        &mut self,
        epoch: &EpochInfo,
        rows: &[Rows],
        given: &mut Given<'_>,
    ) -> Result<u64, OperatorError> {
        let (prepared, trailing) = (self.prepared, self.trailing);
        let failed = |source| prepared.row_error(source);
        let layout = &*prepared.layout;
        let (after, upto) = (layout.late(epoch), layout.complete(epoch));
        let changes = changes_of(rows);
        let keys = self.due(&changes, (after, upto)).map_err(failed)?;
        let mut before: Vec<Partition> = vec![Partition::new(); keys.len()];
        self.rows.each(&keys, &mut |at, value, count| {
            if read_bound(value) > upto {
                return false;
            }
            before[at].push((value.into(), count));
            true
        });
        let (mut kept, mut moments) = (Vec::new(), Vec::new());
        let mut timed = Bytes::default();
        let mut of_keys = changes
            .chunk_by(|one, other| one.key == other.key)
            .peekable();
        for (key, before) in keys.iter().zip(&before) {
            while let Some(other) = of_keys.next_if(|changes| changes[0].key < key) {
                keep(other, layout, &mut kept);
            }
            let fresh = of_keys.next_if(|changes| changes[0].key == key);
            let fresh = fresh.unwrap_or_default();
            // The rows of a key lie in the order of time.
            let due = fresh.partition_point(|change| read_bound(change.value) <= upto);
            keep(&fresh[due..], layout, &mut kept);
            let rows = changed(before, &fresh[..due]);
            given.behind(key, &rows, after)?;
            let stays = looked_back_on(trailing, &rows, upto);
            for (at, (value, count)) in rows.iter().enumerate() {
                let known = before.binary_search_by(|row| row.0.cmp(value));
                let known = known.map_or(0, |at| before[at].1);
                let stays = if at >= stays { *count } else { 0 };
                let expiry = layout.expiry_of(key, value);
                Rows::push_to(&mut kept, (key, value), stays - known, expiry);
            }
        }
        for other in of_keys {
            keep(other, layout, &mut kept);
        }
        for change in &changes {
            let time = read_bound(change.value);
            if time > upto {
                timed.clear();
                let pushed = timed.try_push_pair(&bound_prefix(time), change.key);
                pushed.map_err(failed)?;
                let expiry = expires(time, trailing.column.lag);
                Rows::push_to(&mut moments, (timed.get(0), &[]), change.diff, expiry);
            }
        }
        let applied = (self.rows.apply_parts(epoch.time(), &kept))
            .and_then(|()| self.moments.apply_parts(epoch.time(), &moments));
        applied.map_err(|source| self.prepared.state_error(source))?;
        Ok(changes.len() as u64)
    }

    /// The partitions with rows that the watermark has passed in this epoch.
    fn due(
        &self,
        changes: &[Change<'_>],
        (after, upto): (EventTime, EventTime),
    ) -> Result<Bytes, RowError> {
        let fresh = changes
            .iter()
            .filter(|change| read_bound(change.value) <= upto);
        let mut due: Vec<Box<[u8]>> = fresh.map(|change| change.key.into()).collect();
        self.moments
            .due(after, upto, &mut |key, _, _| due.push(key[8..].into()));
        due.sort_unstable();
        due.dedup();
        let mut keys = Bytes::default();
        due.iter().try_for_each(|key| keys.try_push(key))?;
        Ok(keys)
    }
}

fn keep(changes: &[Change<'_>], layout: &Layout, kept: &mut Vec<Rows>) {
    for change in changes {
        let expiry = layout.expiry_of(change.key, change.value);
        Rows::push_to(kept, (change.key, change.value), change.diff, expiry);
    }
}

/// From which on the rows of a partition, all passed by the watermark, may be looked back on.
fn looked_back_on(trailing: &Trailing, rows: &Partition, upto: EventTime) -> usize {
    let Some(last) = trailing.rows else { return 0 };
    // They go by themselves.
    if last == 0 {
        return 0;
    }
    let recent = upto.saturating_sub(trailing.range);
    let first_recent = rows.partition_point(|(value, _)| read_bound(value) <= recent);
    let mut seen = 0;
    let of_last = rows.iter().rposition(|(_, count)| {
        seen += u64::try_from(*count).unwrap_or(0);
        seen >= last
    });
    first_recent.min(of_last.unwrap_or(0))
}
