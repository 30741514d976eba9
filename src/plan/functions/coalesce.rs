//! `coalesce`: the first value that is not NULL, in the common type of all.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::common_type::common_type_of;
use crate::plan::sql::type_name;

/// `coalesce(a, ...)`; the optimizer makes a CASE of it, which computes no more than it must.
pub fn coalesce() -> Arc<ScalarUDF> {
    static COALESCE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        Arc::new(ScalarUDF::new_from_impl(Coalesce {
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    });
    Arc::clone(&COALESCE)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Coalesce {
    signature: Signature,
}

impl ScalarUDFImpl for Coalesce {
    fn name(&self) -> &'static str {
        "coalesce"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.is_empty() {
            return plan_err!(
                "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] coalesce takes an argument or more, not 0"
            );
        }
        let common = self.return_type(types)?;
        Ok(vec![common; types.len()])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if let Some(common) = common_type_of(types) { Ok(common) } else {
            let mut names: Vec<String> = types.iter().map(type_name).collect();
            names.dedup();
            plan_err!(
                "[DATATYPE_MISMATCH.DATA_DIFF_TYPES] coalesce takes values of one type, not {}; add a CAST",
                names.join(" and ")
            )
        }
    }

    fn simplify(&self, mut args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(last) = args.pop() else {
            return internal_err!("coalesce without arguments");
        };
        if args.is_empty() {
            return Ok(ExprSimplifyResult::Simplified(last));
        }
        let branches = (args.into_iter())
            .map(|arg| (Box::new(arg.clone().is_not_null()), Box::new(arg)))
            .collect();
        let case = Case::new(None, branches, Some(Box::new(last)));
        Ok(ExprSimplifyResult::Simplified(Expr::Case(case)))
    }

    fn short_circuits(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("coalesce was not made a CASE")
    }
}
