//! Functions that mark a part of a query for a rewrite of its logical plan, and are gone before it runs.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::deduplicate::WITHIN_WATERMARK;
use super::nearest::{NEAREST, VERSION};

/// All of them.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mark = |name: &&'static str| {
        Arc::new(ScalarUDF::new_from_impl(Mark {
            name,
            signature: Signature::variadic_any(Volatility::Immutable),
        }))
    };
    [WITHIN_WATERMARK, NEAREST, VERSION]
        .iter()
        .map(mark)
        .collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} marks a part of a query, and has no value", self.name)
    }
}
