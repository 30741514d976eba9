//! The calls of an aggregate: what each computes, over which types, and how it is accumulated.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::Expr;

use crate::operators::OperatorError;
use crate::plan::functions::aggregates::{Fold, Shape, Signature, total};
use crate::plan::reason::reason;
use crate::plan::{AggregateCall, AggregateFunction};
use crate::row::{BitOperation, Bytes, RowError, Statistic, ValueCodec};

/// How a call is accumulated.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `count(*)`: the group's number of rows.
    Rows,
    /// Rows whose arguments are not null.
    Count,
    /// Sum or average of whole numbers, decimals or intervals.
    Integer,
    /// Sum or average of doubles.
    Float,
    /// Power sums.
    Moments(Statistic),
    /// Counts of set bits.
    Bits(BitOperation),
    /// Least or greatest by the encoded row, of input that never retracts.
    Extreme,
    /// The number of distinct values; the values lie in a set beside the groups.
    Distinct,
    /// The first row of a multiset beside the groups: least or greatest of input that retracts.
    First,
    /// Computed from the multiset beside the groups whenever it has changed.
    Folded(Arc<Folded>),
    /// A `HyperLogLog` of this precision.
    Sketch(u8),
}

/// A call that is computed from its values, and how its result is kept.
#[derive(Debug)]
pub struct Folded {
    fold: Fold,
    codec: ValueCodec,
}

/// A call with its types.
#[derive(Clone, Debug)]
pub struct Call {
    /// What to compute.
    pub function: AggregateFunction,
    /// How.
    pub kind: Kind,
    /// The types of the arguments, then of what the rows are ordered by.
    pub arguments: Vec<DataType>,
    /// The type of the result.
    pub output: DataType,
    /// As SQL, for messages.
    pub text: String,
    /// Which values of a row are compared, hashed or kept; none where nothing is.
    pub shape: Option<Arc<Shape>>,
}

impl Call {
    /// Chooses how to accumulate `call`, whose arguments, followed by what its rows are ordered by,
    /// are of the types `arguments`; `general` where the input may retract.
    pub fn new(
        call: &AggregateCall,
        arguments: Vec<DataType>,
        output: DataType,
        text: String,
        general: bool,
    ) -> Result<Self, OperatorError> {
        use AggregateFunction as Function;
        let function = call.function;
        let refused = |reason: String| OperatorError::Unsupported {
            expression: text.clone(),
            reason,
        };
        let order = call.order.iter();
        let order: Vec<_> = order
            .map(|by| SortOptions::new(!by.asc, by.nulls_first))
            .collect();
        let fold = || {
            let signature = Signature {
                types: &arguments,
                order: &order,
                distinct: call.distinct,
                ignore_nulls: call.ignore_nulls,
                constants: call.args.iter().map(constant).collect(),
                output: &output,
            };
            let fold = Fold::new(function, signature).map_err(|e| refused(e.strip_backtrace()))?;
            let codec = ValueCodec::new(std::slice::from_ref(&output));
            let codec = codec.map_err(|error| refused(error.to_string()))?;
            Ok::<_, OperatorError>(Kind::Folded(Arc::new(Folded { fold, codec })))
        };
        let kind = match function {
            Function::Count if arguments.is_empty() && call.filter.is_none() => Kind::Rows,
            Function::Count => Kind::Count,
            Function::Sum | Function::Avg | Function::TrySum | Function::TryAvg => {
                match arguments.first() {
                    _ if call.distinct => fold()?,
                    Some(DataType::Float16 | DataType::Float32 | DataType::Float64) => Kind::Float,
                    // Whole numbers and intervals: the planner lets nothing else through.
                    _ => Kind::Integer,
                }
            }
            Function::Min
            | Function::Max
            | Function::First
            | Function::Last
            | Function::MinBy
            | Function::MaxBy => {
                if general {
                    Kind::First
                } else {
                    Kind::Extreme
                }
            }
            Function::CountDistinct => Kind::Distinct,
            // A sketch cannot take a value back: over input that retracts the count is exact.
            Function::ApproxCountDistinct { .. } if general => Kind::Distinct,
            Function::ApproxCountDistinct { precision } => Kind::Sketch(precision),
            Function::Statistic(_) | Function::Bits(_) if call.distinct => fold()?,
            Function::Statistic(statistic) => Kind::Moments(statistic),
            Function::Bits(operation) => Kind::Bits(operation),
            // What is made of all values; `AggregateFunction::keeps_values` has the list.
            _ => fold()?,
        };
        let shape = match kind {
            Kind::Rows
            | Kind::Count
            | Kind::Integer
            | Kind::Float
            | Kind::Moments(_)
            | Kind::Bits(_) => None,
            Kind::Extreme | Kind::Distinct | Kind::First | Kind::Folded(_) | Kind::Sketch(_) => {
                let flags = (call.distinct, call.ignore_nulls);
                let shape = Shape::new(function, &arguments, &order, flags);
                Some(Arc::new(shape.map_err(|error| refused(error.to_string()))?))
            }
        };
        Ok(Self {
            function,
            kind,
            arguments,
            output,
            text,
            shape,
        })
    }

    /// Whether values lie in a multiset beside the groups.
    pub fn keeps_values(&self) -> bool {
        matches!(self.kind, Kind::First | Kind::Folded(_))
    }

    /// What is compared, hashed or kept of the rows of a batch, as bytes; nothing where a call needs
    /// none of that.
    pub fn encode_values(&self, values: &[ArrayRef]) -> Result<Bytes, RowError> {
        match &self.shape {
            Some(shape) => shape.encode(values),
            None => Ok(Bytes::default()),
        }
    }

    /// What must not be null for a row to count.
    pub fn required(&self, values: &[ArrayRef]) -> Vec<ArrayRef> {
        match &self.shape {
            Some(shape) => shape.required(values),
            None => values.to_vec(),
        }
    }

    /// The result of a call that is computed from its values, encoded: from the rows of a group,
    /// ascending and distinct, each with its count.
    pub fn fold<'a>(
        &self,
        folded: &Folded,
        rows: impl Iterator<Item = (&'a [u8], i64)>,
    ) -> Result<Box<[u8]>, OperatorError> {
        let result = folded.fold.of(rows).and_then(|value| value.to_array());
        let result = result.map_err(|error| self.failed(&error))?;
        let bytes = folded
            .codec
            .encode(&[result])
            .map_err(|e| self.broken(&e))?;
        Ok(bytes.get(0).into())
    }

    /// The results of rows and of folds as they are kept; `None` where there was no row.
    pub fn decode(&self, kept: &[Option<&[u8]>]) -> Result<ArrayRef, OperatorError> {
        let present = kept.iter().copied().flatten();
        let decoded = match (&self.kind, &self.shape) {
            (Kind::Folded(folded), _) => {
                let nothing = self.fold(folded, std::iter::empty())?;
                let all = kept.iter().map(|kept| kept.unwrap_or(&nothing));
                return match folded.codec.decode(all) {
                    Ok(mut columns) => Ok(columns.swap_remove(0)),
                    Err(error) => Err(self.broken(&error)),
                };
            }
            (_, Some(shape)) => shape.decode(present).map(|mut columns| {
                let value = shape.position(0).unwrap_or(0);
                columns.swap_remove(value)
            }),
            (_, None) => Ok(arrow::array::new_empty_array(&self.output)),
        };
        let decoded = decoded.map_err(|error| self.broken(&error))?;
        let mut next = 0;
        let indices: arrow::array::UInt32Array = kept
            .iter()
            .map(|kept| {
                kept.map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let column = arrow::compute::take(&decoded, &indices, None);
        let column = column.and_then(|column| {
            if column.data_type() == &self.output {
                Ok(column)
            } else {
                arrow::compute::cast(&column, &self.output)
            }
        });
        column.map_err(|error| self.failed(&error.into()))
    }

    /// Whether a result that does not fit its type is null rather than an error.
    pub fn tries(&self) -> bool {
        matches!(
            self.function,
            AggregateFunction::TrySum | AggregateFunction::TryAvg
        )
    }

    /// Whether it is an average.
    pub fn is_average(&self) -> bool {
        matches!(
            self.function,
            AggregateFunction::Avg | AggregateFunction::TryAvg
        )
    }

    /// The error for a result that does not fit its type.
    pub fn overflow(&self) -> OperatorError {
        OperatorError::Overflow(total::overflow(&self.text, &self.output))
    }

    fn failed(&self, error: &DataFusionError) -> OperatorError {
        OperatorError::Expression {
            expression: self.text.clone(),
            row: String::new(),
            reason: reason(error),
        }
    }

    fn broken(&self, error: &RowError) -> OperatorError {
        OperatorError::Unsupported {
            expression: self.text.clone(),
            reason: error.to_string(),
        }
    }
}

/// The value of an argument that is the same for all rows.
fn constant(argument: &Expr) -> Option<ScalarValue> {
    match argument {
        Expr::Alias(alias) => constant(&alias.expr),
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => constant(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        _ => None,
    }
}
