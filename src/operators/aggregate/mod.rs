//! Rows grouped by keys, with aggregates of each group, kept incrementally.
//!
//! Two stages. `partial` groups rows where they are and sends partial groups to the workers that
//! own their keys; `merge` takes an epoch's partial groups into state, once the epoch is
//! complete, and says what changed.
//!
//! State (trace 0) holds for each group its accumulators, keyed by the group's key. With a bound
//! the key begins with the moment at which the group is complete, so that what falls due lies at
//! the front, and the row expires at that moment. Over input that never retracts the newest value
//! of a key replaces the ones before; over input that may retract, groups also count their rows and
//! vanish with the last of them. Trace `call + 1` holds, for a call that needs them, the values of
//! each group with their multiplicities: all that is computed from the values
//! themselves (`collect_list`, percentiles, `sum(DISTINCT x)`), and `min`, `max`, `first` and their
//! like of input that may retract. What `count(DISTINCT x)` counts lies in traces of its own (`distinct`).

pub mod accumulate;
pub mod call;
pub mod calls;
mod distinct;
mod merge;
mod panes;
mod partial;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::operators::expression::{Expressions, batch_schema};
use crate::operators::keyed::keyed;
use crate::operators::moment::moments;
use crate::operators::{
    Context, DeltaStream, Deltas, EpochCursor, EpochInfo, OperatorError, Restored, behind, expires,
};
use crate::plan::panes::PaneColumn;
use crate::plan::{self, Bound, Emit};
use crate::row::{Bytes, Delta, KeyCodec, RowError};
use crate::state::{Recorder, Rows};
use crate::time::{Epoch, EventTime, NEVER};

use calls::{Arguments, Calls};
pub use distinct::routed;
use merge::Merge;
use panes::Panes;
use partial::Partial;

/// Values of call c, and those of the set whose first call it is, travel under the tag `VALUE_TAG + c`, accumulators
/// under a zero byte. The tag is two bytes, the first of which is never zero.
const VALUE_TAG: u16 = 0x0100;

/// What progress calls this operator.
const LATE_NAME: &str = "aggregate";

/// An aggregate ready to be attached to a stream.
pub struct Aggregate {
    prepared: Arc<Prepared>,
}

/// What both stages share.
struct Prepared {
    operator: usize,
    keys: KeyExpressions,
    codec: KeyCodec,
    calls: Calls,
    /// The first stage groups by panes of these windows.
    panes: Option<Panes>,
    bound: Option<Bound>,
    emit: Emit,
    /// The input may retract.
    general: bool,
    schema: SchemaRef,
}

/// The grouping expressions; none for a global aggregate.
struct KeyExpressions {
    expressions: Expressions,
    count: usize,
}

impl KeyExpressions {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn evaluate(&self, delta: &Delta, epoch: &EpochInfo) -> Result<Vec<ArrayRef>, OperatorError> {
        self.expressions.evaluate(delta, epoch)
    }
}

/// The expressions of an aggregate over one batch.
struct Evaluated {
    keys: Vec<ArrayRef>,
    calls: Arguments,
}

impl Prepared {
    fn evaluate(&self, delta: &Delta, epoch: &EpochInfo) -> Result<Evaluated, OperatorError> {
        let keys = match &self.panes {
            Some(panes) => panes.evaluate(delta, epoch),
            None => self.keys.evaluate(delta, epoch),
        };
        Ok(Evaluated {
            keys: keys?,
            calls: self.calls.evaluate(delta, epoch)?,
        })
    }

    /// The encoded keys of so many rows, and with a bound the moments at which their groups are complete.
    fn encode(
        &self,
        keys: &[ArrayRef],
        rows: usize,
    ) -> (Option<Vec<EventTime>>, Result<Bytes, RowError>) {
        let Some(bound) = &self.bound else {
            let encoded = match keys {
                [] => Ok(Bytes::default()),
                _ => self.codec.encode(keys),
            };
            return (None, encoded);
        };
        let bounds = moments(bound.column.kind, &keys[bound.key], rows);
        let encoded = self.codec.encode_bounded(&bounds, keys);
        (Some(bounds), encoded)
    }

    fn row_error(&self, source: RowError) -> OperatorError {
        OperatorError::Row {
            operator: self.operator,
            source,
        }
    }

    fn lag(&self) -> i64 {
        self.bound.map_or(0, |bound| bound.column.lag)
    }

    /// The watermark at which the group of this key is complete: its bound and the lag.
    fn expiry_of(&self, key: &[u8]) -> EventTime {
        self.bound.map_or(NEVER, |bound| {
            expires(crate::row::read_bound(key), bound.column.lag)
        })
    }

    /// Groups whose bound lies at or below this are complete in `epoch`.
    fn watermark(&self, epoch: &EpochInfo) -> EventTime {
        behind(epoch.watermark, self.lag())
    }

    /// Rows of groups whose bound lies at or below this come too late in `epoch`.
    fn late_watermark(&self, epoch: &EpochInfo) -> EventTime {
        behind(epoch.previous_watermark, self.lag())
    }
}

impl Aggregate {
    /// Prepares the aggregate of node `operator`, over rows of `input`, giving rows of
    /// `output`; `options` are what expressions are computed with. Where `panes` says so, the input has
    /// panes in the place of windows.
    pub fn new(
        operator: usize,
        (plan, panes): (&plan::Aggregate, Option<PaneColumn>),
        input: &DFSchemaRef,
        input_retracts: bool,
        output: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let keys = Expressions::new(&plan.keys, input, options)?;
        let key_types = keys.types(input)?;
        let codec =
            KeyCodec::new(&key_types).map_err(|source| OperatorError::Row { operator, source })?;
        let results = (output, plan.keys.len());
        let calls = Calls::new(&plan.calls, input, input_retracts, results, options)?;
        let panes = panes
            .map(|place| Panes::new(operator, place, &plan.keys, input, options))
            .transpose()?;
        let keys = KeyExpressions {
            expressions: keys,
            count: plan.keys.len(),
        };
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                keys,
                codec,
                calls,
                panes,
                bound: plan.bound,
                emit: plan.emit,
                general: input_retracts,
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
    ) -> Result<DeltaStream<'scope>, OperatorError> {
        let partial = self.render_partial(input, context);
        let id = self.prepared.operator;
        let mut restored = restored.part(id as u32);
        let prepared = Arc::clone(&self.prepared);
        let recorder = recorder.clone();
        let merging = context.clone();
        Ok(keyed(partial, "aggregate", context, move |info| {
            Merge::new(&prepared, &merging, info, &recorder, &mut restored)
        }))
    }

    fn render_partial<'scope>(
        &self,
        input: DeltaStream<'scope>,
        context: &Context,
    ) -> timely::dataflow::Stream<'scope, crate::time::Time, Rows> {
        let prepared = Arc::clone(&self.prepared);
        let context = context.clone();
        input.unary_frontier::<CapacityContainerBuilder<Rows>, _, _, _>(
            Pipeline,
            "aggregate, partial",
            move |capability, _| {
                let mut epochs = EpochCursor::new(capability, &context);
                let mut open: BTreeMap<Epoch, Partial> = BTreeMap::new();
                move |(input, frontier), output| {
                    input.for_each_stamp(|capability, batches| {
                        for delta in batches.flat_map(Deltas::take) {
                            let epoch = match context.epoch_of(delta.time, prepared.operator) {
                                Ok(epoch) => epoch,
                                Err(error) => return context.fail(error),
                            };
                            let partial = open
                                .entry(epoch.epoch)
                                .or_insert_with(|| Partial::new(&prepared));
                            if let Err(error) = partial.add(delta, &epoch, &context) {
                                return context.fail(error);
                            }
                            if partial.is_full() {
                                match partial.take(&epoch) {
                                    Ok(mut rows) => {
                                        output.session(&capability).give_container(&mut rows);
                                    }
                                    Err(error) => return context.fail(error),
                                }
                            }
                        }
                    });
                    while !context.failed()
                        && let Some((epoch, capability)) = epochs.complete(frontier)
                    {
                        if let Some(mut partial) = open.remove(&epoch.epoch) {
                            match partial.take(&epoch) {
                                Ok(mut rows) if !rows.is_empty() => {
                                    output.session(&capability).give_container(&mut rows);
                                }
                                Ok(_) => {}
                                Err(error) => return context.fail(error),
                            }
                            context.report(epoch.epoch, prepared.operator, &partial.take_stats());
                        }
                        epochs.done();
                    }
                }
            },
        )
    }
}
