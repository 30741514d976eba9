//! Spark's functions about types, about the session, and those that fail on purpose.

use std::sync::Arc;

use arrow::array::NullArray;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::exec_err;
use datafusion::logical_expr::ScalarUDF;

use super::define::{Function, Param, function};
use crate::plan::sql::type_name;

use DataType::{Boolean, Null, Utf8};
use Param::{Any, Number, Text};

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        function("typeof", &[Any], Utf8, |call| {
            let name = simple_name(call.data_type(0));
            call.texts(|_, out| {
                out.push_str(&name);
                Ok(Some(()))
            })
        }),
        function("assert_true", &[Param::Boolean, Text], Null, |call| {
            let (condition, message) = (call.boolean(0), (call.len() > 1).then(|| call.text(1)));
            for row in 0..call.rows() {
                if condition.get(row) != Some(true) {
                    let message = message.as_ref().map(|message| message.get(row));
                    let message = message.unwrap_or(Some("a condition is not true"));
                    return exec_err!("[USER_RAISED_EXCEPTION] {}", message.unwrap_or("null"));
                }
            }
            Ok(Arc::new(NullArray::new(call.rows())))
        })
        .optional(1),
        function("raise_error", &[Text], Null, |call| {
            let message = call.text(0);
            if call.rows() == 0 { Ok(Arc::new(NullArray::new(0))) } else { exec_err!(
                "[USER_RAISED_EXCEPTION] {}",
                message.get(0).unwrap_or("null")
            ) }
        }),
        constant("version", env!("CARGO_PKG_VERSION")),
        constant("current_catalog", "spark_catalog"),
        constant("current_database", "default").also(&["current_schema"]),
        function("isnan", &[Number], Boolean, |call| {
            if *call.data_type(0) == DataType::Float32 {
                let float = call.primitive::<Float32Type>(0);
                return call.truths(|row| Ok(Some(float.get(row).is_some_and(f32::is_nan))));
            }
            let float = call.primitive::<Float64Type>(0);
            call.truths(|row| Ok(Some(float.get(row).is_some_and(f64::is_nan))))
        })
        .coerced(|name, types| match &types[0] {
            DataType::Float32 => Ok(types.to_vec()),
            other => Ok(vec![Param::Double.coerce(name, 0, other)?]),
        }),
    ];
    all.into_iter().map(Function::udf).collect()
}

fn constant(name: &'static str, value: &'static str) -> Function {
    function(name, &[], Utf8, move |call| {
        call.texts(|_, out| {
            out.push_str(value);
            Ok(Some(()))
        })
    })
}

/// A type as `typeof` writes it: in lower case, without blanks; names of fields as they are.
fn simple_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("array<{}>", simple_name(item.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let types: Vec<String> =
                    fields.iter().map(|f| simple_name(f.data_type())).collect();
                format!("map<{}>", types.join(","))
            }
            other => format!("map<{}>", simple_name(other)),
        },
        DataType::Struct(fields) => {
            let field = |f: &Arc<arrow::datatypes::Field>| {
                format!("{}:{}", f.name(), simple_name(f.data_type()))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("struct<{}>", fields.join(","))
        }
        other => type_name(other).to_lowercase(),
    }
}
