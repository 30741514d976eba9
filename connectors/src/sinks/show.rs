//! A table as `Dataset.show()` prints it: what the console sink, the shell and the tests look at.
//!
//! The rules are Spark's: columns at least three wide; cells right-aligned where they are
//! truncated, left-aligned otherwise; a long cell ends in `...`; line breaks are shown as `\n`;
//! NULL is `NULL`, a struct `{a, b}`, an array `[1, 2]`, a map `{k -> v}`, bytes `[41 42]`. Widths
//! count the cells of a terminal: an East Asian character takes two.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

pub use super::text::Zone;
use super::text::{self, Bytes, CellWriter, Moments, Nulls, Style};
use crate::{Options, Result};

/// How a table is shown.
#[derive(Clone, Copy, Debug)]
pub struct ShowOptions {
    /// At most this many rows.
    pub rows: usize,
    /// The longest cell in characters; `None`: whole cells, left-aligned.
    pub truncate: Option<usize>,
    /// The zone of TIMESTAMP columns.
    pub zone: Zone,
    /// Rows in the order of their cells' text, rather than as they came.
    pub sorted: bool,
}

impl Default for ShowOptions {
    fn default() -> Self {
        Self {
            rows: 20,
            truncate: Some(20),
            zone: Zone::UTC,
            sorted: false,
        }
    }
}

impl ShowOptions {
    /// The options that [`Self::from_options`] reads.
    pub const NAMES: &[&str] = &["numRows", "truncate", "timeZone", "sorted"];

    /// Reads `numRows`, `truncate` (`true`: 20 characters, `false`, or a number), `timeZone` and
    /// `sorted`.
    pub fn from_options(options: &Options) -> Result<Self> {
        let truncate = match options
            .get("truncate")
            .map(|text| text.trim().to_ascii_lowercase())
        {
            None => Some(20),
            Some(text) if text == "true" => Some(20),
            Some(text) if text == "false" => None,
            Some(text) => match text.parse::<usize>() {
                Ok(0) => None,
                Ok(length) => Some(length),
                Err(_) => {
                    let expected = "true, false or a number of characters".into();
                    return Err(options.bad("truncate", expected));
                }
            },
        };
        Ok(Self {
            rows: options.integer("numRows", 0)?.unwrap_or(20) as usize,
            truncate,
            zone: Zone::from_options(options)?,
            sorted: options.boolean("sorted", false)?,
        })
    }
}

/// The table, with a line that says so when there are more rows than shown.
pub fn show(schema: &SchemaRef, batches: &[RecordBatch], options: &ShowOptions) -> Result<String> {
    let header: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| visible(field.name()).into_owned())
        .collect();
    let wanted = if options.sorted {
        usize::MAX
    } else {
        options.rows
    };
    let mut rows = Vec::new();
    let mut total = 0;
    for batch in batches {
        total += batch.num_rows();
        let missing = wanted.saturating_sub(rows.len()).min(batch.num_rows());
        if missing > 0 {
            rows.extend(cells(&batch.slice(0, missing), options.zone)?);
        }
    }
    if options.sorted {
        rows.sort();
        rows.truncate(options.rows);
    }
    for cell in rows.iter_mut().flatten() {
        finish(cell, options.truncate);
    }
    let mut out = draw(&header, &rows, options.truncate.is_some());
    if total > options.rows {
        let word = if options.rows == 1 { "row" } else { "rows" };
        let _ = writeln!(out, "only showing top {} {word}", options.rows);
    }
    Ok(out)
}

/// The text of every value of `batch`, row by row, whole.
pub fn cells(batch: &RecordBatch, zone: Zone) -> Result<Vec<Vec<String>>> {
    let schema = batch.schema();
    let writers = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| value_writer(field.name(), column, zone, Form::SHOW))
        .collect::<Result<Vec<_>>>()?;
    Ok((0..batch.num_rows())
        .map(|row| {
            let text = |write: &CellWriter| {
                let mut text = String::new();
                write(row, &mut text);
                text
            };
            writers.iter().map(text).collect()
        })
        .collect())
}

/// Gives `out` the text of each value of `array` in turn, as `CAST(... AS STRING)`
/// has it: nulls inside nested values are `null`, bytes are text. A null value is given no text.
pub fn cast_text(
    array: &ArrayRef,
    zone: Zone,
    mut out: impl FnMut(Option<&str>),
) -> Result<()> {
    let write = value_writer("", array, zone, Form::CAST)?;
    let nulls = Nulls::of(array);
    let mut text = String::new();
    for row in 0..array.len() {
        if nulls.is_null(row) {
            out(None);
        } else {
            text.clear();
            write(row, &mut text);
            out(Some(&text));
        }
    }
    Ok(())
}

/// The choices of the two forms that a value has as text.
#[derive(Clone, Copy)]
struct Form {
    null: &'static str,
    bytes: Bytes,
}

impl Form {
    /// What `show()` prints.
    const SHOW: Self = Self {
        null: "NULL",
        bytes: Bytes::Hex,
    };
    /// What `CAST(... AS STRING)` gives.
    const CAST: Self = Self {
        null: "null",
        bytes: Bytes::Text,
    };
}

/// How many columns of a terminal `text` takes.
pub fn display_width(text: &str) -> usize {
    text.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

/// Writes a value, nulls included.
fn value_writer(name: &str, array: &ArrayRef, zone: Zone, form: Form) -> Result<CellWriter> {
    let array = text::plain_values(name, array)?;
    let style = Style {
        zone,
        moments: Moments::Sql,
        bytes: form.bytes,
    };
    let write = if let Some((_, write)) = text::scalar(&array, style) {
        write
    } else if let Some((values, range)) = text::elements(&array) {
        let element = value_writer(name, &values, zone, form)?;
        Box::new(move |row, out: &mut String| {
            out.push('[');
            join(out, range(row), |index, out| element(index, out));
            out.push(']');
        })
    } else {
        nested_writer(name, &array, zone, form)?
    };
    let nulls = Nulls::of(&array);
    Ok(Box::new(move |row, out| {
        if nulls.is_null(row) {
            out.push_str(form.null);
        } else {
            write(row, out);
        }
    }))
}

fn nested_writer(name: &str, array: &ArrayRef, zone: Zone, form: Form) -> Result<CellWriter> {
    match array.data_type() {
        DataType::Struct(_) => {
            let fields = array
                .as_struct()
                .columns()
                .iter()
                .map(|column| value_writer(name, column, zone, form))
                .collect::<Result<Vec<_>>>()?;
            Ok(Box::new(move |row, out| {
                out.push('{');
                join(out, 0..fields.len(), |field, out| fields[field](row, out));
                out.push('}');
            }))
        }
        DataType::Map(..) => {
            let map = array.as_map().clone();
            let key = value_writer(name, &Arc::clone(map.keys()), zone, form)?;
            let value = value_writer(name, &Arc::clone(map.values()), zone, form)?;
            Ok(Box::new(move |row, out| {
                let offsets = map.value_offsets();
                out.push('{');
                join(
                    out,
                    offsets[row] as usize..offsets[row + 1] as usize,
                    |entry, out| {
                        key(entry, out);
                        out.push_str(" -> ");
                        value(entry, out);
                    },
                );
                out.push('}');
            }))
        }
        other => Err(text::no_text_form(name, other)),
    }
}

fn join(out: &mut String, items: std::ops::Range<usize>, write: impl Fn(usize, &mut String)) {
    let first = items.start;
    for item in items {
        if item > first {
            out.push_str(", ");
        }
        write(item, out);
    }
}

fn draw(header: &[String], rows: &[Vec<String>], right: bool) -> String {
    let mut widths: Vec<usize> = header
        .iter()
        .map(|name| display_width(name).max(3))
        .collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = display_width(cell).max(*width);
        }
    }
    let rule: String = std::iter::once("+".to_owned())
        .chain(
            widths
                .iter()
                .map(|width| format!("{}+", "-".repeat(*width))),
        )
        .collect();
    let line = |cells: &[String]| {
        let mut out = String::from("|");
        for (width, cell) in widths.iter().zip(cells) {
            let padding = " ".repeat(width - display_width(cell));
            let (left, after) = if right {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            let _ = write!(out, "{left}{cell}{after}|");
        }
        out
    };
    let mut out = format!("{rule}\n{}\n{rule}\n", line(header));
    for row in rows {
        let _ = writeln!(out, "{}", line(row));
    }
    let _ = writeln!(out, "{rule}");
    out
}

/// What would break the table is made visible; what is too long is cut.
fn finish(cell: &mut String, truncate: Option<usize>) {
    if let Cow::Owned(text) = visible(cell) {
        *cell = text;
    }
    let Some(length) = truncate else { return };
    if cell.chars().count() <= length {
        return;
    }
    // As Spark: no ellipsis where it would be all that is left.
    let (keep, end) = if length < 4 {
        (length, "")
    } else {
        (length - 3, "...")
    };
    let at = cell
        .char_indices()
        .nth(keep)
        .map_or(cell.len(), |(at, _)| at);
    cell.truncate(at);
    cell.push_str(end);
}

fn visible(text: &str) -> Cow<'_, str> {
    let mark = |c| match c {
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        '\t' => Some("\\t"),
        '\u{c}' => Some("\\f"),
        '\u{8}' => Some("\\b"),
        '\u{b}' => Some("\\v"),
        '\u{7}' => Some("\\a"),
        _ => None,
    };
    if !text.contains(|c| mark(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match mark(c) {
            Some(name) => out.push_str(name),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The full-width ranges that Spark counts as two.
fn is_wide(c: char) -> bool {
    matches!(u32::from(c),
        0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF
        | 0xFE30..=0xFE4F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Builder;
    use arrow::array::types::Int32Type;
    use arrow::array::{
        BinaryArray, Decimal128Array, Float64Array, Int32Array, ListArray, MapBuilder, StringArray,
        StringBuilder, StructArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn a_table_looks_like_spark_s() {
        let table = batch(vec![
            ("n", Arc::new(Int32Array::from(vec![Some(1), None]))),
            (
                "name",
                Arc::new(StringArray::from(vec!["a name longer than twenty", "a\nb"])),
            ),
        ]);
        let text = show(
            &table.schema(),
            std::slice::from_ref(&table),
            &ShowOptions::default(),
        )
        .unwrap();
        assert_eq!(
            text,
            "+----+--------------------+\n\
             |   n|                name|\n\
             +----+--------------------+\n\
             |   1|a name longer tha...|\n\
             |NULL|                a\\nb|\n\
             +----+--------------------+\n"
        );
        let whole = ShowOptions {
            truncate: None,
            rows: 1,
            ..ShowOptions::default()
        };
        assert_eq!(
            show(&table.schema(), &[table], &whole).unwrap(),
            "+---+-------------------------+\n\
             |n  |name                     |\n\
             +---+-------------------------+\n\
             |1  |a name longer than twenty|\n\
             +---+-------------------------+\n\
             only showing top 1 row\n"
        );
    }

    #[test]
    fn every_kind_of_value() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
        let inner: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        let structs = StructArray::from(vec![
            (
                Arc::new(Field::new("a", DataType::Int32, true)),
                Arc::clone(&inner),
            ),
            (Arc::new(Field::new("b", DataType::Int32, true)), inner),
        ]);
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("k");
        map.values().append_value(1);
        map.append(true).unwrap();
        let moment = TimestampMicrosecondArray::from(vec![1_767_268_800_500_000]);
        let decimal = Decimal128Array::from(vec![100_i128])
            .with_precision_and_scale(10, 2)
            .unwrap();
        let table = batch(vec![
            ("l", Arc::new(list)),
            ("s", Arc::new(structs)),
            ("m", Arc::new(map.finish())),
            ("t", Arc::new(moment.with_timezone("UTC"))),
            ("d", Arc::new(decimal)),
            ("x", Arc::new(BinaryArray::from(vec![b"AB".as_slice()]))),
            ("f", Arc::new(Float64Array::from(vec![1e10]))),
        ]);
        let rows = cells(&table, Zone::parse("+01:00").unwrap()).unwrap();
        assert_eq!(
            rows[0],
            [
                "[1, NULL]",
                "{7, 7}",
                "{k -> 1}",
                "2026-01-01 13:00:00.5",
                "1.00",
                "[41 42]",
                "1.0E10"
            ]
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let table = batch(vec![("c", Arc::new(StringArray::from(vec!["日本", "ab"])))]);
        let text = show(&table.schema(), &[table], &ShowOptions::default()).unwrap();
        assert_eq!(text, "+----+\n|   c|\n+----+\n|日本|\n|  ab|\n+----+\n");
    }

    #[test]
    fn sorted_tables_do_not_depend_on_arrival() {
        let rows = batch(vec![(
            "c",
            Arc::new(StringArray::from(vec!["b", "a", "c"])),
        )]);
        let options = ShowOptions {
            sorted: true,
            rows: 2,
            ..ShowOptions::default()
        };
        let text = show(&rows.schema(), &[rows], &options).unwrap();
        assert!(text.contains("|  a|\n|  b|\n+") && text.ends_with("only showing top 2 rows\n"));
    }

    #[test]
    fn an_empty_table_keeps_its_header() {
        let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Int32, true)]));
        let text = show(&schema, &[], &ShowOptions::default()).unwrap();
        assert_eq!(text, "+---+\n|  c|\n+---+\n+---+\n");
    }
}
