//! The constants of `from_json`, `to_csv` and their like, which the functions take as text: options
//! out of `map('k', 'v')`, schemas out of `schema_of_json('...')`.

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::ast::{Expr, Function, Value};
use tidemark_connectors::Options;

use super::ast::{arguments, call, function_name, name_span, string};
use crate::plan::error::PlanErrorKind;
use crate::plan::functions::text_formats::{schema_of_csv, schema_of_json};

/// The call with its constants as text, if it is one of these functions and has any.
pub(super) fn rewritten(function: &Function) -> Result<Option<Expr>, PlanErrorKind> {
    let name = function_name(function);
    let (has_schema, options_at) = match name.as_str() {
        "from_json" | "from_csv" => (true, 2),
        "to_json" | "to_csv" | "schema_of_json" | "schema_of_csv" => (false, 1),
        _ => return Ok(None),
    };
    let span = name_span(function);
    let mut args: Vec<Expr> = arguments(function).into_iter().cloned().collect();
    if has_schema
        && let Some(schema) = args.get_mut(1)
        && let Some(text) = schema_text(schema)?
    {
        *schema = string(&text, span);
    }
    if let Some(options) = args.get_mut(options_at) {
        let pairs: serde_json::Map<_, _> = option_pairs(options)?
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect();
        *options = string(&serde_json::Value::Object(pairs).to_string(), span);
    }
    Ok(Some(call(&name, args, span)))
}

fn invalid(message: impl Into<String>) -> PlanErrorKind {
    PlanErrorKind::Syntax {
        message: message.into(),
    }
}

/// The pairs of `map('k', 'v', ...)`.
fn option_pairs(expr: &Expr) -> Result<Vec<(String, String)>, PlanErrorKind> {
    let not_map = || {
        invalid(
            "[INVALID_OPTIONS.NON_MAP_FUNCTION] options must be a map of constants; use map('key', 'value', ...)",
        )
    };
    let Expr::Function(function) = expr else {
        return Err(not_map());
    };
    // The inner call was rewritten before this one.
    if !matches!(function_name(function).as_str(), "map" | "__map") {
        return Err(not_map());
    }
    let texts: Option<Vec<String>> = arguments(function).into_iter().map(literal).collect();
    let texts = texts.ok_or_else(not_map)?;
    if texts.len() % 2 != 0 {
        return Err(not_map());
    }
    let pairs = texts.chunks_exact(2);
    Ok(pairs
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect())
}

fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            Value::Boolean(truth) => Some(truth.to_string()),
            Value::Number(digits, _) => Some(digits.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// The schema that `schema_of_json('...')` or `schema_of_csv('...')` stands for.
fn schema_text(expr: &Expr) -> Result<Option<String>, PlanErrorKind> {
    let Expr::Function(function) = expr else {
        return Ok(None);
    };
    let infer: fn(&str, &Options) -> Result<String, DataFusionError> =
        match function_name(function).as_str() {
            "schema_of_json" => schema_of_json,
            "schema_of_csv" => schema_of_csv,
            _ => return Ok(None),
        };
    let args = arguments(function);
    let Some(sample) = args.first().and_then(|sample| literal(sample)) else {
        return Err(invalid(
            "[INVALID_SCHEMA.NON_STRING_LITERAL] the sample of a schema must be a constant; use text",
        ));
    };
    let mut options = Options::new();
    if let Some(given) = args.get(1).and_then(|given| literal(given)) {
        // The inner call was rewritten before this one.
        let pairs: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&given).unwrap_or_default();
        for (key, value) in pairs {
            options.set(key, value.as_str().unwrap_or_default());
        }
    }
    let found = infer(&sample, &options).map_err(|error| invalid(error.strip_backtrace()))?;
    Ok(Some(found))
}
