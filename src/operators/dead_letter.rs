//! Rows on which an expression fails: they end the query, or become dead letters.
//!
//! [`sift`] applies expressions to a batch. When that fails it looks for the rows that are to
//! blame; where the query keeps dead letters those rows are set aside and the rest goes on, else
//! the first of them is named with the place that it was read from.

use arrow::array::{BooleanArray, RecordBatch};
use serde::{Deserialize, Serialize};
use tidemark_connectors::Place;

use crate::operators::expression::first_failing;
use crate::operators::{Context, OperatorError};
use crate::row::{Delta, Origin};
use crate::time::Epoch;

/// A worker sets aside at most this many rows of an epoch; more end the query.
pub const MOST_LETTERS: usize = 100_000;

/// A row that could not be processed. Letters are ordered by where their rows were read, which does
/// not depend on workers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where it was read.
    pub origin: Option<LetterOrigin>,
    /// The values of the row that failed, as JSON.
    pub row: Option<String>,
    /// Why, as the query's error would have said it.
    pub reason: String,
}

impl DeadLetter {
    /// Where it was read, in the source's own words, where that is known.
    pub fn place(&self) -> Option<&Place> {
        self.origin.as_ref()?.place.as_ref()
    }
}

/// Where a dead letter was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LetterOrigin {
    /// The source's index in the plan.
    pub source: usize,
    /// Its partition.
    pub partition: String,
    /// The split's number in the epoch.
    pub split: u32,
    /// The row of the split.
    pub row: u64,
    /// The same in the source's own words, and the bytes of the record.
    pub place: Option<Place>,
}

impl LetterOrigin {
    /// Of row `index` of a batch.
    pub fn of(origin: &Origin, index: usize) -> Self {
        Self {
            source: origin.source,
            partition: origin.partition.to_string(),
            split: origin.split,
            row: origin.row(index),
            place: None,
        }
    }
}

/// Applies `compute` to the rows of `delta`: gives the rows for which it works, with its result.
///
/// `compute` must treat each row by itself.
pub fn sift<T>(
    delta: Delta,
    context: &Context,
    compute: impl Fn(&Delta) -> Result<T, OperatorError>,
) -> Result<(Delta, T), OperatorError> {
    let error = match compute(&delta) {
        Ok(result) => return Ok((delta, result)),
        Err(error @ OperatorError::Expression { .. }) => error,
        Err(error) => return Err(error),
    };
    if !context.keeps_dead_letters() {
        let failing = first_failing(delta.rows(), |offset, rows| {
            compute(&delta.slice(offset, rows)).is_err()
        });
        return Err(match (&delta.origin, failing) {
            (Some(origin), Some(row)) => context.located(error, delta.time.epoch, (origin, row)),
            _ => error,
        });
    }
    let mut failing = vec![];
    blame(&delta, 0, &compute, &mut failing)?;
    let mut keep = vec![true; delta.rows()];
    for (row, error) in failing {
        keep[row] = false;
        // What takes a row back that was set aside takes nothing back.
        if delta.diff(row) > 0 {
            context.dead_letter(delta.time.epoch, letter(&delta, row, &error))?;
        }
    }
    let filtered =
        delta
            .filter(&BooleanArray::from(keep))
            .map_err(|error| OperatorError::Unsupported {
                expression: "dead letters".into(),
                reason: error.to_string(),
            })?;
    let result = compute(&filtered)?;
    Ok((filtered, result))
}

/// The rows on which `compute` fails, each with its error: by halves, so that a few bad rows cost
/// little more than the good ones.
fn blame<T>(
    delta: &Delta,
    offset: usize,
    compute: &impl Fn(&Delta) -> Result<T, OperatorError>,
    failing: &mut Vec<(usize, OperatorError)>,
) -> Result<(), OperatorError> {
    match compute(delta) {
        Ok(_) => Ok(()),
        Err(error @ OperatorError::Expression { .. }) if delta.rows() == 1 => {
            failing.push((offset, error));
            Ok(())
        }
        Err(OperatorError::Expression { .. }) if delta.rows() > 1 => {
            let half = delta.rows() / 2;
            blame(&delta.slice(0, half), offset, compute, failing)?;
            let rest = delta.slice(half, delta.rows() - half);
            blame(&rest, offset + half, compute, failing)
        }
        Err(error) => Err(error),
    }
}

fn letter(delta: &Delta, row: usize, error: &OperatorError) -> DeadLetter {
    DeadLetter {
        reason: error.to_string(),
        row: as_json(&delta.batch.slice(row, 1)),
        origin: delta
            .origin
            .as_ref()
            .map(|origin| LetterOrigin::of(origin, row)),
    }
}

/// A row as a JSON object, nulls included.
pub fn as_json(row: &RecordBatch) -> Option<String> {
    let mut out = vec![];
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(&mut out);
    writer.write(row).ok()?;
    writer.finish().ok()?;
    let text = String::from_utf8(out).ok()?;
    Some(text.trim_end().to_owned())
}

/// The letters of an epoch, complete with the places that they came from, in an order that does
/// not depend on workers.
pub fn take_letters(context: &Context, epoch: Epoch) -> Vec<DeadLetter> {
    let mut letters = context.take_dead_letters(epoch);
    letters.sort();
    for same in letters.chunk_by_mut(|a, b| {
        let split = |letter: &DeadLetter| letter.origin.as_ref().map(|o| (o.source, o.split));
        split(a).is_some() && split(a) == split(b)
    }) {
        // A record that gave no row knows its place.
        let mut unplaced: Vec<&mut LetterOrigin> = same
            .iter_mut()
            .filter_map(|letter| letter.origin.as_mut())
            .filter(|origin| origin.place.is_none())
            .collect();
        let origins: Vec<LetterOrigin> = unplaced.iter().map(|origin| (**origin).clone()).collect();
        for (origin, place) in unplaced.iter_mut().zip(context.places(epoch, &origins)) {
            origin.place = Some(place);
        }
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    fn delta(values: Vec<i64>) -> Delta {
        let column: arrow::array::ArrayRef = Arc::new(Int64Array::from(values));
        let mut delta = Delta::inserts(
            RecordBatch::try_from_iter([("x", column)]).unwrap(),
            Time::new(3, 0),
        );
        delta.origin = Some(Origin::contiguous(0, "p".into(), 1, 10));
        delta
    }

    fn positive(delta: &Delta) -> Result<usize, OperatorError> {
        let column = delta.batch.column(0).as_primitive::<Int64Type>();
        if column.values().iter().any(|x| *x < 0) {
            return Err(OperatorError::Expression {
                expression: "sqrt(x)".into(),
                row: String::new(),
                reason: "negative".into(),
            });
        }
        Ok(delta.rows())
    }

    #[test]
    fn failing_rows_are_set_aside_and_the_others_go_on() {
        let context = Context::new(0, 1, 0);
        context.keep_dead_letters();
        let (rest, count) = sift(delta(vec![1, -2, 3, -4, 5]), &context, positive).unwrap();
        assert_eq!(count, 3);
        assert_eq!(rest.origin.unwrap().row(1), 12);
        let letters = take_letters(&context, 3);
        let rows: Vec<u64> = letters
            .iter()
            .map(|l| l.origin.as_ref().unwrap().row)
            .collect();
        assert_eq!(rows, [11, 13]);
        assert_eq!(letters[0].row.as_deref(), Some(r#"{"x":-2}"#));
        assert!(take_letters(&context, 3).is_empty());
    }

    #[test]
    fn taking_back_a_row_that_failed_is_nothing() {
        let context = Context::new(0, 1, 0);
        context.keep_dead_letters();
        let mut retracted = delta(vec![1, -2]);
        retracted.diffs = Some(Arc::from([1_i64, -1]));
        let (rest, _) = sift(retracted, &context, positive).unwrap();
        assert_eq!((rest.rows(), rest.diff(0)), (1, 1));
        assert!(take_letters(&context, 3).is_empty());
    }

    #[test]
    fn without_dead_letters_the_first_row_is_named() {
        let context = Context::new(0, 1, 0);
        let error = sift(delta(vec![1, 2, -3, -4]), &context, positive).unwrap_err();
        assert!(matches!(error, OperatorError::Located { .. }), "{error}");
        assert!(error.to_string().contains("row 12"), "{error}");
    }
}
