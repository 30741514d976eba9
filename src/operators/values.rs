//! Constant rows, given once in the first epoch of a query's life by the first worker.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::Expr;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::operators::expression::{Expressions, batch_schema, record_batch};
use crate::operators::{Context, DeltaStream, Deltas, EpochCursor, EpochInfo, OperatorError};
use crate::row::Delta;

/// Gives `rows` in epoch 0, computed with `options`. `clock` is a stream without rows that says which epochs are complete.
pub fn values<'scope>(
    clock: DeltaStream<'scope>,
    context: &Context,
    rows: &[Vec<Expr>],
    schema: &DFSchemaRef,
    options: &Arc<ConfigOptions>,
) -> Result<DeltaStream<'scope>, OperatorError> {
    let nothing = Arc::new(DFSchema::empty());
    let rows = rows
        .iter()
        .map(|row| Expressions::new(row, &nothing, options))
        .collect::<Result<Vec<_>, _>>()?;
    let schema = batch_schema(schema);
    let context = context.clone();
    let build = move |epoch: &EpochInfo| -> Result<RecordBatch, OperatorError> {
        let one = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )
        .expect("a batch without columns takes any row count");
        let one = Delta::inserts(one, epoch.time());
        let batches = rows
            .iter()
            .map(|row| record_batch(&schema, row.evaluate(&one, epoch)?, 1))
            .collect::<Result<Vec<_>, _>>()?;
        concat_batches(&schema, &batches).map_err(|error| OperatorError::Unsupported {
            expression: "VALUES".into(),
            reason: error.to_string(),
        })
    };
    Ok(
        clock.unary_frontier::<CapacityContainerBuilder<Deltas>, _, _, _>(
            Pipeline,
            "values",
            move |capability, _| {
                let mut epochs = EpochCursor::new(capability, &context);
                move |(input, frontier), output| {
                    input.for_each(|_, _| {});
                    while let Some((epoch, capability)) = epochs.complete(frontier) {
                        if epoch.epoch == 0 && context.worker() == 0 && !context.failed() {
                            match build(&epoch) {
                                Ok(batch) => {
                                    let delta = Delta::inserts(batch, epoch.time());
                                    output
                                        .session(&capability)
                                        .give_container(&mut delta.into());
                                }
                                Err(error) => context.fail(error),
                            }
                        }
                        epochs.done();
                    }
                }
            },
        ),
    )
}
