//! JSON records: decoded in every mode, inferred, and held against `serde_json` where both take them.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use serde_json::Value;
use std::sync::Arc;
use tidemark_connectors::format::json::{JsonDecoder, JsonInference};
use tidemark_connectors::format::{ParseMode, RecordOptions};

use crate::{entries, fuzz};

fn schema() -> SchemaRef {
    let field = |name: &str, kind| Field::new(name, kind, true);
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let inner = vec![field("x", DataType::Int32), field("y", DataType::Utf8)];
    let pair = vec![
        Field::new("keys", DataType::Utf8, false),
        field("values", DataType::Int64),
    ];
    let entries = Field::new("entries", DataType::Struct(pair.into()), false);
    Arc::new(Schema::new(vec![
        field("s", DataType::Utf8),
        field("i", DataType::Int64),
        field("d", DataType::Float64),
        field("b", DataType::Boolean),
        field("small", DataType::Int8),
        field("dec", DataType::Decimal128(10, 2)),
        field("day", DataType::Date32),
        field("ts", zoned),
        field("local", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("bin", DataType::Binary),
        field(
            "a",
            DataType::List(Arc::new(field("item", DataType::Int64))),
        ),
        field("o", DataType::Struct(inner.into())),
        field("m", DataType::Map(Arc::new(entries), false)),
        field("_corrupt_record", DataType::Utf8),
    ]))
}

fn decode(
    record: &[u8],
    schema: &SchemaRef,
    mode: ParseMode,
) -> Result<(RecordBatch, u64), String> {
    let options = RecordOptions {
        mode,
        ..RecordOptions::default()
    };
    let mut decoder =
        JsonDecoder::new(SchemaRef::clone(schema), options).map_err(|e| e.to_string())?;
    decoder.push_record(record).map_err(|bad| bad.reason)?;
    decoder.flush().map_err(|error| error.to_string())
}

#[test]
fn records_are_decoded_or_corrupt() {
    let schema = schema();
    fuzz("json", &entries(include_str!("corpus/json.txt")), |input| {
        let strict = decode(input, &schema, ParseMode::FailFast);
        let (lenient, _) = decode(input, &schema, ParseMode::Permissive)?;
        let (kept, dropped) = decode(input, &schema, ParseMode::DropMalformed)?;
        match &strict {
            Ok((rows, _)) if *rows == lenient && *rows == kept && dropped == 0 => {}
            Ok(_) => return Err("the modes do not agree about a sound record".into()),
            Err(_) if kept.num_rows() == 0 && dropped == 1 && lenient.num_rows() > 0 => {}
            Err(why) => return Err(format!("the modes do not agree about a bad record: {why}")),
        }
        if let Ok((rows, _)) = &strict
            && let Ok(Value::Object(object)) = serde_json::from_slice(input)
        {
            same(rows, &object)?;
        }
        infer(input)
    });
}

/// A schema found in a record decodes that record.
fn infer(input: &[u8]) -> Result<(), String> {
    let mut inference = JsonInference::new(&RecordOptions::default(), false);
    inference.push_record(input);
    let schema = Arc::new(inference.finish());
    let corrupt = schema.column_with_name("_corrupt_record").is_some();
    match decode(input, &schema, ParseMode::FailFast) {
        Err(why) if !corrupt => Err(format!("inferred {schema} and could not decode: {why}")),
        _ => Ok(()),
    }
}

/// The plain values are those that `serde_json` finds.
fn same(rows: &RecordBatch, object: &serde_json::Map<String, Value>) -> Result<(), String> {
    if rows.num_rows() != 1 {
        return Err(format!("{} rows of one object", rows.num_rows()));
    }
    let column = |name: &str| rows.column_by_name(name).expect("the schema has it");
    let found = |name: &str| Some(column(name)).filter(|column| column.is_valid(0));
    let text = found("s").map(|s| s.as_string::<i32>().value(0).to_owned());
    let whole = found("i").map(|i| i.as_primitive::<Int64Type>().value(0));
    let double = found("d").map(|d| d.as_primitive::<Float64Type>().value(0));
    let truth = found("b").map(|b| b.as_boolean().value(0));
    let agrees = [
        match object.get("s") {
            None | Some(Value::Null) => text.is_none(),
            Some(Value::String(wanted)) => text.as_ref() == Some(wanted),
            Some(_) => text.is_some(),
        },
        match object.get("i") {
            None | Some(Value::Null) => whole.is_none(),
            // To serde_json -0 is no whole number.
            Some(wanted) if wanted.as_f64() == Some(0.0) => whole == Some(0),
            Some(wanted) => whole.is_some() && wanted.as_i64() == whole,
        },
        match object.get("d") {
            // serde_json may be one step beside the nearest double.
            Some(Value::Number(wanted)) => (double.zip(wanted.as_f64()))
                .is_some_and(|(found, wanted)| found.to_bits().abs_diff(wanted.to_bits()) <= 1),
            None | Some(Value::Null) => double.is_none(),
            Some(_) => true,
        },
        match object.get("b") {
            None | Some(Value::Null) => truth.is_none(),
            Some(wanted) => wanted.as_bool() == truth,
        },
    ];
    if agrees.iter().all(|agrees| *agrees) {
        Ok(())
    } else {
        Err(format!(
            "serde_json finds other values: {text:?} {whole:?} {double:?} {truth:?}"
        ))
    }
}
