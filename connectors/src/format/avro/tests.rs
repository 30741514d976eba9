//! Records of another implementation (`testdata/make.py`), and what becomes of broken ones.

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{Field, Fields, TimeUnit};
use arrow::util::display::array_value_to_string;
use serde_json::{Value, json};

use super::*;

/// The schema and the records of a case.
fn case(name: &str) -> (String, Vec<Vec<u8>>) {
    let cases: Value = serde_json::from_str(include_str!("testdata/fastavro.json")).expect("JSON");
    let digits = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("hex");
        u8::from_str_radix(text, 16).expect("hex")
    };
    let bytes = |hex: &Value| {
        let hex = hex.as_str().expect("hex").as_bytes();
        hex.chunks(2).map(digits).collect()
    };
    let records = cases[name]["records"].as_array().expect("records");
    (
        cases[name]["schema"].to_string(),
        records.iter().map(bytes).collect(),
    )
}

fn options(schema: &str) -> AvroOptions {
    AvroOptions {
        mode: ParseMode::FailFast,
        corrupt_column: CORRUPT_RECORD.into(),
        schema: Some(Arc::new(AvroSchema::parse(schema).expect("a schema"))),
    }
}

fn columns(fields: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, of): &(&str, DataType)| Field::new(*name, of.clone(), true);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Fields>()))
}

fn rows(batch: &RecordBatch) -> Vec<String> {
    let text = |column: &ArrayRef, row| array_value_to_string(column, row).expect("a value");
    (0..batch.num_rows())
        .map(|row| {
            let values = batch.columns().iter().map(|column| text(column, row));
            values.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

fn decode(decoder: &mut AvroDecoder, records: &[Vec<u8>]) -> RecordBatch {
    for record in records {
        decoder.push_record(record).expect("a record");
    }
    decoder.flush().expect("a batch").0
}

fn encode(encoder: &AvroEncoder, batch: &RecordBatch) -> Vec<Vec<u8>> {
    let write = encoder.rows(batch).expect("rows that fit");
    let mut records = vec![vec![]; batch.num_rows()];
    for (row, out) in records.iter_mut().enumerate() {
        write(row, out).expect("a row that fits");
    }
    records
}

#[test]
fn every_type_is_read_as_another_implementation_wrote_it_and_written_so_again() {
    let (schema, records) = case("all");
    let options = options(&schema);
    let columns = options.columns(None, false).expect("columns");
    let mut decoder = AvroDecoder::new(Arc::clone(&columns), options).expect("a decoder");
    let batch = decode(&mut decoder, &records);
    let rows = rows(&batch);
    assert_eq!(
        rows[0],
        "true 0 0 0.0 0.0   00ff00 RED 1970-01-01 2026-01-01T00:00:00.123Z 1960-01-01T00:00:00.123456Z 2026-01-01T12:00:00.000001 0.00 0.000 there  [] {} {a: RED, z: z}"
    );
    assert_eq!(
        rows[3],
        "false 2144483639 -19683 0.75 -1.0 üüü 000102 03ff00 GREEN 1961-10-15 2026-01-01T00:00:03.123Z 1960-01-01T00:00:03.123456Z 2026-01-01T12:03:00.000001 -1771.47 -3.702 there  [, 1, ] {0: 0.0, 1: 0.5, 2: 1.0} {a: RED, z: }"
    );
    let schema = AvroSchema::parse(&schema).expect("a schema");
    let encoder = AvroEncoder::new(schema, &columns, "test").expect("columns that fit");
    assert_eq!(encode(&encoder, &batch), records);
}

#[test]
fn an_older_schema_gives_the_columns_of_a_newer_one() {
    let (schema, records) = case("old");
    let reader = json!({"type": "record", "name": "User", "fields": [
        {"name": "login", "aliases": ["name"], "type": ["null", "string"]},
        {"name": "id", "type": "long"},
        {"name": "score", "type": "double"},
        {"name": "colour", "type": {"type": "enum", "name": "C", "symbols": ["RED", "BLUE"]}, "default": "BLUE"},
        {"name": "at", "type": {"type": "record", "name": "At", "fields": [
            {"name": "y", "type": {"type": "array", "items": "int"}, "default": [1, 2]},
            {"name": "x", "type": "long"}]}},
        {"name": "new", "type": ["null", "int"], "default": null}]});
    let options = options(&reader.to_string());
    let declared = options.columns(None, true).expect("columns");
    let mut decoder = AvroDecoder::framed(declared, options).expect("a decoder");
    let frame = |record: &Vec<u8>| [&[0, 0, 0, 1, 2][..], record].concat();
    let records: Vec<Vec<u8>> = records.iter().map(frame).collect();
    assert_eq!(decoder.unknown(&records[0]), Some(258));
    decoder.define(258, AvroSchema::parse(&schema).map(Arc::new));
    assert_eq!(decoder.unknown(&records[0]), None);
    assert_eq!(
        rows(&decode(&mut decoder, &records)),
        [
            "ada 7 1.5 BLUE {y: [1, 2], x: 1} ",
            " -7 -0.5 BLUE {y: [1, 2], x: 2} ",
            " 0 0.0 BLUE {y: [1, 2], x: 3} ",
            " 1 0.0 BLUE {y: [1, 2], x: 4} ",
        ]
    );
}

#[test]
fn a_union_is_the_one_type_that_is_declared_or_a_struct_of_all() {
    let (schema, records) = case("old");
    let options = options(&schema);
    let all = options.columns(None, false).expect("columns");
    let choice = all.field_with_name("choice").expect("a field").clone();
    let one = Arc::new(Schema::new(vec![choice]));
    let mut decoder = AvroDecoder::new(one, options.clone()).expect("a decoder");
    assert_eq!(
        rows(&decode(&mut decoder, &records)),
        [
            "{member0: 5, member1: , member2: }",
            "{member0: , member1: text, member2: }",
            "",
            "{member0: , member1: , member2: {x: 9}}",
        ]
    );
    let text = columns(&[("choice", DataType::Utf8)]);
    let mut decoder = AvroDecoder::new(text, options).expect("a decoder");
    let why = decoder.push_record(&records[0]).expect_err("an int");
    assert!(why.reason.contains("the schema has int for it"), "{why:?}");
    assert_eq!(
        rows(&decode(&mut decoder, &records[1..3])),
        ["text".to_owned(), String::new()]
    );
}

#[test]
fn a_broken_record_leaves_nothing_behind_and_follows_the_mode() {
    let (schema, records) = case("all");
    let mut all: Vec<Field> = options(&schema)
        .columns(None, false)
        .expect("columns")
        .fields()
        .iter()
        .map(|field| field.as_ref().clone())
        .collect();
    all.push(Field::new(CORRUPT_RECORD, DataType::Binary, true));
    let declared: SchemaRef = Arc::new(Schema::new(all));
    // Every place at which a record can break off, and one byte too much.
    let good = &records[4];
    let mut broken: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    broken.push([&good[..], &[0]].concat());
    for mode in [
        ParseMode::Permissive,
        ParseMode::DropMalformed,
        ParseMode::FailFast,
    ] {
        let options = AvroOptions {
            mode,
            ..options(&schema)
        };
        let mut decoder = AvroDecoder::new(Arc::clone(&declared), options).expect("a decoder");
        decoder.push_record(good).expect("a record");
        for record in &broken {
            assert_eq!(
                decoder.push_record(record).is_err(),
                mode == ParseMode::FailFast
            );
        }
        decoder.push_record(good).expect("a record");
        let (batch, dropped) = decoder.flush().expect("a batch");
        let rows = rows(&batch);
        assert_eq!(rows[0], rows[rows.len() - 1]);
        let kept = if mode == ParseMode::Permissive {
            let hex: String = broken[9].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(rows[10].trim(), hex);
            broken.len()
        } else {
            0
        };
        assert_eq!(rows.len(), kept + 2);
        let left_out = mode == ParseMode::DropMalformed;
        assert_eq!(dropped, if left_out { broken.len() as u64 } else { 0 });
    }
}

#[test]
fn records_that_name_no_known_schema_are_malformed() {
    let declared = columns(&[("a", DataType::Int64)]);
    let options = AvroOptions {
        schema: None,
        ..options(r#"{"type":"record","name":"R","fields":[]}"#)
    };
    let mut decoder = AvroDecoder::framed(declared, options).expect("a decoder");
    let schema = |kind: &str| {
        let text = json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": kind}]});
        AvroSchema::parse(&text.to_string()).map(Arc::new)
    };
    decoder.define(1, schema("int"));
    decoder.define(2, schema("string"));
    decoder.define(3, Err("it is gone".into()));
    let cases: [(&[u8], &str); 5] = [
        (b"", "a zero byte"),
        (b"{\"a\":1}", "a zero byte"),
        (&[0, 0, 0, 0], "a zero byte"),
        (
            &[0, 0, 0, 0, 2, 0],
            "schema 2: column 'a' is a Int64, and the schema has string for it",
        ),
        (&[0, 0, 0, 0, 3, 2], "it is gone"),
    ];
    for (record, part) in cases {
        let why = decoder.push_record(record).expect_err(part);
        assert!(why.reason.contains(part), "{why:?}");
    }
    let rows = rows(&decode(&mut decoder, &[vec![0, 0, 0, 0, 1, 3]]));
    assert_eq!(rows, ["-2"]);
}

#[test]
fn columns_that_do_not_fit_are_refused() {
    let (schema, _) = case("all");
    let options = options(&schema);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let cases = [
        (("l", DataType::Int32), "has long for it"),
        (("s", DataType::Int64), "has string for it"),
        (("ms", micros), "has timestamp-millis for it"),
        (("p", DataType::Decimal128(10, 2)), "has decimal(20, 2)"),
        (("q", DataType::Decimal128(9, 2)), "has decimal(9, 3)"),
        (("n", DataType::Boolean), "has string for it"),
        (("user", DataType::Utf8), "no field for the column 'user'"),
        (("_corrupt_record", DataType::Utf8), "declare it as BINARY"),
    ];
    for ((name, of), part) in cases {
        let declared = columns(&[(name, of)]);
        let why = options.columns(Some(declared), false).expect_err(name);
        assert!(why.to_string().contains(part), "{why}");
    }
    let wider = columns(&[
        ("P", DataType::Decimal128(22, 4)),
        ("i", DataType::Float64),
        ("f", DataType::Float64),
        ("e", DataType::Utf8),
        ("y", DataType::Utf8),
        ("ms", DataType::Int64),
    ]);
    options.columns(Some(wider), false).expect("they fit");
}

#[test]
fn rows_without_a_schema_get_one_that_reads_them_back() {
    let (schema, records) = case("all");
    let options = options(&schema);
    let declared = options.columns(None, false).expect("columns");
    let mut decoder = AvroDecoder::new(Arc::clone(&declared), options.clone()).expect("a decoder");
    let batch = decode(&mut decoder, &records);
    let encoder = AvroEncoder::of_columns(&declared, "Row", Some("a.b")).expect("a schema");
    let options = AvroOptions {
        schema: Some(Arc::clone(&encoder.schema)),
        ..options
    };
    assert_eq!(options.columns(None, false).expect("columns"), declared);
    let mut decoder = AvroDecoder::new(declared, options).expect("a decoder");
    assert_eq!(decode(&mut decoder, &encode(&encoder, &batch)), batch);
}

#[test]
fn names_and_types_that_avro_lacks_are_refused() {
    let cases = [
        (("count(*)", DataType::Int64), "rename it with AS"),
        (("1st", DataType::Int64), "rename it with AS"),
        (
            ("i", DataType::Duration(TimeUnit::Microsecond)),
            "which Avro does not have: CAST it",
        ),
    ];
    for ((name, of), part) in cases {
        let why = AvroEncoder::of_columns(&columns(&[(name, of)]), "R", None).expect_err(name);
        assert!(why.to_string().contains(part), "{why}");
    }
}

#[test]
fn rows_that_a_schema_does_not_allow_are_errors() {
    let schema = |field: Value| {
        let text = json!({"type": "record", "name": "R", "fields": [field]});
        AvroSchema::parse(&text.to_string()).expect("a schema")
    };
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let ids = RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).expect("a batch");
    let colours: ArrayRef = Arc::new(StringArray::from(vec!["RED", "BLUE"]));
    let colours = RecordBatch::try_from_iter([("c", colours)]).expect("a batch");
    let cases = [
        (&ids, json!({"name": "id", "type": "long"}), "'id' is NULL"),
        (
            &colours,
            json!({"name": "c", "type": {"type": "enum", "name": "C", "symbols": ["RED"]}}),
            "no symbol 'BLUE'",
        ),
    ];
    for (batch, field, part) in cases {
        let encoder = AvroEncoder::new(schema(field), &batch.schema(), "x").expect("it fits");
        let write = encoder.rows(batch).expect("it fits");
        let mut out = vec![];
        write(0, &mut out).expect("the first row fits");
        let why = write(1, &mut out).expect_err(part);
        assert!(why.contains(part), "{why}");
    }
    let misfits = [
        (json!({"name": "id", "type": "string"}), "has string for it"),
        (
            json!({"name": "no", "type": "long"}),
            "no field for the column 'id'",
        ),
    ];
    for (field, part) in misfits {
        let why = AvroEncoder::new(schema(field), &ids.schema(), "avroSchema").expect_err(part);
        assert!(why.to_string().contains(part), "{why}");
    }
    let more = json!({"type": "record", "name": "R", "fields": [
        {"name": "id", "type": ["null", "long"]}, {"name": "more", "type": "long"}]});
    let more = AvroSchema::parse(&more.to_string()).expect("a schema");
    let why = AvroEncoder::new(more, &ids.schema(), "avroSchema").expect_err("a field");
    assert!(
        why.to_string().contains("no column for the field 'more'"),
        "{why}"
    );
}
