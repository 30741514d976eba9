//! The first rows of each partition by an order: `ROW_NUMBER()`, `RANK()` and `DENSE_RANK()` up to a
//! number, and `ORDER BY ... LIMIT`.
//!
//! Two stages. Rows are encoded where they are (`layout`), those that can be given at all (`first`), and sent to the
//! worker that owns their partition; there, once the epoch is complete, what changed among the first of each partition is told
//! (`merge`). What is read for that is the beginning of the partition, not all of it.
//!
//! State (trace 0): rows by partition, in their order. With a bound the partition begins with the
//! moment at which it is complete. Over input that never retracts, only the rows that can be given are
//! kept.

mod first;
pub(super) mod layout;
mod merge;
mod places;

use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;

use crate::operators::keyed::{encoded, keyed};
use crate::operators::{Context, DeltaStream, EpochInfo, OperatorError, Restored};
use crate::plan::{self, Emit, RankFunction};
use crate::state::{Recorder, StateError};

use first::First;
use layout::Layout;
use merge::Merge;

/// What progress calls this operator.
const NAME: &str = "rank";

/// Ranks ready to be attached to a stream.
pub struct Rank {
    prepared: Arc<Prepared>,
}

/// What both stages share.
struct Prepared {
    operator: usize,
    layout: Arc<Layout>,
    function: RankFunction,
    /// The first and the last rank to be given.
    ranks: (u64, u64),
    numbered: bool,
    emit: Emit,
    /// The input may retract.
    general: bool,
}

impl Prepared {
    fn state_error(&self, source: StateError) -> OperatorError {
        OperatorError::State {
            operator: self.operator,
            source,
        }
    }

    fn internal(&self, reason: &str) -> OperatorError {
        OperatorError::Internal {
            operator: self.operator,
            reason: reason.into(),
        }
    }
}

impl Rank {
    /// Prepares the ranks of node `operator`, over rows of `input`, giving rows of `output`: the columns
    /// of `input`, and the rank where it is asked for. `options` are what expressions are computed with.
    pub fn new(
        operator: usize,
        plan: &plan::Rank,
        (input, input_retracts): (&DFSchemaRef, bool),
        output: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let partition = (&plan.partition[..], plan.bound);
        let layout = Layout::new(
            (operator, NAME),
            partition,
            &plan.order,
            input,
            output,
            options,
        )?;
        let first = First::new(plan.function, plan.ranks.1).filter(|_| !input_retracts);
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                layout: Arc::new(layout.with_first(first)),
                function: plan.function,
                ranks: plan.ranks,
                numbered: plan.numbered,
                emit: plan.emit,
                general: input_retracts,
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
        let id = prepared.operator as u32;
        let layout = Arc::clone(&prepared.layout);
        let encode =
            move |delta, epoch: &EpochInfo, context: &Context| layout.encode(delta, epoch, context);
        let rows = encoded(input, "rank, rows", context, prepared.operator, encode);
        let (recorder, kept) = (recorder.for_trace(id, 0), restored.take(id, 0));
        keyed(rows, "rank", context, move |info| {
            Merge::new(prepared, info, recorder, kept)
        })
    }
}
