//! `+ - * / % div`, unary minus and their relatives as Spark has them in ANSI mode.
//!
//! | module | what it holds |
//! |---|---|
//! | `operands` | which types meet, and the type that comes of them |
//! | `numbers` | whole numbers and doubles |
//! | `decimals` | decimals, exact and rounded once |
//! | `moments` | dates, timestamps and intervals |
//!
//! Every operator is a function of its own (`__add`, ...), so that constants are folded by the same
//! rules as rows are: an overflow or a zero divisor is an error, or NULL from the `try_` form.

mod decimals;
mod moments;
mod numbers;
mod operands;

use std::sync::{Arc, LazyLock};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::cast::Casting;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `a + b`
    Add,
    /// `a - b`
    Subtract,
    /// `a * b`
    Multiply,
    /// `a / b`: of decimals a decimal, else a double.
    Divide,
    /// `a div b`: a BIGINT.
    IntegerDivide,
    /// `a % b`, with the sign of `a`.
    Remainder,
    /// `pmod(a, b)`, never negative for a positive `b`.
    PositiveRemainder,
    /// `-a`
    Negate,
    /// `abs(a)`
    Absolute,
}

impl Op {
    /// As SQL writes it between its operands; `None` for a function.
    pub fn symbol(self) -> Option<&'static str> {
        Some(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::IntegerDivide => "div",
            Self::Remainder => "%",
            Self::Negate => "-",
            Self::PositiveRemainder | Self::Absolute => return None,
        })
    }

    fn arity(self) -> usize {
        match self {
            Self::Negate | Self::Absolute => 1,
            _ => 2,
        }
    }
}

/// Name, other names, operation, and whether a failure is an error.
type Entry = (&'static str, &'static [&'static str], Op, bool);

const FUNCTIONS: [Entry; 14] = [
    ("__add", &[], Op::Add, true),
    ("__subtract", &[], Op::Subtract, true),
    ("__multiply", &[], Op::Multiply, true),
    ("__divide", &[], Op::Divide, true),
    ("__integer_divide", &[], Op::IntegerDivide, true),
    ("__remainder", &["mod"], Op::Remainder, true),
    ("__negate", &["negative"], Op::Negate, true),
    ("abs", &[], Op::Absolute, true),
    ("pmod", &[], Op::PositiveRemainder, true),
    ("try_add", &[], Op::Add, false),
    ("try_subtract", &[], Op::Subtract, false),
    ("try_multiply", &[], Op::Multiply, false),
    ("try_divide", &[], Op::Divide, false),
    ("try_mod", &[], Op::Remainder, false),
];

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    static ALL: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
        let make = |(name, aliases, op, strict): &Entry| {
            Arc::new(ScalarUDF::new_from_impl(Arithmetic {
                name,
                aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
                op: *op,
                strict: *strict,
                signature: Signature::user_defined(Volatility::Immutable),
            }))
        };
        FUNCTIONS.iter().map(make).collect()
    });
    ALL.clone()
}

/// The call of a binary operator.
pub fn call(op: Op, left: Expr, right: Expr) -> Expr {
    function(op).call(vec![left, right])
}

/// `-expr`.
pub fn negate(expr: Expr) -> Expr {
    function(Op::Negate).call(vec![expr])
}

fn function(op: Op) -> Arc<ScalarUDF> {
    let at = FUNCTIONS
        .iter()
        .position(|entry| entry.2 == op && entry.3)
        .expect("every operation has a strict function");
    Arc::clone(&functions()[at])
}

/// The operator that an expression applies to its arguments, if it is one; `try_add` is none.
pub fn as_operator(expr: &Expr) -> Option<(Op, &[Expr])> {
    let Expr::ScalarFunction(call) = expr else {
        return None;
    };
    let function = call.func.inner().downcast_ref::<Arithmetic>()?;
    function.strict.then_some((function.op, &call.args))
}

/// The operands of `try_add` and its relatives.
pub fn tried(call: &ScalarFunction) -> Option<&[Expr; 2]> {
    let function = call.func.inner().downcast_ref::<Arithmetic>()?;
    let operands: &[Expr; 2] = call.args.as_slice().try_into().ok()?;
    (!function.strict).then_some(operands)
}

/// The type of the result for arguments of these types.
pub fn result_type(op: Op, types: &[DataType]) -> Result<DataType> {
    operands::result(op, &operands::coerced(op, types)?)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    name: &'static str,
    aliases: Vec<String>,
    op: Op,
    strict: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() != self.op.arity() {
            return plan_err!(
                "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {} takes {} arguments, not {}",
                self.name,
                self.op.arity(),
                types.len()
            );
        }
        operands::coerced(self.op, types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        operands::result(self.op, &operands::coerced(self.op, types)?)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = (args.args.iter()).all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = (args.args.iter())
            .map(|arg| arg.to_array(rows))
            .collect::<Result<Vec<_>>>()?;
        let casting = Casting::new(&args.config_options, self.strict);
        let values = compute(self.op, &arrays, args.return_type(), &casting)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)
        } else {
            ColumnarValue::Array(values)
        })
    }
}

/// `op` over arrays whose types [`operands::coerced`] has given.
fn compute(op: Op, args: &[ArrayRef], to: &DataType, casting: &Casting) -> Result<ArrayRef> {
    let temporal = |array: &ArrayRef| operands::is_temporal(array.data_type());
    if args.iter().any(temporal) {
        return moments::compute(op, args, to, casting);
    }
    match args {
        [one] => match one.data_type() {
            DataType::Decimal128(..) => decimals::unary(op, one),
            _ => numbers::unary(op, one, casting),
        },
        [left, right] => match (left.data_type(), right.data_type()) {
            (DataType::Decimal128(..), DataType::Decimal128(..)) => {
                decimals::binary(op, left, right, to, casting)
            }
            _ => numbers::binary(op, left, right, casting),
        },
        _ => internal_err!("an operator has one operand or two"),
    }
}

/// A result that does not fit its type.
fn overflow(what: &str) -> DataFusionError {
    overflow_of("ARITHMETIC_OVERFLOW", what)
}

fn overflow_of(class: &str, what: &str) -> DataFusionError {
    DataFusionError::Execution(format!(
        "[{class}] overflow of {what}; cast an operand to a wider type, such as BIGINT or DECIMAL(38, 0), use the try_ form where NULL will do, or filter such rows before it"
    ))
}

fn divided_by_zero(op: Op) -> DataFusionError {
    DataFusionError::Execution(match op {
        Op::Remainder | Op::PositiveRemainder => {
            "[REMAINDER_BY_ZERO] remainder by zero; use try_mod or nullif(divisor, 0) where NULL will do".into()
        }
        _ => "[DIVIDE_BY_ZERO] division by zero; use try_divide or nullif(divisor, 0) where NULL will do".into(),
    })
}
