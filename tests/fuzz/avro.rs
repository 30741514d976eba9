//! Avro: records decoded in all modes, and schemas.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde_json::Value;
use tidemark_connectors::format::ParseMode;
use tidemark_connectors::format::avro::{AvroDecoder, AvroEncoder, AvroOptions, AvroSchema};

use crate::fuzz;

fn options(schema: AvroSchema, mode: ParseMode) -> AvroOptions {
    AvroOptions {
        mode,
        corrupt_column: "_corrupt_record".into(),
        schema: Some(Arc::new(schema)),
    }
}

/// The schemas and records that another implementation wrote.
fn cases() -> Vec<(String, Vec<Vec<u8>>)> {
    let text = include_str!("../../connectors/src/format/avro/testdata/fastavro.json");
    let cases: Value = serde_json::from_str(text).expect("JSON");
    let bytes = |hex: &Value| {
        let hex = hex.as_str().expect("hex");
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
            .collect()
    };
    let cases = cases.as_object().expect("cases").values();
    cases
        .map(|case| {
            let records = case["records"].as_array().expect("records");
            (
                case["schema"].to_string(),
                records.iter().map(bytes).collect(),
            )
        })
        .collect()
}

fn decode(
    (schema, columns): (&AvroSchema, &SchemaRef),
    mode: ParseMode,
    record: &[u8],
) -> Result<(RecordBatch, u64), String> {
    let options = options(schema.clone(), mode);
    let decoder = AvroDecoder::new(Arc::clone(columns), options);
    let mut decoder = decoder.map_err(|why| why.to_string())?;
    decoder.push_record(record).map_err(|why| why.reason)?;
    decoder.flush().map_err(|why| why.to_string())
}

#[test]
fn records_are_taken_or_refused() {
    for (text, records) in cases() {
        let schema = AvroSchema::parse(&text).expect("a schema");
        let columns = options(schema.clone(), ParseMode::FailFast).columns(None, false);
        let columns = columns.expect("columns");
        let of = (&schema, &columns);
        fuzz("avro-records", &records, |record| {
            let strict = decode(of, ParseMode::FailFast, record);
            let (lenient, _) = decode(of, ParseMode::Permissive, record)?;
            let (kept, dropped) = decode(of, ParseMode::DropMalformed, record)?;
            match strict {
                Ok((rows, _)) if rows == lenient && rows == kept && dropped == 0 => Ok(()),
                Ok(_) => Err("the modes do not agree about a sound record".into()),
                Err(_) if kept.num_rows() == 0 && dropped == 1 && lenient.num_rows() == 1 => Ok(()),
                Err(why) => Err(format!("the modes do not agree about a bad record: {why}")),
            }
        });
    }
}

#[test]
fn schemas_are_taken_or_refused() {
    let schemas: Vec<Vec<u8>> = cases().into_iter().map(|(text, _)| text.into()).collect();
    fuzz("avro-schemas", &schemas, |text| {
        let text = String::from_utf8_lossy(text);
        let Ok(schema) = AvroSchema::parse(&text) else {
            return Ok(());
        };
        let given = options(schema.clone(), ParseMode::FailFast);
        let Ok(columns) = given.columns(None, false) else {
            return Ok(());
        };
        let _ = AvroEncoder::new(schema, &columns, "it");
        let decoder = AvroDecoder::new(columns, given);
        let mut decoder = decoder.map_err(|why| why.to_string())?;
        let _ = decoder.push_record(&[0; 64]);
        Ok(())
    });
}
