//! CSV: decoded under all kinds of options and modes, and inferred.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemark_connectors::Options;
use tidemark_connectors::format::csv::{CsvDecoder, CsvInference, CsvOptions};

use crate::{entries, fuzz};

fn schema() -> SchemaRef {
    let field = |name: &str, kind| Field::new(name, kind, true);
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        field("s", DataType::Utf8),
        field("i", DataType::Int32),
        field("d", DataType::Float64),
        field("dec", DataType::Decimal128(10, 2)),
        field("day", DataType::Date32),
        field("ts", zoned),
        field("b", DataType::Boolean),
        field("_corrupt_record", DataType::Utf8),
    ]))
}

/// Ways to write CSV; each is tried in every mode.
fn styles() -> Vec<Options> {
    let style = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Options>();
    vec![
        style(&[]),
        style(&[
            ("header", "true"),
            ("comment", "#"),
            ("nullValue", "NA"),
            ("emptyValue", "E"),
        ]),
        style(&[
            ("sep", "||"),
            ("quote", "'"),
            ("escape", "'"),
            ("multiLine", "true"),
        ]),
        style(&[
            ("quote", ""),
            ("escape", ""),
            ("ignoreLeadingWhiteSpace", "true"),
        ]),
        style(&[
            ("ignoreTrailingWhiteSpace", "true"),
            ("multiLine", "true"),
            ("header", "true"),
        ]),
        style(&[
            ("dateFormat", "dd.MM.yy"),
            ("timestampFormat", "yyyy/M/d H:m[:s]"),
            ("sep", "\\t"),
        ]),
    ]
}

fn decode(
    input: &[u8],
    fields: &Schema,
    wanted: &SchemaRef,
    options: &CsvOptions,
) -> Result<Vec<RecordBatch>, String> {
    let mut decoder = CsvDecoder::new(fields, SchemaRef::clone(wanted), options.clone(), true)
        .map_err(|error| error.to_string())?;
    let (mut at, mut batches) = (0, vec![]);
    while at < input.len() {
        let taken = decoder.push_lines(&input[at..]).map_err(|bad| bad.reason)?;
        at += taken;
        assert!(
            taken != 0 || decoder.is_full(),
            "the decoder stands still at byte {at}"
        );
        if decoder.is_full() {
            batches.push(decoder.flush().map_err(|error| error.to_string())?.0);
        }
    }
    batches.push(decoder.flush().map_err(|error| error.to_string())?.0);
    Ok(batches)
}

#[test]
fn lines_are_decoded_or_corrupt() {
    let schema = schema();
    let modes = ["PERMISSIVE", "DROPMALFORMED", "FAILFAST"];
    let styles: Vec<[CsvOptions; 3]> = styles()
        .into_iter()
        .map(|style| {
            modes.map(|mode| {
                let mut style = style.clone();
                style.set("mode", mode);
                CsvOptions::new(&style).unwrap()
            })
        })
        .collect();
    fuzz("csv", &entries(include_str!("corpus/csv.txt")), |input| {
        for style in &styles {
            let [permissive, dropping, strict] = style
                .each_ref()
                .map(|options| decode(input, &schema, &schema, options));
            let (permissive, dropping) = (permissive?, dropping?);
            if let Ok(strict) = strict
                && (strict != permissive || strict != dropping)
            {
                return Err("the modes do not agree about sound records".into());
            }
            infer(input, &style[0])?;
        }
        Ok(())
    });
}

/// A schema found in lines reads them.
fn infer(input: &[u8], options: &CsvOptions) -> Result<(), String> {
    for types in [true, false] {
        let mut inference = CsvInference::new(options.clone(), types);
        inference.push_lines(input, true);
        let schema = Arc::new(inference.finish());
        decode(input, &schema, &schema, options)?;
    }
    Ok(())
}
