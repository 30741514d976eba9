//! Why an expression failed on a row, in the words of SQL and with the remedy.

use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;

/// Why an expression failed, and what to do, without the names of the libraries that it went through.
pub fn reason(error: &DataFusionError) -> String {
    const FILTER: &str = "or filter such rows before it";
    let error = error.find_root();
    let arrow = match error {
        DataFusionError::ArrowError(arrow, _) => Some(&**arrow),
        _ => None,
    };
    match (error, arrow) {
        (_, Some(ArrowError::DivideByZero)) => {
            "division by zero; use nullif(divisor, 0) where NULL will do".into()
        }
        (_, Some(ArrowError::ArithmeticOverflow(what))) => format!(
            "[ARITHMETIC_OVERFLOW] {}; cast an operand to a wider type, such as BIGINT or DECIMAL(38, 0), {FILTER}",
            lower_first(what)
        ),
        (_, Some(ArrowError::CastError(what) | ArrowError::ParseError(what))) => {
            format!(
                "{}; use try_cast where NULL will do, {FILTER}",
                lower_first(&sql_types(what))
            )
        }
        (_, Some(ArrowError::ComputeError(what) | ArrowError::InvalidArgumentError(what)))
        | (DataFusionError::Execution(what), _) => with_remedy(&sql_types(what)),
        // No row's.
        (
            DataFusionError::Internal(_)
            | DataFusionError::Plan(_)
            | DataFusionError::NotImplemented(_),
            _,
        ) => error.strip_backtrace(),
        _ => with_remedy(&error.strip_backtrace()),
    }
}

/// A message that names its remedy behind a semicolon keeps it.
fn with_remedy(message: &str) -> String {
    if ["; use ", "; cast ", "; filter "]
        .iter()
        .any(|remedy| message.contains(remedy))
    {
        message.to_owned()
    } else {
        format!("{message}; filter such rows before it, or guard it with CASE WHEN")
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// Arrow's messages with SQL's names of the types.
fn sql_types(message: &str) -> String {
    const NAMES: [(&str, &str); 10] = [
        ("Int8", "TINYINT"),
        ("Int16", "SMALLINT"),
        ("Int32", "INT"),
        ("Int64", "BIGINT"),
        ("Float32", "FLOAT"),
        ("Float64", "DOUBLE"),
        ("Boolean", "BOOLEAN"),
        ("Date32", "DATE"),
        ("Utf8", "STRING"),
        ("Binary", "BINARY"),
    ];
    let mut message = message.to_owned();
    for (arrow, sql) in NAMES {
        message = message
            .replace(&format!("to value of {arrow} type"), &format!("to {sql}"))
            .replace(&format!("to type {arrow}"), &format!("to {sql}"));
    }
    message
}
