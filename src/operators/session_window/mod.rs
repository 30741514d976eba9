//! Sessions: rows of one key whose own windows overlap or touch.
//!
//! A row's own window is `[time, time + gap)`; its session goes from the least start to the greatest
//! end of all that hang together. A row can join sessions, and a row that is taken back can split
//! one. Rows that are in no window are left out, and so are rows whose own window ends at or before
//! the watermark of the epoch before, however long the session that they would have joined.
//!
//! Two stages. Here rows are encoded (`own`) and sent to the worker that owns their key; there an
//! epoch's rows are taken into state, once the epoch is complete. A session whose end the watermark
//! has reached is complete: it is given (in append mode) and forgotten.
//!
//! | module | gives | keeps |
//! |---|---|---|
//! | `assign` | each row with its session, over any input | the open sessions and their rows |
//! | `fold` | aggregates of each session, over input that never retracts | accumulators of the open sessions |
//!
//! State: trace 0 holds the open sessions by key and end (`index`), trace 1 their rows by key and
//! start. The moment behind a key takes no part in where it lives ([`routed`]).

mod assign;
mod fold;
mod index;
mod own;
mod spans;

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;

use crate::operators::aggregate::calls::{Arguments, Calls};
use crate::operators::dead_letter::sift;
use crate::operators::expression::{Expressions, batch_schema};
use crate::operators::keyed::{encoded, keyed};
use crate::operators::{Context, DeltaStream, EpochInfo, OperatorError, Restored, behind};
use crate::plan::{self, Emit, EventTimeColumn};
use crate::row::{Bytes, Delta, KeyCodec, RowError, ValueCodec};
use crate::state::{Recorder, Rows, StateError};
use crate::time::{EventTime, NO_WATERMARK};

use assign::Assign;
use fold::Fold;
use own::Own;
use spans::Span;

/// What progress calls this operator.
const NAME: &str = "sessionWindow";

/// Rows are given in batches of this size.
const BATCH: usize = 8192;

/// The part of a key in state that says which worker it lives on.
pub fn routed(_: u32, key: &[u8]) -> &[u8] {
    index::split(key).0
}

/// A session window ready to be attached to a stream.
pub struct SessionWindow {
    prepared: Arc<Prepared>,
}

/// The expressions of a session window over one batch.
struct Evaluated {
    window: ArrayRef,
    partition: Vec<ArrayRef>,
    calls: Option<Arguments>,
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
    /// `None`: rows are given, each with its session.
    calls: Option<Arc<Calls>>,
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

    /// How far the edge runs behind the watermark.
    fn lag(&self) -> i64 {
        self.bound.map_or(0, |bound| bound.lag)
    }

    /// Sessions that end at or before this are complete in `epoch`.
    fn complete(&self, epoch: &EpochInfo) -> EventTime {
        self.moved(epoch.watermark)
    }

    /// Rows whose own window ends at or before this come too late in `epoch`.
    fn late(&self, epoch: &EpochInfo) -> EventTime {
        self.moved(epoch.previous_watermark)
    }

    /// The expressions over one batch.
    fn evaluate(&self, delta: &Delta, epoch: &EpochInfo) -> Result<Evaluated, OperatorError> {
        Ok(Evaluated {
            window: self.window.evaluate(delta, epoch)?.swap_remove(0),
            partition: self.partition.evaluate(delta, epoch)?,
            calls: (self.calls.as_ref())
                .map(|calls| calls.evaluate(delta, epoch))
                .transpose()?,
        })
    }

    /// What of a batch goes to the owners of its keys.
    fn encode(
        &self,
        delta: Delta,
        epoch: &EpochInfo,
        context: &Context,
    ) -> Result<Rows, OperatorError> {
        let (delta, evaluated) = sift(delta, context, |delta| self.evaluate(delta, epoch))?;
        let mut own = Own::new(self, &delta, &evaluated, epoch)?;
        let late = std::mem::take(&mut own.late);
        late.report((self.operator, NAME), &delta, epoch, context)?;
        match (&self.calls, &evaluated.calls) {
            (Some(calls), Some(arguments)) => fold::partial(self, calls, arguments, &delta, &own),
            _ => own.whole_rows(self, &delta),
        }
    }

    fn internal(&self, reason: &str) -> OperatorError {
        OperatorError::Internal {
            operator: self.operator,
            reason: reason.into(),
        }
    }

    fn too_large(&self, bytes: usize) -> OperatorError {
        let limit = Bytes::MAX_VALUE;
        self.row_error(RowError::TooLarge { bytes, limit })
    }
}

/// Sessions as a column of this type.
fn session_column(sessions: &[Span], data_type: &DataType) -> Result<ArrayRef, OperatorError> {
    let unsupported = |reason: String| OperatorError::Unsupported {
        expression: "session_window".into(),
        reason,
    };
    let DataType::Struct(fields) = data_type else {
        return Err(unsupported(format!("it is no {data_type}")));
    };
    let column = |pick: fn(&Span) -> EventTime, index: usize| -> ArrayRef {
        let moments: TimestampMicrosecondArray = sessions.iter().map(|s| Some(pick(s))).collect();
        Arc::new(moments.with_data_type(fields[index].data_type().clone()))
    };
    let columns = vec![column(|s| s.start, 0), column(|s| s.end, 1)];
    let column = StructArray::try_new(fields.clone(), columns, None)
        .map_err(|error| unsupported(error.to_string()))?;
    Ok(Arc::new(column))
}

impl SessionWindow {
    /// Prepares the sessions of node `operator`, over rows of `input`, giving rows of `output`: the
    /// columns of `input` and the session, or results of each session. `options` are what
    /// expressions are computed with.
    pub fn new(
        operator: usize,
        plan: &plan::SessionWindow,
        input: &DFSchemaRef,
        output: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Row { operator, source };
        let window = Expressions::new([&plan.window], input, options)?;
        let partition = Expressions::new(&plan.partition, input, options)?;
        let key_types = partition.types(input)?;
        let keys = match key_types.as_slice() {
            [] => None,
            types => Some(KeyCodec::new(types).map_err(failed)?),
        };
        let row_types: Vec<DataType> = (input.fields().iter())
            .map(|field| field.data_type().clone())
            .collect();
        let (session, calls) = match &plan.calls {
            None => (row_types.len(), None),
            Some(calls) => {
                let session = plan.partition.len();
                let results = (output, session + 1);
                let calls = Calls::new(calls, input, false, results, options)?;
                (session, Some(Arc::new(calls)))
            }
        };
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                window,
                partition,
                keys,
                rows: ValueCodec::new(&row_types).map_err(failed)?,
                bound: plan.bound,
                emit: plan.emit,
                session: output.field(session).data_type().clone(),
                schema: batch_schema(output),
                calls,
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
        let prepared = self.prepared;
        let encoding = Arc::clone(&prepared);
        let name = "session window, rows";
        let rows = encoded(
            input,
            name,
            context,
            prepared.operator,
            move |delta, epoch, context| encoding.encode(delta, epoch, context),
        );
        let recorder = recorder.clone();
        let mut restored = restored.part(prepared.operator as u32);
        match prepared.calls.clone() {
            None => keyed(rows, "session window", context, move |info| {
                Assign::new(&prepared, info, &recorder, &mut restored)
            }),
            Some(calls) => keyed(rows, "session window, fold", context, move |info| {
                Fold::new(&prepared, &calls, info, &recorder, &mut restored)
            }),
        }
    }
}
