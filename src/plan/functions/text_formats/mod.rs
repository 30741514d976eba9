//! Values from and to text in a format of records: JSON and CSV.
//!
//! | module | what it holds |
//! |---|---|
//! | `json` | `from_json`, `to_json`, `get_json_object` and what asks JSON documents |
//! | `csv` | `from_csv`, `to_csv`, `schema_of_csv` |
//! | `formatted` | dates and timestamps by the patterns of the options |
//!
//! Reading and writing are those of the formats of files (`tidemark-connectors`). Options and
//! schemas are constants: the SQL of `map('k', 'v')` arrives here as the text of a JSON object,
//! and a schema as the text of column declarations.

mod csv;
mod formatted;
mod json;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::{Malformed, ParseMode, RecordOptions};
use tidemark_connectors::{ConnectorError, Options};

use super::define::Call;
use crate::plan::sql::{parse_schema, type_name};

pub use csv::schema_of_csv;
pub use json::schema_of_json;

/// All of them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = json::functions();
    all.extend(csv::functions());
    all
}

/// The options of a call, the session's time zone among them.
fn options(call: &Call, index: usize) -> Result<Options> {
    let mut options = Options::new();
    options.set("timeZone", call.time_zone());
    if call.len() > index
        && let Some(text) = call.text(index).get(0)
    {
        read_options(text, &mut options)?;
    }
    Ok(options)
}

fn read_options(text: &str, options: &mut Options) -> Result<()> {
    let pairs: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|_| {
            plan_datafusion_err!(
                "[INVALID_OPTIONS.NON_MAP_FUNCTION] options are no map; use map('key', 'value', ...)"
            )
        })?;
    for (key, value) in pairs {
        options.set(key, value.as_str().unwrap_or_default());
    }
    Ok(())
}

/// What records are read by. A record that is left out would leave its row without a value.
fn record_options(options: &Options, function: &str) -> Result<RecordOptions> {
    let record = RecordOptions::new(options).map_err(connector)?;
    if record.mode == ParseMode::DropMalformed {
        return plan_err!(
            "[PARSE_MODE_UNSUPPORTED] {function} has no mode DROPMALFORMED; use PERMISSIVE or FAILFAST"
        );
    }
    Ok(record)
}

fn connector(error: ConnectorError) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}

/// The error of a record that cannot be read where the mode is FAILFAST.
fn malformed(error: Malformed) -> DataFusionError {
    let Malformed { reason, record, .. } = error;
    DataFusionError::Execution(format!(
        "[MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION] the record '{record}' cannot be read: {reason}; use the mode PERMISSIVE where NULL will do"
    ))
}

/// The type that the constant text of argument 1 declares.
fn declared(function: &str, constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let Some(
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)),
    ) = constants[1]
    else {
        return plan_err!(
            "[INVALID_SCHEMA.NON_STRING_LITERAL] the schema of {function} must be a constant; use text such as 'a INT, b STRING'"
        );
    };
    parse_schema(text).map_err(|error| {
        // As it stands, the error would be taken for one of the script's own types.
        let why =
            error
                .kind
                .to_string()
                .replacen("[UNSUPPORTED_DATATYPE] unknown type", "no type", 1);
        plan_datafusion_err!("[PARSE_SYNTAX_ERROR] the schema '{text}' cannot be read: {why}")
    })
}

/// A type as SQL declares it, with names in backquotes where they need them.
fn declaration(data_type: &DataType) -> String {
    match data_type {
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| {
                    let name = column_name(field.name());
                    format!("{name}: {}", declaration(field.data_type()))
                })
                .collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::List(item) => format!("ARRAY<{}>", declaration(item.data_type())),
        other => type_name(other),
    }
}

fn column_name(name: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let plain = name.chars().all(word) && !name.chars().all(|c| c.is_ascii_digit());
    if plain {
        name.to_owned()
    } else {
        format!("`{}`", name.replace('`', "``"))
    }
}
