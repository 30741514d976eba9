//! Sliding windows: rows are grouped by pane, and each group then goes to all windows that hold its pane.
//!
//! A pane is a stretch of event time in which no window begins or ends, so that all of its rows are in the
//! same windows: with windows ten times as long as their slide, a row is aggregated once, not ten times. It
//! is written as a window: from the start of the newest of them to the end of the earliest.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Column, DFSchemaRef};
use datafusion::logical_expr::Expr;

use crate::operators::expression::{Expressions, batch_schema, record_batch};
use crate::operators::{EpochInfo, OperatorError};
use crate::plan::functions::window::{Span, windows, windows_of_pane};
use crate::plan::panes::PaneColumn;
use crate::row::{Bytes, Delta, KeyCodec};

/// The grouping of rows by pane, and how to get from there to the groups of each window.
pub(super) struct Panes {
    place: PaneColumn,
    input: DFSchemaRef,
    /// The keys that do not depend on the window.
    plain: Expressions,
    /// Those that do.
    windowed: Expressions,
    /// For each key whether it is one of those.
    of_window: Vec<bool>,
    /// Of the pane, then the plain keys.
    codec: KeyCodec,
}

/// The groups of windows that groups of panes belong to.
pub(super) struct Windows {
    /// The keys of each.
    pub(super) keys: Vec<ArrayRef>,
    /// Where those of each pane's group begin, and the end.
    pub(super) starts: Vec<usize>,
}

impl Panes {
    /// For an aggregate of node `operator` by `keys`, over rows of `input`.
    pub(super) fn new(
        operator: usize,
        place: PaneColumn,
        keys: &[Expr],
        input: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let (relation, field) = input.qualified_field(place.column);
        let column = Column::from((relation, field));
        let of_window: Vec<bool> = keys
            .iter()
            .map(|key| key.column_refs().contains(&column))
            .collect();
        let chosen = |windowed: bool| {
            let keys = keys.iter().zip(&of_window);
            keys.filter(move |(_, of_window)| **of_window == windowed)
                .map(|(key, _)| key)
        };
        let plain = Expressions::new(chosen(false), input, options)?;
        let windowed = Expressions::new(chosen(true), input, options)?;
        let mut types: Vec<DataType> = vec![field.data_type().clone()];
        types.extend(plain.types(input)?);
        let codec =
            KeyCodec::new(&types).map_err(|source| OperatorError::Row { operator, source })?;
        Ok(Self {
            place,
            input: Arc::clone(input),
            plain,
            windowed,
            of_window,
            codec,
        })
    }

    /// The pane of each row, then the keys that do not depend on the window.
    pub(super) fn evaluate(
        &self,
        delta: &Delta,
        epoch: &EpochInfo,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let mut keys = vec![Arc::clone(delta.batch.column(self.place.column))];
        keys.extend(self.plain.evaluate(delta, epoch)?);
        Ok(keys)
    }

    /// What encodes them.
    pub(super) fn codec(&self) -> &KeyCodec {
        &self.codec
    }

    /// All windows of groups whose keys were encoded so.
    pub(super) fn expand(
        &self,
        groups: &Bytes,
        epoch: &EpochInfo,
    ) -> Result<Windows, OperatorError> {
        let failed = |reason: String| OperatorError::Unsupported {
            expression: "a sliding window".into(),
            reason,
        };
        let mut columns = self
            .codec
            .decode(groups.iter())
            .map_err(|error| failed(error.to_string()))?;
        let panes = columns.remove(0);
        let (newest, first_ends) = (panes.as_struct().column(0), panes.as_struct().column(1));
        let zone = match newest.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let micros = |column: &ArrayRef| {
            let times = column.as_primitive::<TimestampMicrosecondType>();
            times.values().clone()
        };
        let mut spans: Vec<Span> = Vec::new();
        let mut starts = vec![0];
        let mut of = Vec::new();
        let panes = (micros(newest), micros(first_ends));
        for (group, (newest, first_end)) in panes.0.iter().zip(&panes.1).enumerate() {
            let PaneColumn { size, slide, .. } = self.place;
            windows_of_pane((*newest, *first_end), size, slide, &mut spans);
            of.resize(spans.len(), group as u32);
            starts.push(spans.len());
        }
        let spans =
            windows(&spans, zone.as_ref(), None).map_err(|error| failed(error.to_string()))?;
        let of = UInt32Array::from(of);
        let mut plain = columns
            .iter()
            .map(|column| take(column, &of, None).map_err(|error| failed(error.to_string())))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let windowed = self
            .windowed
            .evaluate(&self.batch(Arc::new(spans), epoch)?, epoch)?;
        let mut windowed = windowed.into_iter();
        let keys = self
            .of_window
            .iter()
            .filter_map(|of_window| {
                if *of_window {
                    windowed.next()
                } else {
                    plain.next()
                }
            })
            .collect();
        Ok(Windows { keys, starts })
    }

    /// Rows that are nothing but windows.
    fn batch(&self, windows: ArrayRef, epoch: &EpochInfo) -> Result<Delta, OperatorError> {
        let (schema, rows) = (batch_schema(&self.input), windows.len());
        let columns = schema.fields().iter().enumerate().map(|(index, field)| {
            if index == self.place.column {
                Arc::clone(&windows)
            } else {
                new_null_array(field.data_type(), rows)
            }
        });
        let batch: RecordBatch = record_batch(&schema, columns.collect(), rows)?;
        Ok(Delta {
            batch,
            diffs: None,
            origin: None,
            time: epoch.time(),
        })
    }
}
