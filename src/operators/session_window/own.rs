//! The rows of a batch with their keys and own windows, before they travel.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;

use crate::operators::late::Late;
use crate::operators::session_window::spans::Span;
use crate::operators::session_window::{Evaluated, Prepared};
use crate::operators::{EpochInfo, OperatorError};
use crate::row::{Bytes, Delta};
use crate::state::Rows;
use crate::time::NEVER;

/// The rows of a batch.
pub(super) struct Own {
    /// The own window of each, where it has one.
    pub(super) spans: Vec<Span>,
    /// Whether each has a window, and comes in time.
    pub(super) counts: Vec<bool>,
    /// Those that came too late.
    pub(super) late: Late,
    /// `None`: all rows are of one partition.
    keys: Option<Bytes>,
}

impl Own {
    pub(super) fn new(
        prepared: &Prepared,
        delta: &Delta,
        evaluated: &Evaluated,
        epoch: &EpochInfo,
    ) -> Result<Self, OperatorError> {
        let Some(windows) = evaluated.window.as_struct_opt() else {
            return Err(prepared.internal("a session is no struct"));
        };
        let bounds = |index: usize| {
            let column = windows.column(index);
            column.as_primitive::<TimestampMicrosecondType>().values()
        };
        let spans: Vec<Span> = (bounds(0).iter().zip(bounds(1)))
            .map(|(start, end)| Span {
                start: *start,
                end: *end,
            })
            .collect();
        let keys = match &prepared.keys {
            Some(codec) => {
                let keys = codec.encode(&evaluated.partition);
                Some(keys.map_err(|source| prepared.row_error(source))?)
            }
            None => None,
        };
        let late_at = prepared.late(epoch);
        let mut late = Late::default();
        let counts = (0..delta.rows())
            .map(|row| {
                let in_time = spans[row].end > late_at;
                if windows.is_valid(row) && !in_time {
                    late.add(row, spans[row].end);
                }
                windows.is_valid(row) && in_time
            })
            .collect();
        Ok(Self {
            spans,
            counts,
            late,
            keys,
        })
    }

    /// The key of a row.
    pub(super) fn key(&self, row: usize) -> &[u8] {
        self.keys.as_ref().map_or(&[], |keys| keys.get(row))
    }

    /// The rows by key, each behind its own window.
    pub(super) fn whole_rows(
        &self,
        prepared: &Prepared,
        delta: &Delta,
    ) -> Result<Rows, OperatorError> {
        // Rows of no columns are only counted.
        let encoded = if delta.batch.num_columns() == 0 {
            None
        } else {
            let rows = prepared.rows.encode(delta.batch.columns());
            Some(rows.map_err(|source| prepared.row_error(source))?)
        };
        let mut rows = Rows::new(delta.time);
        let mut value = Vec::new();
        for row in (0..delta.rows()).filter(|row| self.counts[*row]) {
            value.clear();
            self.spans[row].put(&mut value);
            if let Some(encoded) = &encoded {
                value.extend_from_slice(encoded.get(row));
            }
            rows.push(self.key(row), &value, delta.diff(row), NEVER);
        }
        Ok(rows)
    }
}
