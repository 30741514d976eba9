//! Operators whose state is spread over workers by key: rows become bytes where they are, and the loop that
//! takes their owners through the epochs.

use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::{Operator, OperatorInfo};

use crate::operators::container::ByKey;
use crate::operators::{
    Context, DeltaStream, Deltas, EpochCursor, EpochInfo, OperatorError, OperatorStats, RowStream,
};
use crate::row::Delta;
use crate::state::{Rows, places_by_row};
use crate::time::Epoch;

/// One worker's share of a keyed operator.
pub trait Keyed: 'static {
    /// The operator's id in the plan.
    fn operator(&self) -> usize;

    /// Takes in the rows of one complete epoch, in any order, and gives what changed.
    fn epoch(
        &mut self,
        epoch: &EpochInfo,
        rows: &[Rows],
        give: &mut dyn FnMut(Delta),
    ) -> Result<OperatorStats, OperatorError>;

    /// Merges state a little while there is nothing else to do; whether there is more.
    fn work(&mut self) -> bool;
}

/// Makes the rows of each batch of `stream` byte rows, where they are. `operator` is the operator's id in
/// the plan.
pub fn encoded<'scope>(
    stream: DeltaStream<'scope>,
    name: &str,
    context: &Context,
    operator: usize,
    mut encode: impl FnMut(Delta, &EpochInfo, &Context) -> Result<Rows, OperatorError> + 'static,
) -> RowStream<'scope> {
    let context = context.clone();
    stream.unary::<CapacityContainerBuilder<Rows>, _, _, _>(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each_stamp(|capability, batches| {
                for delta in batches.flat_map(Deltas::take) {
                    let encoded = context
                        .epoch_of(delta.time, operator)
                        .and_then(|epoch| encode(delta, &epoch, &context));
                    let mut rows = match encoded {
                        Ok(rows) => rows,
                        Err(error) => return context.fail(error),
                    };
                    if !rows.is_empty() {
                        output.session(&capability).give_container(&mut rows);
                    }
                }
            });
        }
    })
}

/// Sends the rows of `stream` to the workers that own their keys, and each complete epoch through
/// what `make` makes there.
pub fn keyed<'scope, K: Keyed>(
    stream: RowStream<'scope>,
    name: &str,
    context: &Context,
    make: impl FnOnce(&OperatorInfo) -> Result<K, OperatorError> + 'static,
) -> DeltaStream<'scope> {
    let context = context.clone();
    let scope = stream.scope();
    stream.unary_frontier::<CapacityContainerBuilder<Deltas>, _, _, _>(
        DistributorPact(ByKey::new),
        name,
        move |capability, info| {
            let mut keyed = make(&info).map_err(|error| context.fail(error)).ok();
            let activator = Rc::new(scope.activator_for(info.address));
            context.when_idle(Rc::clone(&activator));
            let mut epochs = EpochCursor::new(capability, &context);
            let mut waiting: BTreeMap<Epoch, Vec<Rows>> = BTreeMap::new();
            move |(input, frontier), output| {
                input.for_each_stamp(|_, batches| {
                    for rows in batches.map(std::mem::take).filter(|rows| !rows.is_empty()) {
                        waiting.entry(rows.time.epoch).or_default().push(rows);
                    }
                });
                let Some(keyed) = &mut keyed else { return };
                while !context.failed()
                    && let Some((epoch, capability)) = epochs.complete(frontier)
                {
                    let rows = waiting.remove(&epoch.epoch).unwrap_or_default();
                    let mut session = output.session(&capability);
                    let given = keyed.epoch(&epoch, &rows, &mut |delta| {
                        session.give_container(&mut delta.into());
                    });
                    match given {
                        Ok(stats) => context.report(epoch.epoch, keyed.operator(), &stats),
                        Err(error) => return context.fail(error),
                    }
                    drop(session);
                    epochs.done();
                }
                // Merging waits until no epoch does; that is also what frees expired rows.
                if context.is_idle() && keyed.work() {
                    activator.activate();
                }
            }
        },
    )
}

/// A row that came or went.
pub struct Change<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// How often it came; below zero: went.
    pub diff: i64,
}

/// All changes by key and value, those of one row added up.
pub fn changes_of(rows: &[Rows]) -> Vec<Change<'_>> {
    let mut changes: Vec<Change<'_>> = (places_by_row(rows).into_iter())
        .map(|(_, part, row)| {
            let (part, row) = (&rows[part as usize], row as usize);
            Change {
                key: part.keys.get(row),
                value: part.vals.get(row),
                diff: part.diffs.get(row),
            }
        })
        .collect();
    changes.dedup_by(|next, kept| {
        let same = (next.key, next.value) == (kept.key, kept.value);
        if same {
            kept.diff += next.diff;
        }
        same
    });
    changes.retain(|change| change.diff != 0);
    changes
}
