//! Spark's `/` on numbers that are no decimals: both sides as doubles, and a zero divisor is an
//! error rather than an infinity.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `__divide(DOUBLE, DOUBLE)`.
pub fn divide() -> Arc<ScalarUDF> {
    static DIVIDE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let doubles = vec![DataType::Float64, DataType::Float64];
        Arc::new(ScalarUDF::new_from_impl(Divide {
            signature: Signature::exact(doubles, Volatility::Immutable),
        }))
    });
    Arc::clone(&DIVIDE)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Divide {
    signature: Signature,
}

impl ScalarUDFImpl for Divide {
    fn name(&self) -> &'static str {
        "__divide"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (left, right) = (
            arrays[0].as_primitive::<Float64Type>(),
            arrays[1].as_primitive::<Float64Type>(),
        );
        let mut out = Float64Array::builder(left.len());
        for row in 0..left.len() {
            if left.is_null(row) || right.is_null(row) {
                out.append_null();
            } else if right.value(row) == 0.0 {
                return exec_err!("division by zero; use nullif(divisor, 0) where NULL will do");
            } else {
                out.append_value(left.value(row) / right.value(row));
            }
        }
        ColumnarValue::Array(Arc::new(out.finish())).into_scalar_if(all_scalar)
    }
}

/// Keeps a constant a constant, so that the simplifier folds it.
trait IntoScalar {
    fn into_scalar_if(self, scalar: bool) -> Result<ColumnarValue>;
}

impl IntoScalar for ColumnarValue {
    fn into_scalar_if(self, scalar: bool) -> Result<ColumnarValue> {
        match self {
            ColumnarValue::Array(array) if scalar && array.len() == 1 => Ok(ColumnarValue::Scalar(
                datafusion::common::ScalarValue::try_from_array(&array, 0)?,
            )),
            other => Ok(other),
        }
    }
}
