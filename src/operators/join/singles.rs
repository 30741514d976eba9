//! Rows of one input that are given by themselves: without a match, or because they have one.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_null_array};

use crate::operators::OperatorError;
use crate::operators::expression::record_batch;
use crate::operators::join::{Prepared, is_batch};
use crate::plan::JoinKind;
use crate::plan::join::LEFT;
use crate::row::{Bytes, Delta};
use crate::time::Time;

/// Where an epoch's result goes.
pub(super) struct Out<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) time: Time,
    pub(super) give: &'a mut dyn FnMut(Delta),
}

impl Out<'_> {
    /// So many rows, each as often as `diffs` says.
    pub(super) fn give(
        &mut self,
        columns: Vec<ArrayRef>,
        diffs: Vec<i64>,
    ) -> Result<(), OperatorError> {
        let batch = record_batch(&self.prepared.schema, columns, diffs.len())?;
        let once = diffs.iter().all(|diff| *diff == 1);
        (self.give)(Delta {
            batch,
            diffs: (!once).then(|| diffs.into()),
            origin: None,
            time: self.time,
        });
        Ok(())
    }
}

/// Rows of one input on their way out.
pub(super) struct Singles {
    side: usize,
    rows: Bytes,
    matched: Vec<bool>,
    diffs: Vec<i64>,
}

impl Singles {
    pub(super) fn of(side: usize) -> Self {
        Self {
            side,
            rows: Bytes::default(),
            matched: Vec::new(),
            diffs: Vec::new(),
        }
    }

    /// A row as it is kept, which has a match or not, comes or goes; what it gives, if anything.
    pub(super) fn tell(
        &mut self,
        value: &[u8],
        matched: bool,
        diff: i64,
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        let gives = match out.prepared.kind {
            JoinKind::Inner => false,
            JoinKind::Outer(_) | JoinKind::Anti(_) => !matched,
            JoinKind::Semi(_) => matched,
            JoinKind::Mark(_) => true,
        };
        if !gives || diff == 0 {
            return Ok(());
        }
        let row = out.prepared.sides[self.side].row(value);
        (self.rows.try_push(row)).map_err(|source| out.prepared.row_error(source))?;
        self.matched.push(matched);
        self.diffs.push(diff);
        if is_batch(self.diffs.len(), self.rows.bytes()) {
            self.flush(out)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, out: &mut Out<'_>) -> Result<(), OperatorError> {
        let count = self.diffs.len();
        if count == 0 {
            return Ok(());
        }
        let prepared = out.prepared;
        let rows = prepared.sides[self.side].rows.decode(self.rows.iter());
        let mut columns = rows.map_err(|source| prepared.row_error(source))?;
        match prepared.kind {
            JoinKind::Outer(_) => {
                let nulls = prepared.sides[1 - self.side].rows.types().iter();
                let nulls = nulls.map(|data_type| new_null_array(data_type, count));
                let at = if self.side == LEFT { columns.len() } else { 0 };
                columns.splice(at..at, nulls);
            }
            JoinKind::Mark(_) => columns.push(Arc::new(BooleanArray::from(self.matched.clone()))),
            JoinKind::Inner | JoinKind::Semi(_) | JoinKind::Anti(_) => {}
        }
        self.rows.clear();
        self.matched.clear();
        out.give(columns, std::mem::take(&mut self.diffs))
    }
}
