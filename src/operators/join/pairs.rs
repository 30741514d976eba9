//! Pairs of rows with equal keys: which of them match, and what is given of them.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::filter;

use crate::operators::expression::record_batch;
use crate::operators::join::known::Touched;
use crate::operators::join::singles::Out;
use crate::operators::join::{Prepared, is_batch};
use crate::operators::{EpochInfo, OperatorError};
use crate::plan::join::{LEFT, RIGHT};
use crate::row::{Bytes, Delta};

/// A row of a pair.
#[derive(Clone, Copy)]
pub(super) struct Half<'a> {
    /// Its columns.
    pub(super) row: &'a [u8],
    /// How often it is there, or came.
    pub(super) count: i64,
    /// Its number among the touched ones of its side, where its matches are counted and this one is new to it.
    pub(super) touched: Option<usize>,
}

/// Pairs that wait to be looked at together.
pub(super) struct Pairs<'a> {
    epoch: &'a EpochInfo,
    /// Of each side.
    rows: [Bytes; 2],
    diffs: Vec<i64>,
    /// Of each side: which touched row gets how many matches more.
    counted: [Vec<Option<(usize, i64)>>; 2],
}

impl<'a> Pairs<'a> {
    pub(super) fn new(epoch: &'a EpochInfo) -> Self {
        Self {
            epoch,
            rows: [Bytes::default(), Bytes::default()],
            diffs: Vec::new(),
            counted: [Vec::new(), Vec::new()],
        }
    }

    /// Takes in a pair, the row of the left input first.
    pub(super) fn add(
        &mut self,
        [left, right]: [Half<'_>; 2],
        touched: &mut [Touched; 2],
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        for (rows, half) in self.rows.iter_mut().zip([left, right]) {
            (rows.try_push(half.row)).map_err(|source| out.prepared.row_error(source))?;
        }
        self.diffs.push(left.count * right.count);
        self.counted[LEFT].push(left.touched.map(|at| (at, right.count)));
        self.counted[RIGHT].push(right.touched.map(|at| (at, left.count)));
        let bytes: usize = self.rows.iter().map(Bytes::bytes).sum();
        if is_batch(self.diffs.len(), bytes) {
            self.flush(touched, out)?;
        }
        Ok(())
    }

    /// Looks at all that wait.
    pub(super) fn flush(
        &mut self,
        touched: &mut [Touched; 2],
        out: &mut Out<'_>,
    ) -> Result<(), OperatorError> {
        let count = self.diffs.len();
        if count == 0 {
            return Ok(());
        }
        let prepared = out.prepared;
        let given = prepared.kind.gives_pairs();
        let mut columns = Vec::new();
        let mut matches = None;
        if given || prepared.filter.is_some() {
            for (side, rows) in prepared.sides.iter().zip(&self.rows) {
                let decoded = side.rows.decode(rows.iter());
                columns.extend(decoded.map_err(|source| prepared.row_error(source))?);
            }
        }
        if prepared.filter.is_some() {
            matches = prepared.matches(&columns, count, self.epoch)?;
        }
        let is_match = |pair: usize| matches.as_ref().is_none_or(|matches| matches.value(pair));
        for (counted, touched) in self.counted.iter_mut().zip(touched) {
            for (pair, counted) in counted.drain(..).enumerate() {
                if let Some((at, more)) = counted
                    && is_match(pair)
                {
                    touched.matches[at] += more;
                }
            }
        }
        self.rows.iter_mut().for_each(Bytes::clear);
        let mut diffs = std::mem::take(&mut self.diffs);
        if !given {
            return Ok(());
        }
        if let Some(matches) = &matches {
            prepared.keep(&mut columns, &mut diffs, matches)?;
        }
        if diffs.is_empty() {
            return Ok(());
        }
        out.give(columns, diffs)
    }
}

impl Prepared {
    /// For which of so many pairs of these columns the condition is true; `None`: for all.
    pub(super) fn matches(
        &self,
        columns: &[ArrayRef],
        pairs: usize,
        epoch: &EpochInfo,
    ) -> Result<Option<BooleanArray>, OperatorError> {
        let Some(condition) = &self.filter else {
            return Ok(None);
        };
        let batch = record_batch(&self.pair_schema, columns.to_vec(), pairs)?;
        let condition = condition.condition(&Delta::inserts(batch, epoch.time()), epoch)?;
        // Null is not true.
        let condition = match condition.nulls() {
            Some(nulls) => BooleanArray::new(condition.values() & nulls.inner(), None),
            None => condition,
        };
        Ok((condition.true_count() < pairs).then_some(condition))
    }

    /// Keeps the pairs that match.
    pub(super) fn keep(
        &self,
        columns: &mut [ArrayRef],
        diffs: &mut Vec<i64>,
        matches: &BooleanArray,
    ) -> Result<(), OperatorError> {
        let mut pair = 0;
        diffs.retain(|_| {
            pair += 1;
            matches.value(pair - 1)
        });
        for column in columns {
            *column = filter(column, matches).map_err(|error| self.arrow_error(&error))?;
        }
        Ok(())
    }
}
