//! How functions that take a lambda are declared, and what they see of a batch of calls.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array, new_empty_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda,
    Volatility,
};

use crate::plan::sql::type_name;

/// What the values' types are cast to; the error begins with Spark's class.
pub(super) type Coercion = fn(&[DataType]) -> Result<Vec<DataType>>;

/// The types of the parameters of each lambda, from the types of the values.
pub(super) type Parameters = fn(&[&DataType]) -> Vec<Vec<DataType>>;

/// The type of the result, from those of the values and of what the lambdas give.
pub(super) type Returns = fn(&[&DataType], &[&DataType]) -> Result<DataType>;

/// A function whose first arguments are `values` values and whose others, of which `optional` may
/// be left out, are lambdas.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) values: usize,
    pub(super) optional: usize,
    pub(super) coercion: Coercion,
    pub(super) parameters: Parameters,
    pub(super) returns: Returns,
    pub(super) compute: fn(&Call) -> Result<ArrayRef>,
}

impl Function {
    /// The function as the planner takes it.
    pub(super) fn udf(self) -> Arc<HigherOrderUDF> {
        let aliases = self.aliases.iter().map(|&alias| alias.to_owned()).collect();
        Arc::new(HigherOrderUDF::new_from_impl(Declared {
            function: self,
            aliases,
            signature: HigherOrderSignature::user_defined(Volatility::Immutable),
        }))
    }
}

struct Declared {
    function: Function,
    aliases: Vec<String>,
    signature: HigherOrderSignature,
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

// The name stands for all the rest.
impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}
impl Eq for Declared {}
impl std::hash::Hash for Declared {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

/// The values' types and the lambdas, which stand behind all values.
fn parted<'a, L>(
    function: &Function,
    fields: &'a [ValueOrLambda<FieldRef, L>],
) -> Result<(Vec<&'a DataType>, Vec<&'a L>)> {
    let (mut values, mut lambdas) = (Vec::new(), Vec::new());
    for (index, field) in fields.iter().enumerate() {
        match field {
            ValueOrLambda::Value(field) if index < function.values => {
                values.push(field.data_type());
            }
            ValueOrLambda::Lambda(lambda) if index >= function.values => lambdas.push(lambda),
            ValueOrLambda::Value(field) => {
                return plan_err!(
                    "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] argument {} of {} must be a lambda such as x -> x + 1, not {}",
                    index + 1,
                    function.name,
                    type_name(field.data_type())
                );
            }
            ValueOrLambda::Lambda(_) => {
                return plan_err!(
                    "[INVALID_LAMBDA_FUNCTION_CALL.NON_HIGHER_ORDER_FUNCTION] argument {} of {} must be a value, not a lambda",
                    index + 1,
                    function.name
                );
            }
        }
    }
    Ok((values, lambdas))
}

impl HigherOrderUDFImpl for Declared {
    fn name(&self) -> &str {
        self.function.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn coerce_value_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() != self.function.values {
            return wrong_number(&self.function, types.len());
        }
        (self.function.coercion)(types)
    }

    fn lambda_parameters(
        &self,
        _: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let (values, lambdas) = parted(&self.function, fields)?;
        let mut all = (self.function.parameters)(&values);
        if lambdas.len() > all.len() || lambdas.len() + self.function.optional < all.len() {
            return wrong_number(&self.function, fields.len());
        }
        all.truncate(lambdas.len());
        let field = |data_type| Arc::new(Field::new("", data_type, true));
        let all = all
            .into_iter()
            .map(|types| types.into_iter().map(field).collect());
        Ok(LambdaParametersProgress::Complete(all.collect()))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let (values, lambdas) = parted(&self.function, args.arg_fields)?;
        let results: Vec<&DataType> = lambdas.into_iter().map(|field| field.data_type()).collect();
        let data_type = (self.function.returns)(&values, &results)?;
        Ok(Arc::new(Field::new(self.function.name, data_type, true)))
    }

    fn clear_null_values(&self) -> bool {
        // Elements are taken by the ranges of rows that are not null.
        false
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let (mut values, mut lambdas) = (Vec::new(), Vec::new());
        for arg in args.args {
            match arg {
                ValueOrLambda::Value(value) => values.push(value.into_array(args.number_rows)?),
                ValueOrLambda::Lambda(lambda) => lambdas.push(lambda),
            }
        }
        let call = Call {
            values,
            lambdas,
            rows: args.number_rows,
            returns: args.return_field.data_type().clone(),
        };
        Ok(ColumnarValue::Array((self.function.compute)(&call)?))
    }
}

fn wrong_number<T>(function: &Function, given: usize) -> Result<T> {
    plan_err!(
        "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {} was given {given} arguments; it takes {} and then the lambda",
        function.name,
        match function.values {
            1 => "one value".to_owned(),
            many => format!("{many} values"),
        }
    )
}

/// The type that a condition must have: BOOLEAN, or the VOID of a bare NULL.
pub(super) fn condition(name: &str, given: &DataType) -> Result<()> {
    match given {
        DataType::Boolean | DataType::Null => Ok(()),
        other => plan_err!(
            "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] the lambda of {name} must give a BOOLEAN, not {}",
            type_name(other)
        ),
    }
}

/// A batch of calls of one function.
pub(super) struct Call {
    values: Vec<ArrayRef>,
    lambdas: Vec<LambdaArgument>,
    rows: usize,
    returns: DataType,
}

impl Call {
    /// How many calls there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The type of the result.
    pub(super) fn returns(&self) -> &DataType {
        &self.returns
    }

    /// An argument that is a value, one for each row.
    pub(super) fn value(&self, index: usize) -> &ArrayRef {
        &self.values[index]
    }

    /// How many lambdas were given.
    pub(super) fn lambdas(&self) -> usize {
        self.lambdas.len()
    }

    /// What a lambda gives for each entry of `rows`, the row to which that call belongs: its
    /// parameters are `arguments`, all of the same length. `None` where there are no calls.
    pub(super) fn apply(
        &self,
        lambda: usize,
        rows: &UInt32Array,
        arguments: &[ArrayRef],
    ) -> Result<Option<ArrayRef>> {
        // A constant that fails must not fail where there is nothing to do.
        if rows.is_empty() {
            return Ok(None);
        }
        let arguments: Vec<_> = arguments
            .iter()
            .map(|array| || Ok(Arc::clone(array)))
            .collect();
        let arguments: Vec<&dyn Fn() -> Result<ArrayRef>> = arguments
            .iter()
            .map(|array| array as &dyn Fn() -> Result<ArrayRef>)
            .collect();
        let result = self.lambdas[lambda].evaluate(&arguments, |columns| {
            let spread = columns.iter().map(|column| Ok(take(column, rows, None)?));
            spread.collect()
        })?;
        result.into_array(rows.len()).map(Some)
    }

    /// The same for a lambda that gives a condition; null where it gives null.
    pub(super) fn test(
        &self,
        lambda: usize,
        rows: &UInt32Array,
        arguments: &[ArrayRef],
    ) -> Result<BooleanArray> {
        let Some(result) = self.apply(lambda, rows, arguments)? else {
            return Ok(BooleanArray::new_null(0));
        };
        match result.data_type() {
            DataType::Boolean => Ok(result.as_boolean().clone()),
            DataType::Null => Ok(BooleanArray::new_null(rows.len())),
            other => exec_err!("a condition gave {other}"),
        }
    }

    /// As [`Call::apply`], with an empty array of `data_type` where there are no calls.
    pub(super) fn mapped(
        &self,
        lambda: usize,
        rows: &UInt32Array,
        arguments: &[ArrayRef],
        data_type: &DataType,
    ) -> Result<ArrayRef> {
        let result = self.apply(lambda, rows, arguments)?;
        Ok(result.unwrap_or_else(|| new_empty_array(data_type)))
    }
}

/// The elements of all rows one behind the other: where each lies, and to which row it belongs.
pub(super) struct Elements {
    pub(super) places: UInt32Array,
    pub(super) rows: UInt32Array,
    /// Each row's part of the two; `None` for a row that is null.
    pub(super) ranges: Vec<Option<Range<usize>>>,
}

impl Elements {
    /// Of `rows` rows whose elements lie where `get` says.
    pub(super) fn new(rows: usize, get: impl Fn(usize) -> Option<Range<usize>>) -> Self {
        let (mut places, mut owners) = (Vec::new(), Vec::new());
        let mut ranges = Vec::with_capacity(rows);
        for row in 0..rows {
            let start = places.len();
            ranges.push(get(row).map(|range| {
                owners.extend(std::iter::repeat_n(row as u32, range.len()));
                places.extend(range.map(|place| place as u32));
                start..places.len()
            }));
        }
        Self {
            places: places.into(),
            rows: owners.into(),
            ranges,
        }
    }

    /// The elements themselves, of the column in which they lie.
    pub(super) fn of(&self, values: &ArrayRef) -> Result<ArrayRef> {
        Ok(take(values, &self.places, None)?)
    }
}
