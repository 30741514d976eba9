#![expect(clippy::format_collect, reason = "short texts of a test")]

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::super::BATCH_ROWS;
use super::*;
use crate::format::zone::Zone;

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn map(value: DataType) -> DataType {
    let pair = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", value, true),
    ]);
    DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(pair), false)),
        false,
    )
}

fn record(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(
        fields
            .iter()
            .map(|(name, t)| Field::new(*name, t.clone(), true))
            .collect(),
    )
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn decoder(columns: &[(&str, DataType)], mode: ParseMode) -> JsonDecoder {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, t)| Field::new(*name, t.clone(), true))
        .collect();
    let options = RecordOptions {
        mode,
        ..RecordOptions::default()
    };
    JsonDecoder::new(Arc::new(Schema::new(fields)), options).expect("a decoder")
}

/// The rows of some lines, with `-` for null.
fn rows(columns: &[(&str, DataType)], text: &str) -> Vec<String> {
    let mut decoder = decoder(columns, ParseMode::Permissive);
    assert_eq!(decoder.push_lines(text.as_bytes()), Ok(text.len()));
    shown(&mut decoder)
}

/// The rows of a decoder, with `-` for null.
fn shown(decoder: &mut JsonDecoder) -> Vec<String> {
    let (batch, _) = decoder.flush().expect("a batch");
    let options = FormatOptions::default().with_null("-");
    let formats: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).expect("a format"))
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            formats
                .iter()
                .map(|f| f.value(row).to_string())
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect()
}

fn one(data_type: DataType, value: &str) -> String {
    let columns = [("x", data_type), ("_corrupt_record", DataType::Utf8)];
    let found = rows(&columns, &format!("{{\"x\": {value}}}"));
    assert_eq!(found.len(), 1);
    let (value, corrupt) = found[0].split_once('|').expect("two columns");
    if corrupt == "-" {
        value.into()
    } else {
        format!("wrong {value}")
    }
}

#[test]
fn scalars_are_taken_by_sparks_rules() {
    let cases = [
        (DataType::Int32, "1", "1"),
        (DataType::Int32, "\"1\"", "wrong -"),
        (DataType::Int32, "1.0", "wrong -"),
        (DataType::Int32, "2147483648", "wrong -"),
        (DataType::Int8, "-128", "-128"),
        (DataType::Int8, "128", "wrong -"),
        (DataType::Int64, "null", "-"),
        (DataType::Int64, "true", "wrong -"),
        (DataType::Float64, "1", "1.0"),
        (DataType::Float64, "1e400", "inf"),
        (DataType::Float64, "\"NaN\"", "NaN"),
        (DataType::Float64, "\"Infinity\"", "inf"),
        (DataType::Float64, "\"-INF\"", "-inf"),
        (DataType::Float64, "NaN", "NaN"),
        (DataType::Float64, "\"1.5\"", "wrong -"),
        (DataType::Float32, "1.5", "1.5"),
        (DataType::Boolean, "true", "true"),
        (DataType::Boolean, "\"true\"", "wrong -"),
        (DataType::Decimal128(5, 2), "\"1\"", "1.00"),
        (DataType::Decimal128(5, 2), "1.235", "1.24"),
        (DataType::Decimal128(5, 2), "12345", "wrong -"),
        (DataType::Utf8, "1.50", "1.50"),
        (DataType::Utf8, "{\"a\" : [1]}", "{\"a\" : [1]}"),
        (DataType::Utf8, "false", "false"),
        (
            DataType::Utf8,
            r#""a\u00e9\n\ud83d\ude00\ud800""#,
            "aé\n😀?",
        ),
        (DataType::Binary, "\"aGk=\"", "6869"),
        (DataType::Binary, "\"a\"", "wrong -"),
        (DataType::Date32, "\"2026-01\"", "2026-01-01"),
        (DataType::Date32, "20000", "wrong -"),
        (utc(), "1767225600", "2026-01-01T00:00:00Z"),
        (utc(), "1767225600.5", "wrong -"),
        (
            utc(),
            "\"2026-01-01T01:00:00+01:00\"",
            "2026-01-01T00:00:00Z",
        ),
        (utc(), "\"\"", "wrong -"),
        (
            DataType::Timestamp(TimeUnit::Microsecond, None),
            "\"2026-01-01 00:00:00\"",
            "2026-01-01T00:00:00",
        ),
        (
            DataType::Timestamp(TimeUnit::Microsecond, None),
            "\"2026-01-01T00:00:00Z\"",
            "wrong -",
        ),
    ];
    for (data_type, value, expected) in cases {
        assert_eq!(
            one(data_type.clone(), value),
            expected,
            "{value} as {data_type}"
        );
    }
}

#[test]
fn nested_values_keep_what_fits() {
    let ints = || list(DataType::Int32);
    assert_eq!(one(ints(), "[1, null, 3]"), "[1, -, 3]");
    assert_eq!(one(ints(), "[1, \"2\", 3]"), "wrong -");
    assert_eq!(one(ints(), "{}"), "wrong -");
    assert_eq!(one(ints(), "[]"), "[]");
    let pair = record(&[("a", DataType::Int32), ("b", DataType::Utf8)]);
    assert_eq!(
        one(pair.clone(), r#"{"b": "y", "a": 1, "c": {}}"#),
        "{a: 1, b: y}"
    );
    assert_eq!(
        one(pair.clone(), r#"{"a": "1", "b": "y"}"#),
        "wrong {a: -, b: y}"
    );
    assert_eq!(
        one(list(pair), r#"[{"a": 1}, {"a": "1", "b": "z"}]"#),
        "wrong [{a: 1, b: -}, {a: -, b: z}]"
    );
    assert_eq!(
        one(map(DataType::Int32), r#"{"a": 1, "b": 2, "a": 3}"#),
        "{b: 2, a: 3}"
    );
    assert_eq!(
        one(map(DataType::Int32), r#"{"a": 1, "b": "2"}"#),
        "wrong -"
    );
}

#[test]
fn records_are_found_by_sparks_rules() {
    let columns = [("a", DataType::Int32), ("_corrupt_record", DataType::Utf8)];
    let text = concat!(
        "[{\"a\": 1}, {\"a\": 2}]\n",
        "{\"a\": 3} and text\n",
        "{'a': 4}\r\n",
        "\n   \n",
        "{}\n",
        "null\n",
        "7\n",
        "{\"a\": 5, \"a\": 6}\n",
        "{\"A\": 7}\n",
        "{a: 8}\n",
        "{\"a\": 9,}\n",
        "[{\"a\": 10}, 11]\n",
        "[]\n",
        "{\"a\": 12, \"b\": tru}\n",
        "{\"a\": 13, \"b\": \"x",
    );
    assert_eq!(
        rows(&columns, text),
        [
            "1|-",
            "2|-",
            "3|-",
            "4|-",
            "-|-",
            "-|null",
            "-|7",
            "6|-",
            "-|-",
            "-|{a: 8}",
            "-|{\"a\": 9,}",
            "-|[{\"a\": 10}, 11]",
            "-|{\"a\": 12, \"b\": tru}",
            "-|{\"a\": 13, \"b\": \"x",
        ]
    );
}

#[test]
fn a_broken_record_leaves_nothing_behind() {
    let columns = [
        ("s", DataType::Utf8),
        (
            "l",
            list(record(&[
                ("x", list(DataType::Utf8)),
                ("y", map(DataType::Int64)),
            ])),
        ),
    ];
    let good = r#"{"s": "ok", "l": [{"x": ["a"], "y": {"k": 1}}]}"#;
    let whole = format!("{good}\n{good}\n");
    let expected = rows(&columns, &whole);
    for cut in 1..good.len() {
        let found = rows(&columns, &format!("{good}\n{}\n{good}\n", &good[..cut]));
        assert_eq!(
            [&found[0], &found[2]],
            [&expected[0], &expected[1]],
            "cut at {cut}"
        );
        assert_eq!(found[1], "-|-");
    }
}

#[test]
fn modes_drop_or_refuse() {
    let columns = [("a", DataType::Int32)];
    let text = b"{\"a\": 1}\n{\"a\": \"x\"}\n{\"a\": \n{\"a\": 2}\n";
    let mut dropping = decoder(&columns, ParseMode::DropMalformed);
    assert_eq!(dropping.push_lines(text), Ok(text.len()));
    let (batch, dropped) = dropping.flush().expect("a batch");
    assert_eq!((batch.num_rows(), dropped), (2, 2));

    let mut strict = decoder(&columns, ParseMode::FailFast);
    let error = strict.push_lines(text).unwrap_err();
    assert_eq!(
        (error.offset, error.reason.as_str()),
        (9, "the value of 'a' is no INT")
    );
    assert_eq!(error.record, "{\"a\": \"x\"}");
    assert_eq!(strict.rows(), 1);
}

#[test]
fn a_batch_ends_when_it_is_full() {
    let mut decoder = decoder(&[("a", DataType::Int64)], ParseMode::Permissive);
    let text: String = (0..20_000).map(|n| format!("{{\"a\":{n}}}\n")).collect();
    let (mut at, mut sum) = (0, 0);
    while at < text.len() {
        at += decoder.push_lines(&text.as_bytes()[at..]).expect("lines");
        let (batch, _) = decoder.flush().expect("a batch");
        assert!(batch.num_rows() <= BATCH_ROWS);
        sum += batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .sum::<i64>();
    }
    assert_eq!(sum, 20_000 * 19_999 / 2);
}

#[test]
fn no_columns_are_rows_all_the_same() {
    let mut decoder = decoder(&[], ParseMode::Permissive);
    decoder
        .push_lines(b"{\"a\":1}\n{\"b\n[{},{}]\n")
        .expect("lines");
    assert_eq!(decoder.flush().expect("a batch").0.num_rows(), 4);
}

#[test]
fn bytes_that_are_no_utf8_are_replaced() {
    let mut decoder = decoder(&[("a", DataType::Utf8)], ParseMode::Permissive);
    decoder.push_lines(b"{\"a\":\"x\xFFy\"}\n").expect("lines");
    let (batch, _) = decoder.flush().expect("a batch");
    assert_eq!(batch.column(0).as_string::<i32>().value(0), "x\u{FFFD}y");
}

#[test]
fn a_zone_applies_to_timestamps_without_one() {
    let mut options = RecordOptions::default();
    options.casts.zone = Zone::parse("Europe/Paris").expect("a zone");
    let schema = Arc::new(Schema::new(vec![Field::new("t", utc(), true)]));
    let mut decoder = JsonDecoder::new(schema, options).expect("a decoder");
    decoder
        .push_record(br#"{"t":"2026-01-01T01:00:00"}"#)
        .expect("a record");
    let (batch, _) = decoder.flush().expect("a batch");
    assert_eq!(
        batch
            .column(0)
            .as_primitive::<arrow::datatypes::TimestampMicrosecondType>()
            .value(0),
        1_767_225_600_000_000
    );
}

/// A small random number generator, so that tests need no package for it.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn value(&mut self, depth: u32) -> serde_json::Value {
        use serde_json::{Value, json};
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(1 << 31) as i64 - (1 << 30)),
            3 => {
                json!(self.below(1 << 31) as f64 / 1024.0 * 10_f64.powi(self.below(40) as i32 - 20))
            }
            4 | 5 => json!(self.text()),
            6 => Value::Array((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
            _ => Value::Object(
                (0..self.below(4))
                    .map(|_| (self.text(), self.value(depth - 1)))
                    .collect(),
            ),
        }
    }

    fn text(&mut self) -> String {
        const LETTERS: [&str; 12] = [
            "a", "b", "\"", "\\", "\n", "é", "😀", "\u{1}", "/", "}", "{", " ",
        ];
        (0..self.below(12))
            .map(|_| LETTERS[self.below(12) as usize])
            .collect()
    }
}

#[test]
fn documents_are_accepted_and_refused_as_serde_json_does() {
    let mut random = Random(42);
    let columns = [
        ("s", DataType::Utf8),
        ("n", DataType::Int64),
        ("d", DataType::Float64),
        ("_corrupt_record", DataType::Utf8),
    ];
    for _ in 0..3_000 {
        let mut fields = serde_json::Map::new();
        for name in ["s", "skipped", "n", "d"] {
            fields.insert(name.into(), random.value(3));
        }
        let document = serde_json::Value::Object(fields);
        let mut text = document.to_string().into_bytes();
        let damaged = random.below(2) == 0;
        if damaged {
            let at = random.below(text.len() as u64) as usize;
            // Never a single quote, which passes here only, and no broken UTF-8, which is replaced.
            if text[at].is_ascii() {
                text[at] = b"x}{],:1\"\\ "[random.below(10) as usize];
            }
        }
        let valid = serde_json::from_slice::<serde_json::Value>(&text);
        let mut decoder = decoder(&columns, ParseMode::Permissive);
        decoder.push_record(&text).expect("permissive");
        let (batch, _) = decoder.flush().expect("a batch");
        let shown = String::from_utf8_lossy(&text);
        if batch.num_rows() == 0 {
            assert!(valid.is_err() || !document.is_object(), "{shown}");
            continue;
        }
        let taken = (0..3).any(|column| batch.column(column).is_valid(0));
        match valid {
            Ok(serde_json::Value::Object(found)) => {
                let text = |name: &str| found.get(name).cloned().unwrap_or_default();
                let s = batch.column(0).as_string::<i32>();
                if let serde_json::Value::String(expected) = text("s") {
                    assert_eq!(s.value(0), expected, "{shown}");
                }
                assert_eq!(s.is_null(0), text("s").is_null(), "{shown}");
                let n = batch.column(1).as_primitive::<Int64Type>();
                assert_eq!(
                    n.is_valid(0).then(|| n.value(0)),
                    text("n").as_i64(),
                    "{shown}"
                );
                let d = batch
                    .column(2)
                    .as_primitive::<arrow::datatypes::Float64Type>();
                match text("d") {
                    // Ours is the nearest double; serde_json's may be the one beside it.
                    serde_json::Value::Number(expected) => {
                        let expected = expected.as_f64().expect("a double");
                        assert!(
                            (d.value(0) - expected).abs() <= expected.abs() * 1e-15,
                            "{shown}"
                        );
                    }
                    // Only the names of special numbers are doubles too.
                    _ => assert!(d.is_null(0), "{shown}"),
                }
            }
            Ok(_) => assert!(!taken, "{shown}"),
            // What Spark accepts beyond the standard: text after the document.
            Err(_) => {
                let prefix = serde_json::Deserializer::from_slice(&text)
                    .into_iter::<serde_json::Value>()
                    .next();
                let lenient = matches!(prefix, Some(Ok(_)));
                assert!(!taken || lenient, "{shown}");
            }
        }
    }
}

#[test]
fn lines_are_decoded_as_their_records_alone() {
    const PIECES: [&str; 14] = [
        "{", "}", "\"s\"", "\"n\"", ":", ",", " ", "\"x y\"", "17", "-0.50", "[", "]", "é", "\r",
    ];
    let columns = [
        ("s", DataType::Utf8),
        ("n", DataType::Int64),
        ("d", DataType::Float64),
        ("_corrupt_record", DataType::Utf8),
    ];
    let mut random = Random(7);
    for _ in 0..40 {
        let mut lines = Vec::new();
        for _ in 0..50 {
            let gap = [" ", "", "  "][random.below(3) as usize];
            let mut fields: Vec<_> = ["s", "skipped", "n", "d"]
                .map(|name| format!("{gap}\"{name}\"{gap}:{gap}{}{gap}", random.value(2)))
                .into();
            if random.below(8) == 0 {
                fields.swap(0, 2);
            }
            let mut line = format!("{{{}}}", fields.join(","));
            for _ in 0..random.below(3) / 2 * random.below(4) {
                let at = random.below(line.len() as u64 + 1) as usize;
                if line.is_char_boundary(at) {
                    line.insert_str(at, PIECES[random.below(14) as usize]);
                }
            }
            lines.push(line);
        }
        let alone = lines.iter().flat_map(|line| {
            let mut decoder = decoder(&columns, ParseMode::Permissive);
            decoder.push_record(line.as_bytes()).expect("permissive");
            shown(&mut decoder)
        });
        let alone: Vec<_> = alone.collect();
        assert_eq!(rows(&columns, &lines.join("\n")), alone);
    }
}
