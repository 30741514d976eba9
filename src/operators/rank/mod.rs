//! The first rows of each partition by an order: `ROW_NUMBER()`, `RANK()` and `DENSE_RANK()` up to a
//! number, and `ORDER BY ... LIMIT`.
//!
//! Two stages. Rows are encoded where they are (`layout`) and sent to the worker that owns their
//! partition; there, once the epoch is complete, what changed among the first of each partition is told
//! (`merge`). What is read for that is the beginning of the partition, not all of it.
//!
//! State (trace 0): rows by partition, in their order. With a bound the partition begins with the
//! moment at which it is complete. Over input that never retracts, only the rows that can be given are
//! kept.

mod layout;
mod merge;
mod places;

use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;

use crate::operators::keyed::{encoded, keyed};
use crate::operators::{Context, DeltaStream, EpochInfo, OperatorError, OperatorStats, Restored};
use crate::operators::{behind, expires};
use crate::plan::{self, Bound, Emit, RankFunction};
use crate::state::{Recorder, StateError};
use crate::time::{EventTime, NEVER};

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
    layout: Layout,
    function: RankFunction,
    /// The first and the last rank to be given.
    ranks: (u64, u64),
    numbered: bool,
    bound: Option<Bound>,
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

    fn lag(&self) -> i64 {
        self.bound.map_or(0, |bound| bound.column.lag)
    }

    /// Partitions whose bound lies at or below this are complete in `epoch`.
    fn complete(&self, epoch: &EpochInfo) -> EventTime {
        behind(epoch.watermark, self.lag())
    }

    /// Rows of partitions whose bound lies at or below this come too late in `epoch`.
    fn late(&self, epoch: &EpochInfo) -> EventTime {
        behind(epoch.previous_watermark, self.lag())
    }

    /// When the rows of a partition go.
    fn expiry(&self, key: &[u8]) -> EventTime {
        self.bound.map_or(NEVER, |bound| {
            expires(crate::row::read_bound(key), bound.column.lag)
        })
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
        let layout = Layout::new(operator, partition, &plan.order, input, output, options)?;
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                layout,
                function: plan.function,
                ranks: plan.ranks,
                numbered: plan.numbered,
                bound: plan.bound,
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
        let encoding = Arc::clone(&prepared);
        let encode = move |delta, epoch: &EpochInfo, context: &Context| {
            let late = encoding.late(epoch);
            let expiry = |key: &[u8]| encoding.expiry(key);
            let (rows, dropped) = encoding
                .layout
                .encode(delta, epoch, context, late, &expiry)?;
            if dropped > 0 {
                let stats = OperatorStats {
                    name: NAME.into(),
                    rows_dropped_by_watermark: dropped,
                    ..OperatorStats::default()
                };
                context.report(epoch.epoch, encoding.operator, &stats);
            }
            Ok(rows)
        };
        let rows = encoded(input, "rank, rows", context, prepared.operator, encode);
        let (recorder, kept) = (recorder.for_trace(id, 0), restored.take(id, 0));
        keyed(rows, "rank", context, move |info| {
            Merge::new(prepared, info, recorder, kept)
        })
    }
}
