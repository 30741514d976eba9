//! Rows that come too late: left out, counted, and set aside where the query has a table for them.

use serde::{Deserialize, Serialize};

use crate::operators::dead_letter::{LetterOrigin, as_json};
use crate::operators::{Context, EpochInfo, OperatorError, OperatorStats};
use crate::row::Delta;
use crate::time::{Epoch, EventTime};

/// A worker sets aside at most this many late rows of an epoch; more end the query.
pub const MOST_LATE: usize = 1_000_000;

/// A row that came too late. They are ordered by where they were read, which does not depend on workers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LateRow {
    /// Where it was read, where it is one that was read.
    pub origin: Option<LetterOrigin>,
    /// The operator that left it out.
    pub operator: usize,
    /// What progress calls that operator.
    pub name: String,
    /// By what it is late: its own time, or the end of its window.
    pub event_time: EventTime,
    /// Its values at that operator, as JSON.
    pub row: Option<String>,
}

/// The rows of a batch that come too late, as an operator finds them.
#[derive(Default)]
pub struct Late(Vec<(usize, EventTime)>);

impl Late {
    /// Row `row` of the batch, which is late by `event_time`.
    pub fn add(&mut self, row: usize, event_time: EventTime) {
        self.0.push((row, event_time));
    }

    /// Counts them as those of an operator, by its id and the name that progress has for it, and sets them
    /// aside where somebody wants them. One that is taken back never was taken in, and is nothing.
    pub fn report(
        self,
        (operator, name): (usize, &str),
        delta: &Delta,
        epoch: &EpochInfo,
        context: &Context,
    ) -> Result<(), OperatorError> {
        let rows = self.0.iter().filter(|(row, _)| delta.diff(*row) > 0);
        if context.late_rows().keeps() {
            for (row, event_time) in rows.clone() {
                let late = LateRow {
                    origin: (delta.origin.as_ref()).map(|origin| LetterOrigin::of(origin, *row)),
                    operator,
                    name: name.to_owned(),
                    event_time: *event_time,
                    row: as_json(&delta.batch.slice(*row, 1)),
                };
                for _ in 0..delta.diff(*row) {
                    let added = context
                        .late_rows()
                        .add(epoch.epoch, late.clone(), MOST_LATE);
                    let epoch = epoch.epoch;
                    added.map_err(|_| OperatorError::TooManyLateRows { epoch })?;
                }
            }
        }
        let dropped = rows.count() as u64;
        if dropped > 0 {
            let stats = OperatorStats {
                name: name.to_owned(),
                rows_dropped_by_watermark: dropped,
                ..OperatorStats::default()
            };
            context.report(epoch.epoch, operator, &stats);
        }
        Ok(())
    }
}

/// The late rows of an epoch, in an order that does not depend on workers.
pub fn take_late(context: &Context, epoch: Epoch) -> Vec<LateRow> {
    let mut rows = context.late_rows().take(epoch);
    rows.sort();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Origin;
    use crate::time::Time;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use std::sync::Arc;

    #[test]
    fn rows_are_counted_and_set_aside_where_somebody_wants_them() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let mut delta = Delta::inserts(batch, Time::new(3, 9000));
        delta.diffs = Some(Arc::from([2_i64, -1, 1]));
        delta.origin = Some(Origin::contiguous(0, "p".into(), 1, 10));
        let epoch = EpochInfo {
            epoch: 3,
            watermark: 9000,
            previous_watermark: 8000,
            timestamp: 0,
            salt: 0,
        };
        for wanted in [false, true] {
            let context = Context::new(0, 1, 0);
            if wanted {
                context.late_rows().keep();
            }
            let mut late = Late::default();
            (0..3).for_each(|row| late.add(row, 5000 + row as i64));
            late.report((7, "dedupe"), &delta, &epoch, &context)
                .unwrap();
            let stats = context.take_stats(3).remove(&7).unwrap();
            assert_eq!(stats.rows_dropped_by_watermark, 2);
            let rows: Vec<_> = take_late(&context, 3)
                .into_iter()
                .map(|row| (row.row.unwrap(), row.event_time))
                .collect();
            let expected =
                [(1, 5000), (1, 5000), (3, 5002)].map(|(x, time)| (format!("{{\"x\":{x}}}"), time));
            assert_eq!(rows, if wanted { &expected[..] } else { &[] });
        }
    }
}
