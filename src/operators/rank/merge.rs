//! What changes among the first rows of the partitions of one worker.

use std::sync::Arc;

use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::keyed::{Change, Keyed, changes_of};
use crate::operators::rank::layout::Layout;
use crate::operators::rank::places::{Counter, Ranks};
use crate::operators::rank::{NAME, Prepared};
use crate::operators::{EpochInfo, OperatorError, OperatorStats};
use crate::plan::Emit;
use crate::row::{Bytes, Delta};
use crate::state::{Additions, IDLE_EFFORT, Multiset, Recorder, RestoredSections, Rows};
use crate::time::Time;

/// Rows are given in batches of this size.
const BATCH: usize = 8192;

/// One worker's rows.
pub(super) struct Merge {
    prepared: Arc<Prepared>,
    rows: Multiset,
}

impl Merge {
    pub(super) fn new(
        prepared: Arc<Prepared>,
        info: &OperatorInfo,
        recorder: Recorder,
        restored: Option<RestoredSections>,
    ) -> Result<Self, OperatorError> {
        let rows = Multiset::new(info.clone(), recorder, restored)
            .map_err(|source| prepared.state_error(source))?;
        Ok(Self { prepared, rows })
    }

    /// Takes changes, sorted by key and value, one partition after the other.
    fn update(
        &self,
        changes: &[Change<'_>],
        effects: &mut Effects<'_>,
    ) -> Result<(), OperatorError> {
        let partitions: Vec<&[Change<'_>]> = changes
            .chunk_by(|one, other| one.key == other.key)
            .collect();
        let mut keys = Bytes::default();
        partitions
            .iter()
            .for_each(|changes| keys.push(changes[0].key));
        let mut partition = Partition::new(&self.prepared);
        let mut at = 0;
        let mut failure = None;
        self.rows.each(&keys, &mut |index, value, count| {
            if failure.is_some() {
                return false;
            }
            let going_on = (|| {
                while at < index {
                    partition.finish(partitions[at], effects)?;
                    at += 1;
                }
                partition.old(partitions[index], value, count, effects)
            })();
            going_on.unwrap_or_else(|error| {
                failure = Some(error);
                false
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        for changes in &partitions[at..] {
            partition.finish(changes, effects)?;
        }
        Ok(())
    }

    /// Gives the partitions whose bound the watermark has passed in this epoch.
    fn close(&self, epoch: &EpochInfo, effects: &mut Effects<'_>) -> Result<(), OperatorError> {
        let prepared = &self.prepared;
        let (first, last) = prepared.ranks;
        let mut counter = Counter::new(prepared.function);
        let mut partition: Vec<u8> = Vec::new();
        let mut failure = None;
        let (after, upto) = (prepared.layout.late(epoch), prepared.layout.complete(epoch));
        self.rows.due(after, upto, &mut |key, value, count| {
            if failure.is_some() {
                return;
            }
            if partition != key {
                counter.clear();
                partition.clear();
                partition.extend_from_slice(key);
            }
            let ranks = counter
                .take(Layout::order_of(value), count)
                .within(first, last);
            failure = effects.tell(key, value, Ranks::default(), ranks).err();
        });
        failure.map_or(Ok(()), Err)
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
        let mut effects = Effects {
            prepared: &prepared,
            time,
            kept: Additions::new(time),
            keys: Bytes::default(),
            values: Bytes::default(),
            ranks: Vec::new(),
            diffs: Vec::new(),
            give,
        };
        let changes = changes_of(rows);
        self.update(&changes, &mut effects)?;
        let kept = std::mem::replace(&mut effects.kept, Additions::new(time));
        let updated = kept.rows();
        self.rows
            .add(kept)
            .map_err(|source| prepared.state_error(source))?;
        if prepared.emit == Emit::OnClose {
            self.close(epoch, &mut effects)?;
        }
        effects.flush()?;
        let mut stats = OperatorStats {
            name: NAME.into(),
            rows_updated: updated as u64,
            ..OperatorStats::default()
        };
        let before = self.rows.size().rows;
        self.rows.forget(time);
        stats.rows_removed = before.saturating_sub(self.rows.size().rows);
        stats.add_size(self.rows.size());
        if self.prepared.emit == Emit::OnClose {
            stats.add_waiting(&self.rows.waiting());
        }
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        self.rows.work(IDLE_EFFORT)
    }
}

/// The walk through one partition: the rows that are kept and the changes, side by side.
struct Partition<'a> {
    prepared: &'a Prepared,
    before: Counter,
    after: Counter,
    /// The next change.
    next: usize,
}

impl<'a> Partition<'a> {
    fn new(prepared: &'a Prepared) -> Self {
        Self {
            prepared,
            before: Counter::new(prepared.function),
            after: Counter::new(prepared.function),
            next: 0,
        }
    }

    /// A row that is kept, and how often; whether the one that follows it matters.
    fn old(
        &mut self,
        changes: &[Change<'_>],
        value: &[u8],
        count: i64,
        effects: &mut Effects<'_>,
    ) -> Result<bool, OperatorError> {
        while let Some(change) = changes.get(self.next).filter(|change| change.value < value) {
            self.next += 1;
            self.row(change.key, change.value, (0, change.diff), effects)?;
        }
        let same = changes
            .get(self.next)
            .filter(|change| change.value == value);
        let diff = same.map_or(0, |change| change.diff);
        self.next += usize::from(same.is_some());
        self.row(changes[0].key, value, (count, diff), effects)?;
        // What is kept of rows that never go is no more than can be given.
        Ok(!self.prepared.general || !self.is_past())
    }

    /// The changes behind the rows that are kept, or behind those that matter; then it begins anew.
    fn finish(
        &mut self,
        changes: &[Change<'_>],
        effects: &mut Effects<'_>,
    ) -> Result<(), OperatorError> {
        let stopped = self.prepared.general && self.is_past();
        for change in &changes[self.next..] {
            if stopped {
                effects.keep(change.key, change.value, change.diff);
            } else {
                self.row(change.key, change.value, (0, change.diff), effects)?;
            }
        }
        self.before.clear();
        self.after.clear();
        self.next = 0;
        Ok(())
    }

    fn is_past(&self) -> bool {
        let last = self.prepared.ranks.1;
        self.before.is_past(last) && self.after.is_past(last)
    }

    /// The next row of the partition: how often it was there, and how that changes.
    fn row(
        &mut self,
        key: &[u8],
        value: &[u8],
        (count, diff): (i64, i64),
        effects: &mut Effects<'_>,
    ) -> Result<(), OperatorError> {
        let prepared = self.prepared;
        if count + diff < 0 {
            return Err(prepared.internal("a partition has fewer rows than were taken from it"));
        }
        let (first, last) = prepared.ranks;
        let order = Layout::order_of(value);
        let before = self.before.take(order, count);
        let after = self.after.take(order, count + diff);
        let kept = if prepared.general {
            diff
        } else {
            after.within(1, last).rows() - count
        };
        effects.keep(key, value, kept);
        if prepared.emit == Emit::OnClose {
            return Ok(());
        }
        effects.tell(
            key,
            value,
            before.within(first, last),
            after.within(first, last),
        )
    }
}

/// What an epoch does to the state and says of it.
struct Effects<'a> {
    prepared: &'a Prepared,
    time: Time,
    kept: Additions,
    keys: Bytes,
    values: Bytes,
    ranks: Vec<u64>,
    diffs: Vec<i64>,
    give: &'a mut dyn FnMut(Delta),
}

impl Effects<'_> {
    /// A row is there so often more than before.
    fn keep(&mut self, key: &[u8], value: &[u8], diff: i64) {
        let expiry = self.prepared.layout.expiry(key);
        self.kept.push(key, value, diff, expiry);
    }

    /// A row had these ranks, and has those now.
    fn tell(
        &mut self,
        key: &[u8],
        value: &[u8],
        before: Ranks,
        after: Ranks,
    ) -> Result<(), OperatorError> {
        if !self.prepared.numbered {
            return self.give(key, value, 0, after.rows() - before.rows());
        }
        if before == after {
            return Ok(());
        }
        for rank in before.first..=before.last {
            self.give(key, value, rank, after.at(rank) - before.at(rank))?;
        }
        for rank in (after.first..=after.last).filter(|rank| before.at(*rank) == 0) {
            self.give(key, value, rank, after.at(rank))?;
        }
        Ok(())
    }

    fn give(
        &mut self,
        key: &[u8],
        value: &[u8],
        rank: u64,
        diff: i64,
    ) -> Result<(), OperatorError> {
        if diff == 0 {
            return Ok(());
        }
        self.keys.push(key);
        self.values.push(value);
        self.ranks.push(rank);
        self.diffs.push(diff);
        if self.keys.len() == BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OperatorError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let ranks = std::mem::take(&mut self.ranks);
        let ranks = self.prepared.numbered.then_some(ranks);
        let batch = (self.prepared.layout).decode((&self.keys, &self.values), ranks)?;
        let diffs = std::mem::take(&mut self.diffs);
        self.keys.clear();
        self.values.clear();
        (self.give)(Delta {
            batch,
            diffs: diffs.iter().any(|diff| *diff != 1).then(|| diffs.into()),
            origin: None,
            time: self.time,
        });
        Ok(())
    }
}
