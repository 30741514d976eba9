//! Making structs.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::lists::fitted;
use crate::plan::functions::define::{Call, Param, ResultType, function};

/// The functions of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        function("named_struct", &[Param::Any], struct_type as ResultType, named_struct)
            .optional(1)
            .repeated()
            .coerced(|_, types| {
                if types.len().is_multiple_of(2) {
                    return Ok(types.to_vec());
                }
                plan_err!(
                    "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] named_struct takes names and values in turn, an even number of arguments, not {}",
                    types.len()
                )
            })
            .udf(),
    ]
}

fn struct_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let fields = types
        .chunks(2)
        .zip(constants.chunks(2))
        .map(|(types, constants)| match (types, constants) {
            ([_, value], [Some(name), _]) => match name.try_as_str() {
                Some(Some(name)) => Ok(Field::new(name, value.clone(), true)),
                _ => unnamed(),
            },
            _ => unnamed(),
        });
    Ok(DataType::Struct(fields.collect::<Result<Fields>>()?))
}

fn unnamed<T>() -> Result<T> {
    plan_err!(
        "[DATATYPE_MISMATCH.CREATE_NAMED_STRUCT_WITHOUT_FOLDABLE_STRING] each name that named_struct takes must be a constant STRING, such as 'x'"
    )
}

fn named_struct(call: &Call) -> Result<ArrayRef> {
    let DataType::Struct(fields) = call.returns() else {
        return exec_err!("named_struct gives a STRUCT, not {}", call.returns());
    };
    let columns = (fields.iter().enumerate())
        .map(|(index, field)| fitted(&call.array(2 * index + 1)?, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let made = StructArray::try_new_with_length(fields.clone(), columns, None, call.rows())?;
    Ok(Arc::new(made))
}
