//! Rows as JSON, as Spark's JSON writer puts them.
//!
//! A struct is an object, an array an array, a map an object whose names are the keys' text. NaN
//! and the infinities are strings; decimals are numbers, written plainly; moments, dates and
//! intervals are strings; bytes are base64. Null fields of an object are left out unless asked
//! for; nulls in arrays and maps always stay.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, FieldRef, Fields};

use super::text::{self, Bytes, CellWriter, Kind, Moments, Nulls, Style, Zone};
use crate::Result;

/// How JSON is written.
#[derive(Clone, Copy, Debug)]
pub struct JsonStyle {
    /// The zone of TIMESTAMP values.
    pub zone: Zone,
    /// Whether null fields of an object are left out.
    pub ignore_nulls: bool,
}

/// The values of `array` as JSON, a text for each that is not null.
pub fn texts(array: &ArrayRef, style: JsonStyle) -> Result<StringArray> {
    let write = values("value", array, style)?;
    let nulls = Nulls::of(array);
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for row in 0..array.len() {
        text.clear();
        if !nulls.is_null(row) {
            write(row, &mut text);
        }
        out.append_option((!nulls.is_null(row)).then_some(&text));
    }
    Ok(out.finish())
}

/// A writer of whole rows of `batch`, without a line break.
pub(crate) fn rows(batch: &RecordBatch, style: JsonStyle) -> Result<CellWriter> {
    object(batch.schema_ref().fields(), batch.columns(), style)
}

/// A writer of the values of one column, nulls included.
pub(crate) fn values(name: &str, array: &ArrayRef, style: JsonStyle) -> Result<CellWriter> {
    let array = text::plain_values(name, array)?;
    let write = not_null(name, &array, style)?;
    let nulls = Nulls::of(&array);
    Ok(Box::new(move |row, out| {
        if nulls.is_null(row) {
            out.push_str("null");
        } else {
            write(row, out);
        }
    }))
}

fn not_null(name: &str, array: &ArrayRef, style: JsonStyle) -> Result<CellWriter> {
    let text_style = Style {
        zone: style.zone,
        moments: Moments::Iso,
        bytes: Bytes::Base64,
    };
    if let Some((kind, write)) = text::scalar(array, text_style) {
        return Ok(quoted(kind, write));
    }
    if let Some((elements, range)) = text::elements(array) {
        let element = values(name, &elements, style)?;
        return Ok(Box::new(move |row, out| {
            out.push('[');
            for (position, index) in range(row).enumerate() {
                if position > 0 {
                    out.push(',');
                }
                element(index, out);
            }
            out.push(']');
        }));
    }
    match array.data_type() {
        DataType::Struct(fields) => object(fields, array.as_struct().columns(), style),
        DataType::Map(..) => {
            let map = array.as_map().clone();
            let key = map_key(name, map.keys(), style)?;
            let value = values(name, map.values(), style)?;
            Ok(Box::new(move |row, out| {
                let offsets = map.value_offsets();
                out.push('{');
                for entry in offsets[row]..offsets[row + 1] {
                    if entry > offsets[row] {
                        out.push(',');
                    }
                    key(entry as usize, out);
                    out.push(':');
                    value(entry as usize, out);
                }
                out.push('}');
            }))
        }
        other => Err(text::no_text_form(name, other)),
    }
}

/// A map's keys are names: whatever they are, in quotes.
fn map_key(name: &str, keys: &ArrayRef, style: JsonStyle) -> Result<CellWriter> {
    let keys = text::plain_values(name, keys)?;
    let text_style = Style {
        zone: style.zone,
        moments: Moments::Sql,
        bytes: Bytes::Base64,
    };
    let inner = match text::scalar(&keys, text_style) {
        Some((_, write)) => write,
        None => values(name, &keys, style)?,
    };
    Ok(quoted(Kind::Text, inner))
}

fn object(fields: &Fields, columns: &[ArrayRef], style: JsonStyle) -> Result<CellWriter> {
    let member = |(field, column): (&FieldRef, &ArrayRef)| {
        let mut name = String::new();
        string(&mut name, field.name());
        name.push(':');
        let nulls = Nulls::of(&text::plain_values(field.name(), column)?);
        Ok((name, nulls, values(field.name(), column, style)?))
    };
    let members = fields
        .iter()
        .zip(columns)
        .map(member)
        .collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move |row, out| {
        out.push('{');
        let start = out.len();
        for (name, nulls, write) in &members {
            if style.ignore_nulls && nulls.is_null(row) {
                continue;
            }
            if out.len() > start {
                out.push(',');
            }
            out.push_str(name);
            write(row, out);
        }
        out.push('}');
    }))
}

fn quoted(kind: Kind, write: CellWriter) -> CellWriter {
    match kind {
        Kind::Bare => write,
        Kind::Plain => Box::new(move |row, out| {
            out.push('"');
            write(row, out);
            out.push('"');
        }),
        Kind::Float => Box::new(move |row, out| {
            let start = out.len();
            write(row, out);
            if out.ends_with(|c: char| c.is_ascii_alphabetic()) {
                out.insert(start, '"');
                out.push('"');
            }
        }),
        Kind::Text => Box::new(move |row, out| {
            // Written in place; rewritten only where something wants an escape.
            out.push('"');
            let start = out.len();
            write(row, out);
            if out.as_bytes()[start..]
                .iter()
                .any(|byte| needs_escape(*byte))
            {
                let text = out.split_off(start);
                escape(out, &text);
            }
            out.push('"');
        }),
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// A JSON string.
pub(crate) fn string(out: &mut String, text: &str) {
    out.push('"');
    escape(out, text);
    out.push('"');
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::types::Int32Type;
    use arrow::array::{
        Float64Array, Int32Array, Int32Builder, ListArray, MapBuilder, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Field;

    use std::sync::Arc;

    use super::*;

    #[test]
    fn rows_read_as_spark_writes_them() {
        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let inner: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(7)]));
        let structs = StructArray::from(vec![(
            Arc::new(Field::new("a", DataType::Int32, true)),
            inner,
        )]);
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("k");
        map.values().append_null();
        map.append(true).unwrap();
        map.append(false).unwrap();
        let moments = TimestampMicrosecondArray::from(vec![Some(1_767_268_800_000_000), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "s",
                Arc::new(StringArray::from(vec![Some("a\"\\\n\u{1}ü"), None])),
            ),
            ("f", Arc::new(Float64Array::from(vec![f64::NAN, 1e10]))),
            ("l", Arc::new(list)),
            ("o", Arc::new(structs)),
            ("m", Arc::new(map.finish())),
            ("t", Arc::new(moments.with_timezone("UTC"))),
        ];
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let text = |row, ignore_nulls| {
            let mut out = String::new();
            rows(
                &batch,
                JsonStyle {
                    zone: Zone::UTC,
                    ignore_nulls,
                },
            )
            .unwrap()(row, &mut out);
            out
        };
        assert_eq!(
            text(0, true),
            r#"{"s":"a\"\\\n\u0001ü","f":"NaN","l":[1,null],"o":{},"m":{"k":null},"t":"2026-01-01T12:00:00.000Z"}"#
        );
        assert_eq!(text(1, true), r#"{"f":1.0E10,"o":{"a":7}}"#);
        assert_eq!(
            text(1, false),
            r#"{"s":null,"f":1.0E10,"l":null,"o":{"a":7},"m":null,"t":null}"#
        );
        for row in 0..2 {
            assert!(serde_json::from_str::<serde_json::Value>(&text(row, false)).is_ok());
        }
    }
}
