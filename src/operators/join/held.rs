//! The rows of a table that is all there from the start: kept by the workers that own their keys, and given to
//! those that look rows up in it, again in the first epoch of each run; later what changes in it.

use std::sync::Arc;

use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::expression::record_batch;
use crate::operators::join::fresh::fresh;
use crate::operators::join::{NAME, Prepared, is_batch};
use crate::operators::keyed::Keyed;
use crate::operators::{EpochInfo, OperatorError, OperatorStats, Restored};
use crate::row::{Bytes, Delta};
use crate::state::{Additions, IDLE_EFFORT, Multiset, Recorder, Rows};
use crate::time::Time;

/// One worker's share of the table.
pub(super) struct Held {
    prepared: Arc<Prepared>,
    side: usize,
    rows: Multiset,
    /// Whether what was restored has been given.
    given: bool,
}

impl Held {
    pub(super) fn new(
        prepared: &Arc<Prepared>,
        side: usize,
        info: &OperatorInfo,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> Result<Self, OperatorError> {
        let (id, trace) = (prepared.operator as u32, side as u32);
        let rows = Multiset::new(
            info.clone(),
            recorder.for_trace(id, trace),
            restored.take(id, trace),
        );
        Ok(Self {
            prepared: Arc::clone(prepared),
            side,
            rows: rows.map_err(|source| prepared.state_error(source))?,
            given: false,
        })
    }
}

/// Rows on their way to all workers.
struct Batch<'a> {
    prepared: &'a Prepared,
    side: usize,
    time: Time,
    rows: Bytes,
    diffs: Vec<i64>,
    give: &'a mut dyn FnMut(Delta),
}

impl Batch<'_> {
    fn add(&mut self, value: &[u8], diff: i64) -> Result<(), OperatorError> {
        (self.rows.try_push(value)).map_err(|source| self.prepared.row_error(source))?;
        self.diffs.push(diff);
        if is_batch(self.diffs.len(), self.rows.bytes()) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OperatorError> {
        if self.diffs.is_empty() {
            return Ok(());
        }
        let side = &self.prepared.sides[self.side];
        let columns = side.rows.decode(self.rows.iter());
        let columns = columns.map_err(|source| self.prepared.row_error(source))?;
        let batch = record_batch(&side.schema, columns, self.diffs.len())?;
        self.rows.clear();
        (self.give)(Delta {
            batch,
            diffs: Some(std::mem::take(&mut self.diffs).into()),
            origin: None,
            time: self.time,
        });
        Ok(())
    }
}

impl Keyed for Held {
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
        let mut batch = Batch {
            prepared: &prepared,
            side: self.side,
            time: epoch.time(),
            rows: Bytes::default(),
            diffs: Vec::new(),
            give,
        };
        let mut result = Ok(());
        if !self.given {
            self.given = true;
            self.rows.scan(&mut |_, value, count| {
                if result.is_ok() {
                    result = batch.add(value, count);
                }
            });
        }
        result?;
        let fresh = fresh(rows).map_err(|source| prepared.row_error(source))?;
        let fresh = &fresh[self.side];
        let mut additions = Additions::new(epoch.time());
        for (key, name) in fresh.keys.iter().enumerate() {
            for row in &fresh.rows[fresh.of_key(key)] {
                batch.add(row.value, row.diff)?;
                additions.push(name, row.value, row.diff, row.expiry);
            }
        }
        batch.flush()?;
        (self.rows.add(additions)).map_err(|source| prepared.state_error(source))?;
        let mut stats = OperatorStats {
            name: NAME.into(),
            rows_updated: fresh.rows.len() as u64,
            ..OperatorStats::default()
        };
        stats.add_size(self.rows.size());
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        self.rows.work(IDLE_EFFORT)
    }
}
