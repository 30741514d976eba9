//! `current_timestamp()`: volatile, so that no optimiser folds it to the moment of planning.
//!
//! In a stream it is the epoch's: the planner replaces the call by a column. In a batch
//! [`super::super::batch`] replaces it by one instant. `current_date()` is written in terms of it.

use std::sync::{Arc, LazyLock};

use arrow::array::timezone::Tz;
use arrow::array::{AsArray, Date32Array};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use arrow::temporal_conversions::as_datetime_with_timezone;
use chrono::{Datelike, NaiveDate};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit,
};

/// The type of `current_timestamp()`.
fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// `current_timestamp()`, also `now()`.
pub fn current_timestamp() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        Arc::new(ScalarUDF::new_from_impl(CurrentTimestamp {
            signature: Signature::nullary(Volatility::Volatile),
            aliases: vec!["now".into()],
        }))
    });
    Arc::clone(&FUNCTION)
}

/// `__local_date(instant, zone)`: the date that a clock on the wall of `zone` shows.
pub fn local_date() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let types = vec![instant(), DataType::Utf8];
        Arc::new(ScalarUDF::new_from_impl(LocalDate {
            signature: Signature::exact(types, Volatility::Immutable),
        }))
    });
    Arc::clone(&FUNCTION)
}

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![current_timestamp(), local_date()]
}

/// Whether `expr` is a call of `current_timestamp()`.
pub fn is_current_timestamp(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == "current_timestamp")
}

/// The literal that stands for `current_timestamp()` at `micros` since 1970 UTC.
pub fn instant_literal(micros: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(
        Some(micros),
        Some("UTC".into()),
    ))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentTimestamp {
    signature: Signature,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for CurrentTimestamp {
    fn name(&self) -> &'static str {
        "current_timestamp"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(instant())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), instant(), false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("current_timestamp() was not replaced by the moment of its epoch")
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LocalDate {
    signature: Signature,
}

impl ScalarUDFImpl for LocalDate {
    fn name(&self) -> &'static str {
        "__local_date"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = match &args.args[1] {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(zone))) => zone.parse::<Tz>()?,
            _ => return exec_err!("__local_date needs a constant time zone"),
        };
        let arrays = args.args[0].to_array(args.number_rows)?;
        let instants = arrays.as_primitive::<TimestampMicrosecondType>();
        let epoch = NaiveDate::default().num_days_from_ce();
        let dates: Result<Date32Array> = instants
            .iter()
            .map(|instant| {
                let Some(micros) = instant else {
                    return Ok(None);
                };
                as_datetime_with_timezone::<TimestampMicrosecondType>(micros, zone)
                    .map(|local| Some(local.date_naive().num_days_from_ce() - epoch))
                    .ok_or_else(|| exec_datafusion_err!("timestamp {micros} is out of range"))
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(dates?)))
    }
}
