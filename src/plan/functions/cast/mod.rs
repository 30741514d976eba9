//! `CAST` and `TRY_CAST` as Spark has them in ANSI mode.
//!
//! | module | what it holds |
//! |---|---|
//! | `rules` | which casts there are, and which Arrow's kernels do right |
//! | `numbers` | between numbers and booleans |
//! | `moments` | between dates, timestamps and numbers |
//! | `text` | from text, and to it |
//!
//! The analyzer replaces every cast that Arrow means otherwise by a call of `__cast` or
//! `__try_cast` ([`cast_call`]); [`as_cast`] reads either form back. Clocks are those of the
//! session's time zone. A value that cannot be cast is an error of its class, or NULL from
//! `TRY_CAST`, inside nested values too.

mod moments;
mod numbers;
mod rules;
mod text;

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, MapArray, PrimitiveArray, StructArray,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast as arrow_cast, nullif};
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use tidemark_connectors::format::zone::Zone;


pub use rules::check;

use crate::plan::sql::type_name;

/// `CAST(expr AS to)`, or `TRY_CAST` where it is not `strict`; `from` is the type of `expr`.
pub fn cast_call(expr: Expr, from: &DataType, to: &DataType, strict: bool) -> Result<Expr> {
    check(from, to)?;
    Ok(if from == to {
        expr
    } else if rules::is_plain(from, to) {
        Expr::Cast(Cast::new(Box::new(expr), to.clone()))
    } else {
        let function = SparkCast {
            to: to.clone(),
            strict,
            signature: Signature::any(1, Volatility::Immutable),
        };
        Expr::ScalarFunction(ScalarFunction::new_udf(
            Arc::new(ScalarUDF::new_from_impl(function)),
            vec![expr],
        ))
    })
}

/// What is cast, to which type, and whether a failure is an error; `None` for no cast.
pub fn as_cast(expr: &Expr) -> Option<(&Expr, &DataType, bool)> {
    match expr {
        Expr::Cast(Cast { expr, field }) => Some((expr, field.data_type(), true)),
        Expr::TryCast(TryCast { expr, field }) => Some((expr, field.data_type(), false)),
        Expr::ScalarFunction(call) => {
            let function = call.func.inner().downcast_ref::<SparkCast>()?;
            Some((call.args.first()?, &function.to, function.strict))
        }
        _ => None,
    }
}

/// How values are cast.
#[derive(Clone, Copy, Debug)]
pub struct Casting {
    /// The session's time zone.
    pub zone: Zone,
    /// A failure is an error; else NULL.
    pub strict: bool,
}

impl Casting {
    /// In the session's time zone.
    pub fn new(options: &ConfigOptions, strict: bool) -> Self {
        let name = options.execution.time_zone.as_deref();
        Self {
            zone: name.and_then(Zone::parse).unwrap_or(Zone::UTC),
            strict,
        }
    }

    /// What a clock on the wall of `zone` shows at an instant, in microseconds since 1970. Beyond the
    /// years that have a calendar it is UTC's.
    pub fn to_local(zone: Zone, instant: i64) -> i64 {
        zone.to_local(instant).unwrap_or(instant)
    }

    /// `array` with `f` over its values; `fail` says why a value has no result.
    fn each<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
        &self,
        array: &PrimitiveArray<F>,
        f: impl Fn(F::Native) -> Option<T::Native>,
        fail: impl Fn(F::Native) -> DataFusionError,
    ) -> Result<PrimitiveArray<T>> {
        if self.strict {
            array.try_unary(|value| f(value).ok_or_else(|| fail(value)))
        } else {
            Ok(array.unary_opt(f))
        }
    }
}

/// The values of `array` as values of another type. [`check`] must have allowed it.
pub fn cast_array(array: &ArrayRef, to: &DataType, casting: &Casting) -> Result<ArrayRef> {
    use DataType as D;
    let from = array.data_type();
    if from == to {
        return Ok(Arc::clone(array));
    }
    if rules::is_plain(from, to) {
        return Ok(arrow_cast(array, to)?);
    }
    match (from, to) {
        (_, D::LargeUtf8 | D::Utf8View) => {
            let text = cast_array(array, &D::Utf8, casting)?;
            Ok(arrow_cast(&text, to)?)
        }
        (_, D::Utf8) => text::write(array, casting),
        (D::Utf8, _) => text::read(array.as_string(), to, casting),
        (D::LargeUtf8 | D::Utf8View, _) => {
            cast_array(&arrow_cast(array, &D::Utf8)?, to, casting)
        }
        (D::List(_), D::List(_)) | (D::Map(..), D::Map(..)) | (D::Struct(_), D::Struct(_)) => {
            nested(array, to, casting)
        }
        (D::Date32 | D::Timestamp(..), _) | (_, D::Timestamp(..)) => {
            moments::cast(array, to, casting)
        }
        (D::Duration(_) | D::Interval(_), _) => Ok(arrow_cast(array, to)?),
        _ => numbers::cast(array, to, casting),
    }
}

/// Element by element, by position.
fn nested(array: &ArrayRef, to: &DataType, casting: &Casting) -> Result<ArrayRef> {
    Ok(match to {
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let (_, offsets, values, nulls) = list.clone().into_parts();
            let values = cast_array(&values, item.data_type(), casting)?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
        }
        DataType::Map(entries, sorted) => {
            let (_, offsets, rows, nulls, _) = array.as_map().clone().into_parts();
            let rows: ArrayRef = Arc::new(rows);
            let rows = nested(&rows, entries.data_type(), casting)?;
            let rows = rows.as_struct().clone();
            Arc::new(MapArray::try_new(
                Arc::clone(entries),
                offsets,
                rows,
                nulls,
                *sorted,
            )?)
        }
        DataType::Struct(fields) => {
            let rows = array.as_struct();
            let columns = (rows.columns().iter().zip(fields))
                .map(|(column, field)| {
                    // What lies below a null row is no value and cannot fail.
                    let column = masked(column, rows.nulls())?;
                    cast_array(&column, field.data_type(), casting)
                })
                .collect::<Result<Vec<_>>>()?;
            let nulls = rows.nulls().cloned();
            Arc::new(if fields.is_empty() {
                StructArray::new_empty_fields(rows.len(), nulls)
            } else {
                StructArray::try_new(fields.clone(), columns, nulls)?
            })
        }
        other => return internal_err!("{} is not nested", type_name(other)),
    })
}

/// The column with a null wherever the row that it is part of is null.
fn masked(column: &ArrayRef, row_nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    match row_nulls {
        Some(nulls) if nulls.null_count() > 0 => {
            let absent = arrow::array::BooleanArray::new(!nulls.inner(), None);
            Ok(nullif(column, &absent)?)
        }
        _ => Ok(Arc::clone(column)),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SparkCast {
    to: DataType,
    strict: bool,
    signature: Signature,
}

impl ScalarUDFImpl for SparkCast {
    fn name(&self) -> &'static str {
        if self.strict { "__cast" } else { "__try_cast" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let args: Vec<String> = args.iter().map(|a| a.schema_name().to_string()).collect();
        let try_ = if self.strict { "" } else { "TRY_" };
        Ok(format!(
            "{try_}CAST({} AS {})",
            args.join(", "),
            type_name(&self.to)
        ))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let casting = Casting::new(&args.config_options, self.strict);
        match &args.args[..] {
            [ColumnarValue::Scalar(value)] => {
                let one = cast_array(&value.to_array()?, &self.to, &casting)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?))
            }
            [ColumnarValue::Array(array)] => {
                cast_array(array, &self.to, &casting).map(ColumnarValue::Array)
            }
            _ => internal_err!("a cast has one argument"),
        }
    }
}

/// A column of nulls of this type, as long as `array`.
fn nulls_like(array: &dyn Array, to: &DataType) -> ArrayRef {
    new_null_array(to, array.len())
}

/// `what` does not read as a value of the type.
fn malformed(value: &str, from: &DataType, to: &DataType) -> DataFusionError {
    DataFusionError::Execution(format!(
        "[CAST_INVALID_INPUT] the value '{value}' of type {} is no {}; use try_cast where NULL will do, or filter such rows before it",
        type_name(from),
        type_name(to)
    ))
}

/// `what` lies outside the range of the type.
fn overflow(value: impl std::fmt::Display, from: &DataType, to: &DataType) -> DataFusionError {
    DataFusionError::Execution(format!(
        "[CAST_OVERFLOW] the value {value} of type {} does not fit into {}; use try_cast where NULL will do, or filter such rows before it",
        type_name(from),
        type_name(to)
    ))
}

/// A number has more digits than the decimal type.
pub fn out_of_range(value: impl std::fmt::Display, to: &DataType) -> DataFusionError {
    DataFusionError::Execution(format!(
        "[NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION] {value} does not fit into {}; use try_cast where NULL will do, or a DECIMAL with more digits before the point",
        type_name(to)
    ))
}
