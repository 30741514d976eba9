//! Sessions: rows of one key whose own windows overlap or touch.
//!
//! A row's own window is `[time, time + gap)`; its session goes from the least start to the greatest
//! end of all that hang together. A row can join sessions, and a row that is taken back can split
//! one. Rows that are in no window are left out, and so are rows whose own window ends at or before
//! the watermark of the epoch before, however long the session that they would have joined.
//!
//! Two stages. Here rows are encoded and sent to the worker that owns their key; there [`assign`]
//! takes an epoch's rows into state, once the epoch is complete. A session whose end the watermark
//! has reached is complete: its rows are given (in append mode) and forgotten.
//!
//! State: trace 0 holds the open sessions by key and end, trace 1 their rows by key and start. The
//! moment behind a key takes no part in where it lives ([`routed`]).

mod assign;
mod index;
mod spans;

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::common::DFSchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::operators::expression::{Expressions, batch_schema};
use crate::operators::keyed::keyed;
use crate::operators::{
    Context, DeltaStream, EpochInfo, OperatorError, OperatorStats, Restored, RowStream, behind,
};
use crate::plan::{self, Emit, EventTimeColumn};
use crate::row::{Bytes, Delta, KeyCodec, RowError, ValueCodec};
use crate::state::{Recorder, Rows, StateError};
use crate::time::{EventTime, NEVER, NO_WATERMARK};

use assign::{Assign, travelling};
use spans::Span;

/// What progress calls this operator.
const NAME: &str = "sessionWindow";

/// About how many rows an idle operator merges before it looks around again.
const IDLE_EFFORT: usize = 4096;

/// The part of a key in state that says which worker it lives on.
pub fn routed(key: &[u8]) -> &[u8] {
    index::split(key).0
}

/// A session window ready to be attached to a stream.
pub struct SessionWindow {
    prepared: Arc<Prepared>,
}

/// What both stages share.
struct Prepared {
    operator: usize,
    window: Expressions,
    partition: Expressions,
    /// Of the partition; `None` where all rows are of one.
    keys: Option<KeyCodec>,
    rows: ValueCodec,
    bound: Option<EventTimeColumn>,
    emit: Emit,
    /// The type of a session.
    session: DataType,
    schema: SchemaRef,
}

impl Prepared {
    fn row_error(&self, source: RowError) -> OperatorError {
        OperatorError::Row {
            operator: self.operator,
            source,
        }
    }

    fn state_error(&self, source: StateError) -> OperatorError {
        OperatorError::State {
            operator: self.operator,
            source,
        }
    }

    fn moved(&self, watermark: EventTime) -> EventTime {
        self.bound
            .map_or(NO_WATERMARK, |bound| behind(watermark, bound.lag))
    }

    /// Sessions that end at or before this are complete in `epoch`.
    fn complete(&self, epoch: &EpochInfo) -> EventTime {
        self.moved(epoch.watermark)
    }

    /// The rows of a batch by key, each with its own window in front; how many came too late.
    fn encode(&self, delta: &Delta, epoch: &EpochInfo) -> Result<(Rows, u64), OperatorError> {
        let failed = |source| self.row_error(source);
        let windows = self.window.evaluate(&delta.batch, epoch)?.swap_remove(0);
        let Some(windows) = windows.as_struct_opt() else {
            return Err(OperatorError::Internal {
                operator: self.operator,
                reason: "a session is no struct".into(),
            });
        };
        let bounds = |index: usize| {
            windows
                .column(index)
                .as_primitive::<TimestampMicrosecondType>()
        };
        let (starts, ends) = (bounds(0), bounds(1));
        let keys = match &self.keys {
            Some(codec) => {
                let columns = self.partition.evaluate(&delta.batch, epoch)?;
                Some(codec.encode(&columns).map_err(failed)?)
            }
            None => None,
        };
        // Rows of no columns are only counted.
        let encoded = match delta.batch.num_columns() {
            0 => None,
            _ => Some(self.rows.encode(delta.batch.columns()).map_err(failed)?),
        };
        let late = self.moved(epoch.previous_watermark);
        let mut rows = Rows::new(delta.time);
        let mut dropped = 0;
        let mut value = Vec::new();
        let of = |bytes: &Option<Bytes>, row: usize| {
            bytes
                .as_ref()
                .map_or(Vec::new(), |bytes| bytes.get(row).to_vec())
        };
        for row in 0..delta.rows() {
            if windows.is_null(row) {
                continue;
            }
            let window = Span {
                start: starts.value(row),
                end: ends.value(row),
            };
            let diff = delta.diff(row);
            if window.end <= late {
                dropped += u64::from(diff > 0);
                continue;
            }
            value.clear();
            travelling(window, &of(&encoded, row), &mut value);
            rows.push(&of(&keys, row), &value, diff, NEVER);
        }
        Ok((rows, dropped))
    }
}

impl SessionWindow {
    /// Prepares the sessions of node `operator`, over rows of `input`, giving rows of `output`: the
    /// columns of `input` and the session.
    pub fn new(
        operator: usize,
        plan: &plan::SessionWindow,
        input: &DFSchemaRef,
        output: &DFSchemaRef,
    ) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Row { operator, source };
        let window = Expressions::new([&plan.window], input)?;
        let partition = Expressions::new(&plan.partition, input)?;
        let key_types = partition.types(input)?;
        let keys = match key_types.as_slice() {
            [] => None,
            types => Some(KeyCodec::new(types).map_err(failed)?),
        };
        let row_types: Vec<DataType> = (input.fields().iter())
            .map(|field| field.data_type().clone())
            .collect();
        let session = output.field(row_types.len()).data_type().clone();
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                window,
                partition,
                keys,
                rows: ValueCodec::new(&row_types).map_err(failed)?,
                bound: plan.bound,
                emit: plan.emit,
                session,
                schema: batch_schema(output),
            }),
        })
    }

    /// Attaches it to a stream.
    pub fn render<'scope>(
        self,
        input: DeltaStream<'scope>,
        context: &Context,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> DeltaStream<'scope> {
        let rows = self.render_encode(input, context);
        let prepared = self.prepared;
        let recorder = recorder.clone();
        let mut restored = restored.part(prepared.operator as u32);
        keyed(rows, "session window", context, move |info| {
            Assign::new(&prepared, info, &recorder, &mut restored)
        })
    }

    fn render_encode<'scope>(
        &self,
        input: DeltaStream<'scope>,
        context: &Context,
    ) -> RowStream<'scope> {
        let prepared = Arc::clone(&self.prepared);
        let context = context.clone();
        input.unary::<CapacityContainerBuilder<Rows>, _, _, _>(
            Pipeline,
            "session window, rows",
            move |_, _| {
                move |input, output| {
                    input.for_each_stamp(|capability, batches| {
                        for delta in batches.flat_map(|deltas| std::mem::take(&mut deltas.0)) {
                            let encoded = context
                                .epoch_of(delta.time, prepared.operator)
                                .and_then(|epoch| prepared.encode(&delta, &epoch));
                            let (mut rows, dropped) = match encoded {
                                Ok(encoded) => encoded,
                                Err(error) => return context.fail(error),
                            };
                            if dropped > 0 {
                                let stats = OperatorStats {
                                    name: NAME.into(),
                                    rows_dropped_by_watermark: dropped,
                                    ..OperatorStats::default()
                                };
                                context.report(delta.time.epoch, prepared.operator, &stats);
                            }
                            if !rows.is_empty() {
                                output.session(&capability).give_container(&mut rows);
                            }
                        }
                    });
                }
            },
        )
    }
}
