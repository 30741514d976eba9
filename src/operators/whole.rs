//! Keeps a result whole and gives all of it in each epoch: what complete mode shows.
//!
//! State: each row of the result with its multiplicity, keyed by the row, on the worker that its
//! hash names; so a restart on another number of workers finds each row where it belongs.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, SchemaRef};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::operators::generic::Operator;

use crate::operators::container::BatchRoute;
use crate::operators::expression::record_batch;
use crate::operators::{
    Context, DeltaStream, Deltas, EpochCursor, EpochInfo, OperatorError, OperatorStats, Restored,
};
use crate::row::{Bytes, Delta, KeyCodec};
use crate::state::{Multiset, Recorder, Rows};
use crate::time::{Epoch, NEVER};

/// Rows are given in batches of this size.
const BATCH: usize = 8192;

/// Attaches it to a stream; `operator` names its state.
pub fn whole<'scope>(
    input: DeltaStream<'scope>,
    context: &Context,
    operator: usize,
    schema: &SchemaRef,
    recorder: &Recorder,
    restored: &mut Restored,
) -> Result<DeltaStream<'scope>, OperatorError> {
    let failed = |source| OperatorError::Row { operator, source };
    let types: Vec<DataType> = schema
        .fields()
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    let codec = KeyCodec::new(&types).map_err(failed)?;
    let route = BatchRoute::By(
        (0..types.len()).collect(),
        KeyCodec::new(&types).map_err(failed)?,
    );
    let id = operator as u32;
    let sections = restored.take(id, 0);
    let recorder = recorder.for_trace(id, 0);
    let context = context.clone();
    let schema = SchemaRef::clone(schema);
    Ok(
        input.unary_frontier::<CapacityContainerBuilder<Deltas>, _, _, _>(
            DistributorPact(|_| route),
            "whole",
            move |capability, info| {
                let rows = Multiset::new(info, recorder, sections)
                    .map_err(|source| context.fail(OperatorError::State { operator, source }))
                    .ok();
                let mut kept = rows.map(|rows| Whole {
                    operator,
                    schema,
                    codec,
                    rows,
                });
                let mut epochs = EpochCursor::new(capability, &context);
                let mut waiting: BTreeMap<Epoch, Vec<Delta>> = BTreeMap::new();
                move |(input, frontier), output| {
                    input.for_each_stamp(|_, batches| {
                        for delta in batches.flat_map(Deltas::take) {
                            waiting.entry(delta.time.epoch).or_default().push(delta);
                        }
                    });
                    let Some(kept) = &mut kept else { return };
                    while !context.failed()
                        && let Some((epoch, capability)) = epochs.complete(frontier)
                    {
                        let deltas = waiting.remove(&epoch.epoch).unwrap_or_default();
                        let mut session = output.session(&capability);
                        let given = kept.epoch(&epoch, &deltas, &mut |delta| {
                            session.give_container(&mut delta.into());
                        });
                        match given {
                            Ok(stats) => context.report(epoch.epoch, operator, &stats),
                            Err(error) => return context.fail(error),
                        }
                        drop(session);
                        epochs.done();
                    }
                }
            },
        ),
    )
}

struct Whole {
    operator: usize,
    schema: SchemaRef,
    codec: KeyCodec,
    rows: Multiset,
}

impl Whole {
    fn epoch(
        &mut self,
        epoch: &EpochInfo,
        deltas: &[Delta],
        give: &mut dyn FnMut(Delta),
    ) -> Result<OperatorStats, OperatorError> {
        let operator = self.operator;
        let row_error = |source| OperatorError::Row { operator, source };
        let mut changes = Rows::new(epoch.time());
        for delta in deltas {
            let rows = self
                .codec
                .encode(delta.batch.columns())
                .map_err(row_error)?;
            for (row, bytes) in rows.iter().enumerate() {
                changes.push(bytes, &[], delta.diff(row), NEVER);
            }
        }
        self.rows
            .apply(epoch.time(), &changes)
            .map_err(|source| OperatorError::State { operator, source })?;
        self.rows.forget(epoch.time());

        let mut failure = None;
        let mut pending = Bytes::default();
        let (codec, schema) = (&self.codec, &self.schema);
        let mut flush = |pending: &mut Bytes| -> Result<(), OperatorError> {
            if !pending.is_empty() {
                let columns = codec.decode(pending.iter()).map_err(row_error)?;
                let batch = record_batch(schema, columns, pending.len())?;
                pending.clear();
                give(Delta::inserts(batch, epoch.time()));
            }
            Ok(())
        };
        self.rows.scan(&mut |row, _, count| {
            for _ in 0..count {
                if failure.is_none() {
                    pending.push(row);
                    if pending.len() == BATCH {
                        failure = flush(&mut pending).err();
                    }
                }
            }
        });
        failure.map_or_else(|| flush(&mut pending), Err)?;
        let mut stats = OperatorStats {
            name: "complete".into(),
            rows_updated: changes.len() as u64,
            ..OperatorStats::default()
        };
        stats.add_size(self.rows.size());
        Ok(stats)
    }
}
