//! What an epoch gives.

use arrow::array::new_null_array;

use crate::operators::OperatorError;
use crate::operators::expression::record_batch;
use crate::operators::nearest::{BATCH, Prepared, row_of};
use crate::row::{Bytes, Delta};
use crate::time::Time;

/// Rows on their way out.
#[derive(Default)]
struct Waiting {
    left: Bytes,
    right: Bytes,
    diffs: Vec<i64>,
}

/// Where an epoch's result goes.
pub(super) struct Out<'a> {
    prepared: &'a Prepared,
    time: Time,
    pairs: Waiting,
    /// Without a right row.
    alone: Waiting,
    give: &'a mut dyn FnMut(Delta),
}

impl<'a> Out<'a> {
    pub(super) fn new(prepared: &'a Prepared, time: Time, give: &'a mut dyn FnMut(Delta)) -> Self {
        Self {
            prepared,
            time,
            pairs: Waiting::default(),
            alone: Waiting::default(),
            give,
        }
    }

    /// A left row with what is nearest to it, both as they are kept, so often more.
    pub(super) fn add(
        &mut self,
        left: &[u8],
        right: Option<&[u8]>,
        diff: i64,
    ) -> Result<(), OperatorError> {
        let prepared = self.prepared;
        if right.is_none() && !prepared.outer {
            return Ok(());
        }
        let waiting = if right.is_some() {
            &mut self.pairs
        } else {
            &mut self.alone
        };
        let pushed = waiting
            .left
            .try_push(row_of(left))
            .and_then(|()| match right {
                Some(right) => waiting.right.try_push(row_of(right)),
                None => Ok(()),
            });
        pushed.map_err(|source| prepared.row_error(source))?;
        waiting.diffs.push(diff);
        if waiting.diffs.len() == BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// Gives what waits.
    pub(super) fn flush(&mut self) -> Result<(), OperatorError> {
        let prepared = self.prepared;
        for waiting in [&mut self.pairs, &mut self.alone] {
            let waiting = std::mem::take(waiting);
            let count = waiting.diffs.len();
            if count == 0 {
                continue;
            }
            let failed = |source| prepared.row_error(source);
            let mut columns = prepared.left.decode(waiting.left.iter()).map_err(failed)?;
            let shown = prepared.latest..;
            if waiting.right.is_empty() {
                let types = prepared.right.types()[shown].iter();
                columns.extend(types.map(|of| new_null_array(of, count)));
            } else {
                let right = prepared
                    .right
                    .decode(waiting.right.iter())
                    .map_err(failed)?;
                columns.extend(right[shown].iter().cloned());
            }
            let batch = record_batch(&prepared.schema, columns, count)?;
            let once = waiting.diffs.iter().all(|diff| *diff == 1);
            (self.give)(Delta {
                batch,
                diffs: (!once).then(|| waiting.diffs.into()),
                origin: None,
                time: self.time,
            });
        }
        Ok(())
    }
}
