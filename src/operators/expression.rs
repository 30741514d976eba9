//! Expressions over whole batches, through `DataFusion`'s physical expressions.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use crate::operators::{EpochInfo, OperatorError};
use crate::plan::functions::short_circuit::short_circuit;
use crate::plan::reason::reason;
use crate::plan::{Supplied, text};
use crate::row::Delta;

/// An expression as it is computed.
struct Expression {
    /// As SQL.
    text: String,
    physical: Arc<dyn PhysicalExpr>,
    /// The same with AND and OR row by row, for a batch on which the quick way fails.
    lazy: Option<Arc<dyn PhysicalExpr>>,
}

impl Expression {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, OperatorError> {
        let compute = |expression: &Arc<dyn PhysicalExpr>| {
            expression
                .evaluate(batch)
                .and_then(|value| value.into_array(batch.num_rows()))
        };
        let failed = |expression: &Arc<dyn PhysicalExpr>, error: &DataFusionError| {
            OperatorError::Expression {
                expression: self.text.clone(),
                row: failing_row(expression, batch),
                reason: reason(error),
            }
        };
        match (compute(&self.physical), &self.lazy) {
            (Ok(values), _) => Ok(values),
            (Err(_), Some(lazy)) => compute(lazy).map_err(|error| failed(lazy, &error)),
            (Err(error), None) => Err(failed(&self.physical, &error)),
        }
    }
}

/// Expressions over one schema, evaluated batch by batch.
pub struct Expressions {
    each: Vec<Expression>,
    /// The hidden columns that an expression asks for.
    supplied: Vec<Supplied>,
    /// The input's schema with those behind it, where there are any.
    extended: Option<SchemaRef>,
}

impl Expressions {
    /// Prepares `expressions` over rows of `input`. `options` has the session's time zone.
    pub fn new<'a>(
        expressions: impl IntoIterator<Item = &'a Expr>,
        input: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let expressions: Vec<&Expr> = expressions.into_iter().collect();
        let supplied: Vec<Supplied> = Supplied::ALL
            .into_iter()
            .filter(|supplied| expressions.iter().any(|expr| supplied.is_in(expr)))
            .collect();
        let mut schema = Arc::clone(input);
        if !supplied.is_empty() {
            schema = with_supplied(input, &supplied).map_err(|error| {
                let names: Vec<&str> = supplied.iter().map(|s| s.name()).collect();
                OperatorError::Unsupported {
                    expression: names.join(", "),
                    reason: error.to_string(),
                }
            })?;
        }
        let mut properties = ExecutionProps::new();
        properties.config_options = Some(Arc::clone(options));
        let planning = PhysicalPlanningContext::default();
        let expressions = expressions
            .into_iter()
            .map(|expression| {
                create_physical_expr(expression, &schema, &properties, &planning)
                    .and_then(|physical| {
                        let lazy = short_circuit(&physical)?;
                        Ok(Expression {
                            text: text::expression(expression),
                            physical,
                            lazy,
                        })
                    })
                    .map_err(|error| OperatorError::Unsupported {
                        expression: text::expression(expression),
                        reason: error.strip_backtrace(),
                    })
            })
            .collect::<Result<_, _>>()?;
        let extended = (!supplied.is_empty()).then(|| Arc::new(schema.as_arrow().clone()));
        Ok(Self {
            each: expressions,
            supplied,
            extended,
        })
    }

    /// The type of each result.
    pub fn types(&self, input: &DFSchemaRef) -> Result<Vec<DataType>, OperatorError> {
        let schema = self.extended.as_deref().unwrap_or(input.as_arrow());
        self.each
            .iter()
            .map(|expression| {
                expression
                    .physical
                    .data_type(schema)
                    .map_err(|error| OperatorError::Unsupported {
                        expression: expression.text.clone(),
                        reason: error.strip_backtrace(),
                    })
            })
            .collect()
    }

    /// A column for each expression.
    pub fn evaluate(
        &self,
        delta: &Delta,
        epoch: &EpochInfo,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let extended;
        let batch = match &self.extended {
            Some(schema) => {
                let mut columns = delta.batch.columns().to_vec();
                for supplied in &self.supplied {
                    columns.push(supply(*supplied, delta, epoch)?);
                }
                extended = record_batch(schema, columns, delta.rows())?;
                &extended
            }
            None => &delta.batch,
        };
        self.each
            .iter()
            .map(|expression| expression.evaluate(batch))
            .collect()
    }

    /// The first expression as a condition: null is not true.
    pub fn condition(
        &self,
        delta: &Delta,
        epoch: &EpochInfo,
    ) -> Result<BooleanArray, OperatorError> {
        let column = self.evaluate(delta, epoch)?.swap_remove(0);
        match column.as_any().downcast_ref::<BooleanArray>() {
            Some(condition) => Ok(condition.clone()),
            None => Err(OperatorError::Unsupported {
                expression: self.each[0].text.clone(),
                reason: format!("a condition must be BOOLEAN, not {}", column.data_type()),
            }),
        }
    }
}

/// How much of a value an error shows.
const SHOWN: usize = 80;

/// The first of `rows` rows that fails; `fails` says it of some that lie side by side: where they
/// begin, and how many. By halves, so that it costs about twice what all rows do. `None` where rows
/// fail only in company.
pub fn first_failing(rows: usize, fails: impl Fn(usize, usize) -> bool) -> Option<usize> {
    let (mut offset, mut left) = (0, rows);
    while left > 1 {
        let half = left / 2;
        if fails(offset, half) {
            left = half;
        } else {
            offset += half;
            left -= half;
        }
    }
    (left == 1 && fails(offset, 1)).then_some(offset)
}

/// ` on the row k = 'a', v = 1`: the first row on which `expression` fails, by the columns that it
/// reads; nothing where it reads none.
fn failing_row(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> String {
    let fails = |rows: &RecordBatch| {
        expression
            .evaluate(rows)
            .and_then(|value| value.into_array(rows.num_rows()))
            .is_err()
    };
    let Some(row) = first_failing(batch.num_rows(), |offset, rows| {
        fails(&batch.slice(offset, rows))
    }) else {
        return String::new();
    };
    let rows = batch.slice(row, 1);
    let mut columns: Vec<_> = collect_columns(expression).into_iter().collect();
    columns.sort_by_key(datafusion::physical_expr::expressions::Column::index);
    let shown: Vec<String> = columns
        .iter()
        .filter(|column| !Supplied::ALL.iter().any(|s| s.name() == column.name()))
        .filter_map(|column| {
            let values = rows.columns().get(column.index())?;
            let value = array_value_to_string(values, 0).ok()?;
            let cut = if value.chars().count() > SHOWN {
                "..."
            } else {
                ""
            };
            let value: String = value.chars().take(SHOWN).collect();
            Some(match values.data_type() {
                _ if values.is_null(0) => format!("{} = NULL", column.name()),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                    format!("{} = '{value}{cut}'", column.name())
                }
                _ => format!("{} = {value}{cut}", column.name()),
            })
        })
        .collect();
    if shown.is_empty() {
        String::new()
    } else {
        format!(" on the row {}", shown.join(", "))
    }
}

/// A batch of these columns. The schema's nullability is a hint, not a promise, so it is relaxed.
pub fn record_batch(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, OperatorError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| {
        OperatorError::Unsupported {
            expression: schema.to_string(),
            reason: error.to_string(),
        }
    })
}

/// The schema of a node's batches: its columns, all nullable, without qualifiers or metadata.
pub fn batch_schema(schema: &DFSchema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema
        .fields()
        .iter()
        .map(|field| Arc::new(Field::new(field.name(), field.data_type().clone(), true)))
        .collect();
    Arc::new(Schema::new(fields))
}

/// A hidden column for the rows of `delta`.
fn supply(supplied: Supplied, delta: &Delta, epoch: &EpochInfo) -> Result<ArrayRef, OperatorError> {
    let rows = delta.rows();
    Ok(match supplied {
        Supplied::CurrentTimestamp => Arc::new(
            TimestampMicrosecondArray::from_value(epoch.timestamp, rows).with_timezone("UTC"),
        ),
        Supplied::Salt => Arc::new(Int64Array::from_value(epoch.salt, rows)),
        Supplied::Position => match &delta.origin {
            Some(origin) => Arc::new(origin.positions(delta.time.epoch, rows)),
            None => {
                return Err(OperatorError::Unsupported {
                    expression: supplied.name().into(),
                    reason: "the rows are not rows that were read".into(),
                });
            }
        },
    })
}

fn with_supplied(
    input: &DFSchemaRef,
    supplied: &[Supplied],
) -> datafusion::common::Result<DFSchemaRef> {
    let hidden = supplied.iter().map(|supplied| {
        let field = Field::new(supplied.name(), supplied.data_type(), true);
        (None, Arc::new(field))
    });
    let fields = input
        .iter()
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .chain(hidden)
        .collect();
    Ok(Arc::new(DFSchema::new_with_metadata(
        fields,
        std::collections::HashMap::new(),
    )?))
}
