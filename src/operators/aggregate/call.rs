//! The calls of an aggregate: what each computes, over which types, and how it is accumulated.

use arrow::datatypes::DataType;

use crate::operators::OperatorError;
use crate::plan::AggregateFunction;
use crate::plan::sql::type_name;
use crate::row::{KeyCodec, RowError};

/// How a call is accumulated.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `count(*)`: the group's number of rows.
    Rows,
    /// Rows whose arguments are not null.
    Count,
    /// Sum or average of whole numbers or decimals.
    Integer,
    /// Sum or average of doubles.
    Float,
    /// Least or greatest by the encoded value, of input that never retracts.
    Extreme,
    /// The number of distinct values; the values lie in a multiset beside the groups.
    Distinct,
    /// The first value of a multiset beside the groups: least or greatest of input that retracts.
    First,
    /// A `HyperLogLog` of this precision.
    Sketch(u8),
}

/// A call with its types.
#[derive(Clone, Debug)]
pub struct Call {
    /// What to compute.
    pub function: AggregateFunction,
    /// How.
    pub kind: Kind,
    /// The types of the arguments.
    pub arguments: Vec<DataType>,
    /// The type of the result.
    pub output: DataType,
    /// As SQL, for messages.
    pub text: String,
}

impl Call {
    /// Chooses how to accumulate; `filtered` where not every row counts, `general` where the input
    /// may retract.
    pub fn new(
        function: AggregateFunction,
        arguments: Vec<DataType>,
        output: DataType,
        text: String,
        (filtered, general): (bool, bool),
    ) -> Result<Self, OperatorError> {
        let kind = match function {
            AggregateFunction::Count if arguments.is_empty() && !filtered => Kind::Rows,
            AggregateFunction::Count => Kind::Count,
            AggregateFunction::Sum | AggregateFunction::Avg => match arguments.first() {
                Some(DataType::Float16 | DataType::Float32 | DataType::Float64) => Kind::Float,
                Some(DataType::Decimal128(..)) => Kind::Integer,
                Some(other) if other.is_integer() || other.is_null() => Kind::Integer,
                other => {
                    let given = other.map(ToString::to_string).unwrap_or_default();
                    return Err(OperatorError::Unsupported {
                        expression: text,
                        reason: format!("it takes numbers, not {given}"),
                    });
                }
            },
            AggregateFunction::Min | AggregateFunction::Max if general => Kind::First,
            AggregateFunction::Min | AggregateFunction::Max => Kind::Extreme,
            AggregateFunction::CountDistinct => Kind::Distinct,
            // A sketch cannot take a value back: over input that retracts the count is exact.
            AggregateFunction::ApproxCountDistinct { .. } if general => Kind::Distinct,
            AggregateFunction::ApproxCountDistinct { precision } => Kind::Sketch(precision),
        };
        Ok(Self {
            function,
            kind,
            arguments,
            output,
            text,
        })
    }

    /// Whether values lie in a multiset beside the groups.
    pub fn keeps_values(&self) -> bool {
        matches!(self.kind, Kind::Distinct | Kind::First)
    }

    /// The codec of the values that are compared, hashed or kept.
    pub fn value_codec(&self) -> Result<Option<KeyCodec>, RowError> {
        let descending = self.function == AggregateFunction::Max && self.kind == Kind::First;
        match self.kind {
            Kind::Extreme | Kind::Distinct | Kind::First | Kind::Sketch(_) => {
                let types: Vec<_> = self
                    .arguments
                    .iter()
                    .map(|t| (t.clone(), descending))
                    .collect();
                KeyCodec::new_with_order(&types).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The error for a result that does not fit its type.
    pub fn overflow(&self) -> OperatorError {
        OperatorError::Overflow {
            what: self.text.clone(),
            data_type: type_name(&self.output),
        }
    }
}
