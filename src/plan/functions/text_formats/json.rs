//! `from_json`, `to_json` and what asks JSON documents.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::Options;
use tidemark_connectors::format::RecordOptions;
use tidemark_connectors::format::json::{
    JsonDecoder, JsonInference, JsonPath, array_length, object_keys,
};
use tidemark_connectors::sinks::json::{JsonStyle, texts};

use super::formatted::Formats;
use super::{connector, declaration, declared, malformed, options, record_options};
use crate::plan::functions::define::{Call, Gives, Param, ResultType, function};
use crate::plan::sql::type_name;

fn strings() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let text_and_options = &[Param::Text, Param::Text];
    vec![
        function(
            "from_json",
            &[Param::Text, Param::Text, Param::Text],
            Gives::Of(from_type as ResultType),
            from_json,
        )
        .optional(1)
        .udf(),
        function("to_json", &[Param::Any, Param::Text], DataType::Utf8, to_json)
            .optional(1)
            .coerced(|_, types| {
                let nested = matches!(
                    types[0],
                    DataType::Struct(_) | DataType::List(_) | DataType::Map(..)
                );
                if !nested {
                    return plan_err!(
                        "[DATATYPE_MISMATCH.INVALID_JSON_SCHEMA] to_json takes a STRUCT, an ARRAY or a MAP, not {}; use struct(...)",
                        type_name(&types[0])
                    );
                }
                let mut wanted = vec![types[0].clone()];
                wanted.resize(types.len(), DataType::Utf8);
                Ok(wanted)
            })
            .udf(),
        function("schema_of_json", text_and_options, DataType::Utf8, |call| {
            let options = options(call, 1)?;
            let documents = call.text(0);
            call.texts(|row, out| {
                let Some(document) = documents.get(row) else {
                    return Ok(None);
                };
                out.push_str(&schema_of_json(document, &options)?);
                Ok(Some(()))
            })
        })
        .optional(1)
        .udf(),
        function("get_json_object", text_and_options, DataType::Utf8, get_json_object).udf(),
        function("json_array_length", &[Param::Text], DataType::Int32, |call| {
            let documents = call.text(0);
            call.values::<Int32Type>(|row| {
                let length = documents.get(row).and_then(array_length);
                Ok(length.and_then(|length| i32::try_from(length).ok()))
            })
        })
        .udf(),
        function("json_object_keys", &[Param::Text], strings(), |call| {
            let documents = call.text(0);
            lists(call, |row| {
                let keys = object_keys(documents.get(row)?)?;
                Some(keys.into_iter().map(Some).collect())
            })
        })
        .udf(),
    ]
}

fn lists(call: &Call, values: impl Fn(usize) -> Option<Vec<Option<String>>>) -> Result<ArrayRef> {
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows() {
        let found = values(row);
        let there = found.is_some();
        for value in found.into_iter().flatten() {
            out.values().append_option(value);
        }
        out.append(there);
    }
    Ok(Arc::new(out.finish()))
}

fn from_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let found = declared("from_json", constants)?;
    match found {
        DataType::Struct(_) | DataType::List(_) | DataType::Map(..) => Ok(found),
        other => plan_err!(
            "[DATATYPE_MISMATCH.INVALID_JSON_SCHEMA] from_json gives a STRUCT, an ARRAY or a MAP, not {}; use a schema such as 'a INT'",
            type_name(&other)
        ),
    }
}

/// Options of Spark's parser that change what is JSON, and the values that they have here.
const FIXED: [(&str, bool); 8] = [
    ("allowComments", false),
    ("allowUnquotedFieldNames", false),
    ("allowSingleQuotes", true),
    ("allowNumericLeadingZeros", false),
    ("allowNonNumericNumbers", true),
    ("allowBackslashEscapingAnyCharacter", false),
    ("allowUnquotedControlChars", false),
    ("primitivesAsString", false),
];

fn check_fixed(options: &Options) -> Result<()> {
    for (key, fixed) in FIXED {
        if options.boolean(key, fixed).map_err(connector)? != fixed {
            return plan_err!("'{key}' = '{}' is not there yet; leave it out", !fixed);
        }
    }
    Ok(())
}

fn from_json(call: &Call) -> Result<ArrayRef> {
    let options = options(call, 2)?;
    check_fixed(&options)?;
    let record = record_options(&options, "from_json")?;
    match call.returns() {
        DataType::Struct(fields) => {
            let schema = Arc::new(Schema::new(fields.clone()));
            let decoder = JsonDecoder::new(schema, record).map_err(connector)?;
            let (columns, nulls) = decode(call, decoder, |document, decoder| {
                decoder.push_object(document)
            })?;
            Ok(Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                Some(nulls),
                call.rows(),
            )?))
        }
        other => {
            // An object alone is taken for an array of one.
            let alone = matches!(other, DataType::List(item) if item.data_type().is_nested());
            let field = Field::new("value", other.clone(), true);
            // The decoder sees `{"value": ...}`, and no corrupt record column.
            let record = RecordOptions {
                corrupt_column: String::new(),
                ..record
            };
            let decoder = JsonDecoder::new(Arc::new(Schema::new(vec![field])), record);
            let mut wrapped = Vec::new();
            let (columns, _) = decode(call, decoder.map_err(connector)?, |document, decoder| {
                let alone = alone && document.trim_ascii_start().starts_with(b"{");
                let (open, close): (&[u8], &[u8]) = if alone { (b"[", b"]}") } else { (b"", b"}") };
                wrapped.clear();
                for part in [b"{\"value\":", open, document, close] {
                    wrapped.extend_from_slice(part);
                }
                decoder.push_object(&wrapped)
            })?;
            Ok(Arc::clone(&columns[0]))
        }
    }
}

/// Decodes the documents of argument 0 row by row with `push`; gives the columns and which rows are
/// null: those without a document, and those with a blank one.
fn decode(
    call: &Call,
    mut decoder: JsonDecoder,
    mut push: impl FnMut(&[u8], &mut JsonDecoder) -> Result<(), tidemark_connectors::format::Malformed>,
) -> Result<(Vec<ArrayRef>, NullBuffer)> {
    let documents = call.text(0);
    let mut valid = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let document = documents.get(row).filter(|text| !text.trim().is_empty());
        valid.push(document.is_some());
        match document {
            Some(document) => push(document.as_bytes(), &mut decoder),
            None => decoder.push_object(b"{}"),
        }
        .map_err(malformed)?;
    }
    let (batch, _) = decoder.flush().map_err(connector)?;
    Ok((batch.columns().to_vec(), NullBuffer::from(valid)))
}

fn to_json(call: &Call) -> Result<ArrayRef> {
    let options = options(call, 1)?;
    let is_pretty = options.boolean("pretty", false).map_err(connector)?;
    let formats = Formats::new(&options)?;
    let style = JsonStyle {
        zone: formats.zone,
        ignore_nulls: options
            .boolean("ignoreNullFields", true)
            .map_err(connector)?,
    };
    let array = formats.apply(&call.array(0)?)?;
    let texts = texts(&array, style).map_err(connector)?;
    if is_pretty {
        let spread = texts.iter().map(|text| text.map(pretty));
        return Ok(Arc::new(spread.collect::<StringArray>()));
    }
    Ok(Arc::new(texts))
}

/// A compact JSON text spread over lines, as Spark's `pretty` has it: each field of an object on a
/// line of its own, arrays on one.
fn pretty(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    // The brackets that are open.
    let mut open: Vec<char> = vec![];
    let mut chars = compact.chars().peekable();
    let break_line = |out: &mut String, open: &[char]| {
        let depth = open.iter().filter(|bracket| **bracket == '{').count();
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push(c);
                while let Some(c) = chars.next() {
                    out.push(c);
                    match c {
                        '\\' => out.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(' ');
                    out.push(close);
                    continue;
                }
                open.push(c);
                if c == '{' {
                    break_line(&mut out, &open);
                } else {
                    out.push(' ');
                }
            }
            '}' => {
                open.pop();
                break_line(&mut out, &open);
                out.push(c);
            }
            ']' => {
                open.pop();
                out.push_str(" ]");
            }
            ',' if open.last() == Some(&'{') => {
                out.push(c);
                break_line(&mut out, &open);
            }
            ',' => out.push_str(", "),
            ':' => out.push_str(" : "),
            other => out.push(other),
        }
    }
    out
}

/// The declaration of the type that a JSON value has.
pub fn schema_of_json(document: &str, options: &Options) -> Result<String> {
    check_fixed(options)?;
    let record = RecordOptions::new(options).map_err(connector)?;
    let inference = JsonInference::new(&record, false);
    let found = inference.type_of(document.as_bytes()).map_err(malformed)?;
    Ok(declaration(&found))
}

fn get_json_object(call: &Call) -> Result<ArrayRef> {
    let (documents, paths) = (call.text(0), call.text(1));
    // Rows mostly have the same path.
    let mut last: Option<(&str, Option<JsonPath>)> = None;
    call.texts(|row, out| {
        let (Some(document), Some(text)) = (documents.get(row), paths.get(row)) else {
            return Ok(None);
        };
        if last.as_ref().is_none_or(|(known, _)| *known != text) {
            last = Some((text, JsonPath::parse(text)));
        }
        let path = last.as_ref().and_then(|(_, path)| path.as_ref());
        let found = path.is_some_and(|path| path.find(document, out));
        Ok(found.then_some(()))
    })
}
