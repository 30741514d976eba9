//! Keeps the rows that pass a condition, then computes columns. No state.

use std::sync::Arc;

use arrow::array::{Array, Int64Array};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::Expr;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::operators::expression::{Expressions, batch_schema, record_batch};
use crate::operators::{Context, DeltaStream, Deltas, OperatorError};
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
        let Delta {
            mut batch,
            mut diffs,
            time,
        } = delta;
        if let Some(condition) = &self.filter {
            let keep = condition.condition(&batch, &epoch)?;
            if keep.true_count() == 0 {
                return Ok(None);
            }
            if keep.true_count() < batch.num_rows() {
                let failed = |error: arrow::error::ArrowError| OperatorError::Unsupported {
                    expression: "WHERE".into(),
                    reason: error.to_string(),
                };
                batch = filter_record_batch(&batch, &keep).map_err(failed)?;
                if let Some(all) = &diffs {
                    let kept = filter(&Int64Array::from(all.to_vec()), &keep).map_err(failed)?;
                    let kept: Option<&Int64Array> = kept.as_any().downcast_ref();
                    diffs = kept.map(|kept| Arc::from(&kept.values()[..]));
                }
            }
        }
        let rows = batch.num_rows();
        let columns = match &self.project {
            Some(project) => project.evaluate(&batch, &epoch)?,
            None => batch.columns().to_vec(),
        };
        let batch = record_batch(&self.output, columns, rows)?;
        Ok(Some(Delta { batch, diffs, time }))
    }
}
