//! Keeps the rows that pass a condition, then computes columns. No state.

use std::sync::Arc;

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
                        for delta in batches.flat_map(Deltas::take) {
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
        let (_, computed) = sift(delta, context, |delta| self.compute(delta, &epoch))?;
        Ok(computed)
    }

    /// The rows that pass, with their columns; `None` where none does.
    fn compute(&self, delta: &Delta, epoch: &EpochInfo) -> Result<Option<Delta>, OperatorError> {
        let mut rows = delta.clone();
        if let Some(condition) = &self.filter {
            let passed = condition.condition(delta, epoch)?;
            if passed.true_count() < delta.rows() {
                rows = delta.filter(&passed).map_err(filtering)?;
            }
        }
        if rows.rows() == 0 {
            return Ok(None);
        }
        let columns = match &self.project {
            Some(project) => project.evaluate(&rows, epoch)?,
            None => rows.batch.columns().to_vec(),
        };
        rows.batch = record_batch(&self.output, columns, rows.rows())?;
        Ok(Some(rows))
    }
}

fn filtering(error: ArrowError) -> OperatorError {
    OperatorError::Unsupported {
        expression: "WHERE".into(),
        reason: error.to_string(),
    }
}
