//! Keeps the rows that pass a condition, then computes columns. No state.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::Expr;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::operators::dead_letter::sift;
use crate::operators::expression::{Expressions, batch_schema, record_batch};
use crate::operators::{Context, DeltaStream, Deltas, EpochInfo, OperatorError};
use crate::row::Delta;

/// See the module.
pub struct FilterProject {
    filter: Option<Expressions>,
    project: Option<Expressions>,
    output: SchemaRef,
}

impl FilterProject {
    /// Over rows of `input`, giving rows of `output`, computed with `options`.
    pub fn new(
        condition: Option<&Expr>,
        project: Option<&[Expr]>,
        input: &DFSchemaRef,
        output: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        Ok(Self {
            filter: condition
                .map(|condition| Expressions::new([condition], input, options))
                .transpose()?,
            project: project
                .map(|project| Expressions::new(project, input, options))
                .transpose()?,
            output: batch_schema(output),
        })
    }

    /// Attaches it to a stream.
    pub fn render<'scope>(
        self,
        input: DeltaStream<'scope>,
        context: &Context,
    ) -> DeltaStream<'scope> {
        let context = context.clone();
        input.unary::<CapacityContainerBuilder<Deltas>, _, _, _>(
            Pipeline,
            "filter_project",
            move |_, _| {
                move |input, output| {
                    input.for_each_stamp(|capability, batches| {
                        if context.failed() {
                            return;
                        }
                        for delta in batches.flat_map(|deltas| std::mem::take(&mut deltas.0)) {
                            match self.apply(delta, &context) {
                                Ok(Some(delta)) => {
                                    output
                                        .session(&capability)
                                        .give_container(&mut delta.into());
                                }
                                Ok(None) => {}
                                Err(error) => return context.fail(error),
                            }
                        }
                    });
                }
            },
        )
    }

    fn apply(&self, delta: Delta, context: &Context) -> Result<Option<Delta>, OperatorError> {
        let epoch = context.epoch_of(delta.time, 0)?;
        let (mut delta, computed) = sift(delta, context, |batch| self.compute(batch, &epoch))?;
        match computed {
            Computed { batch, .. } if batch.num_rows() == 0 => Ok(None),
            Computed { batch, keep: None } => {
                delta.batch = batch;
                Ok(Some(delta))
            }
            Computed {
                batch,
                keep: Some(keep),
            } => delta.replaced(batch, &keep).map(Some).map_err(filtering),
        }
    }

    fn compute(&self, batch: &RecordBatch, epoch: &EpochInfo) -> Result<Computed, OperatorError> {
        let mut kept = None;
        let mut keep = None;
        if let Some(condition) = &self.filter {
            let passed = condition.condition(batch, epoch)?;
            if passed.true_count() == 0 {
                return Ok(Computed {
                    batch: RecordBatch::new_empty(Arc::clone(&self.output)),
                    keep,
                });
            }
            if passed.true_count() < batch.num_rows() {
                kept = Some(filter_record_batch(batch, &passed).map_err(filtering)?);
                keep = Some(passed);
            }
        }
        let rows = kept.as_ref().unwrap_or(batch);
        let columns = match &self.project {
            Some(project) => project.evaluate(rows, epoch)?,
            None => rows.columns().to_vec(),
        };
        let batch = record_batch(&self.output, columns, rows.num_rows())?;
        Ok(Computed { batch, keep })
    }
}

/// What became of a batch.
struct Computed {
    batch: RecordBatch,
    /// Which of its rows passed; `None`: all, or none where the batch is empty.
    keep: Option<BooleanArray>,
}

fn filtering(error: ArrowError) -> OperatorError {
    OperatorError::Unsupported {
        expression: "WHERE".into(),
        reason: error.to_string(),
    }
}
