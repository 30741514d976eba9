//! Rows as CSV, as Spark's CSV writer puts them.
//!
//! A field is quoted where it holds the separator, the quote or a line break; quotes and escape
//! characters in a quoted field are escaped. The empty text is `""`, null is `nullValue`. Nested
//! values are JSON, bytes base64. Unlike Spark, white space around a text stays.

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder, StructArray};
use arrow::datatypes::Schema;

use super::json::{self, JsonStyle};
use super::text::{self, Bytes, CellWriter, Moments, Nulls, Style, Zone};
use crate::{Options, Result};

/// How CSV is written.
#[derive(Clone, Debug)]
pub(crate) struct CsvOptions {
    pub(crate) header: bool,
    pub(crate) sep: String,
    pub(crate) quote: char,
    pub(crate) escape: char,
    pub(crate) null_value: String,
}

impl CsvOptions {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            header: options.boolean("header", false)?,
            sep: separator(options)?,
            quote: character(options, "quote", '"')?,
            escape: character(options, "escape", '\\')?,
            null_value: options.get("nullValue").unwrap_or_default().into(),
        })
    }
}

fn separator(options: &Options) -> Result<String> {
    let key = if options.get("sep").is_some() {
        "sep"
    } else {
        "delimiter"
    };
    match options.get(key) {
        None => Ok(",".into()),
        Some("\\t") => Ok("\t".into()),
        Some(sep) if !sep.is_empty() && !sep.contains(['\n', '\r']) => Ok(sep.into()),
        Some(_) => Err(options.bad(key, "one or more characters, such as ',' or '\\t'".into())),
    }
}

fn character(options: &Options, key: &str, default: char) -> Result<char> {
    let Some(text) = options.get(key) else {
        return Ok(default);
    };
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(only), None) if !only.is_ascii_control() => Ok(only),
        _ => Err(options.bad(key, "one character".into())),
    }
}

/// The structs of an array as CSV records, a text for each that is not null.
pub fn texts(structs: &StructArray, options: &Options, zone: Zone) -> Result<StringArray> {
    let batch = RecordBatch::from(StructArray::new(
        structs.fields().clone(),
        structs.columns().to_vec(),
        None,
    ));
    let write = rows(&batch, &CsvOptions::new(options)?, zone)?;
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for row in 0..structs.len() {
        text.clear();
        let valid = structs.is_valid(row);
        if valid {
            write(row, &mut text);
        }
        out.append_option(valid.then_some(&text));
    }
    Ok(out.finish())
}

/// The line of names, with its line break.
pub(crate) fn header(schema: &Schema, options: &CsvOptions) -> String {
    let mut out = String::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            out.push_str(&options.sep);
        }
        let start = out.len();
        out.push_str(field.name());
        quote(&mut out, start, options);
    }
    out.push('\n');
    out
}

/// A writer of whole rows of `batch`, without a line break.
pub(crate) fn rows(batch: &RecordBatch, options: &CsvOptions, zone: Zone) -> Result<CellWriter> {
    let schema = batch.schema();
    let cells = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let column = text::plain_values(field.name(), column)?;
            Ok((Nulls::of(&column), cell(field.name(), &column, zone)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let options = options.clone();
    Ok(Box::new(move |row, out| {
        let line = out.len();
        for (index, (nulls, write)) in cells.iter().enumerate() {
            if index > 0 {
                out.push_str(&options.sep);
            }
            if nulls.is_null(row) {
                out.push_str(&options.null_value);
            } else {
                let start = out.len();
                write(row, out);
                quote(out, start, &options);
            }
        }
        if out.len() == line {
            // Readers pass over blank lines; a row of one null would be lost.
            out.extend([options.quote, options.quote]);
        }
    }))
}

fn cell(name: &str, column: &ArrayRef, zone: Zone) -> Result<CellWriter> {
    let style = Style {
        zone,
        moments: Moments::Iso,
        bytes: Bytes::Base64,
    };
    match text::scalar(column, style) {
        Some((_, write)) => Ok(write),
        None => json::values(
            name,
            column,
            JsonStyle {
                zone,
                ignore_nulls: true,
            },
        ),
    }
}

/// Quotes what stands in `out` from `start` on, if it must be.
fn quote(out: &mut String, start: usize, options: &CsvOptions) {
    let text = &out[start..];
    let special = text.is_empty()
        || text.contains(['\n', '\r', options.quote])
        || text.contains(options.sep.as_str());
    if !special {
        return;
    }
    let text = out.split_off(start);
    out.push(options.quote);
    for c in text.chars() {
        if c == options.quote || c == options.escape {
            out.push(options.escape);
        }
        out.push(c);
    }
    out.push(options.quote);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::types::Int32Type;
    use arrow::array::{Float64Array, ListArray, StringArray};

    use super::*;

    fn options() -> CsvOptions {
        let null_value = String::new();
        CsvOptions {
            header: true,
            sep: ",".into(),
            quote: '"',
            escape: '\\',
            null_value,
        }
    }

    fn text(columns: Vec<(&str, ArrayRef)>) -> Vec<String> {
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let write = rows(&batch, &options(), Zone::UTC).unwrap();
        let row = |row| {
            let mut out = String::new();
            write(row, &mut out);
            out
        };
        (0..batch.num_rows()).map(row).collect()
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let strings = StringArray::from(vec![
            Some("plain"),
            Some("a,b"),
            Some("say \"hi\""),
            Some(""),
            None,
            Some("back\\slash"),
            Some("both\\,"),
        ]);
        let numbers = Float64Array::from(vec![Some(1.0), None, None, None, None, None, None]);
        assert_eq!(
            text(vec![("s", Arc::new(strings)), ("n", Arc::new(numbers))]),
            [
                "plain,1.0",
                "\"a,b\",",
                "\"say \\\"hi\\\"\",",
                "\"\",",
                ",",
                "back\\slash,",
                "\"both\\\\,\","
            ]
        );
    }

    #[test]
    fn nested_values_are_json_and_a_lone_null_is_no_blank_line() {
        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), None]);
        assert_eq!(text(vec![("l", Arc::new(list))]), ["\"[1,2]\"", "\"\""]);
    }

    #[test]
    fn the_header_is_quoted_too() {
        use arrow::datatypes::{DataType, Field};
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b,c", DataType::Int32, true),
        ]);
        assert_eq!(header(&schema, &options()), "a,\"b,c\"\n");
    }
}
