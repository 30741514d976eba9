//! Operators whose state is spread over workers by key: the loop that takes them through the epochs.

use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::operators::generic::{Operator, OperatorInfo};

use crate::operators::container::ByKey;
use crate::operators::{
    Context, DeltaStream, Deltas, EpochCursor, EpochInfo, OperatorError, OperatorStats, RowStream,
};
use crate::row::Delta;
use crate::state::Rows;
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
