//! What decoding records costs: `cargo bench -p tidemark-connectors --bench decode`.
//!
//! The records are those of `benches/json_analytics`, web events of about 140 bytes, and the
//! projections are those of its two queries; CSV has the same fields.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tidemark_connectors::format::RecordOptions;
use tidemark_connectors::format::csv::{CsvDecoder, CsvOptions};
use tidemark_connectors::format::json::JsonDecoder;

const ROWS: usize = 50_000;

/// The columns that are decoded, by the query that uses them.
const PROJECTIONS: [(&str, &[usize]); 4] = [
    ("by_type", &[1, 2, 4, 5]),
    ("by_user", &[1, 4, 5]),
    ("all", &[0, 1, 2, 3, 4, 5]),
    ("none", &[]),
];

const FIELDS: [&str; 6] = [
    "event_id",
    "user_id",
    "event_type",
    "page_url",
    "timestamp",
    "amount",
];

fn main() {
    divan::main();
}

fn schema(columns: &[usize]) -> SchemaRef {
    let field = |at: &usize| {
        let data_type = match at {
            4 => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            5 => DataType::Float64,
            _ => DataType::Utf8,
        };
        Field::new(FIELDS[*at], data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// A small generator of random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The values of one event, as text.
fn event(number: usize, random: &mut Random) -> [String; 6] {
    const KINDS: [&str; 5] = ["page_view", "click", "add_to_cart", "purchase", "refund"];
    let kind = match random.below(100) {
        0..60 => 0,
        60..85 => 1,
        85..95 => 2,
        95..99 => 3,
        _ => 4,
    };
    // Low numbers are frequent, as users are in the benchmark.
    let spread = 1 << random.below(17);
    let user = random.below(spread);
    let second = random.below(3600);
    [
        format!("e{number:08}"),
        format!("u{user}"),
        KINDS[kind].into(),
        format!("/p/{}", random.below(1000)),
        format!(
            "2026-01-01T{:02}:{:02}:{:02}.{:06}Z",
            number / 5000 % 24,
            second / 60,
            second % 60,
            random.below(1_000_000)
        ),
        format!("{}", random.below(50_000) as f64 / 100.0),
    ]
}

fn lines(write: impl Fn(&mut String, [String; 6])) -> String {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut text = String::new();
    for number in 0..ROWS {
        write(&mut text, event(number, &mut random));
    }
    text
}

fn json_lines(gap: &str) -> String {
    lines(|text, values| {
        for (at, (name, value)) in FIELDS.iter().zip(&values).enumerate() {
            let before = if at == 0 { "{" } else { "," };
            let quote = if at == 5 { "" } else { "\"" };
            let space = if at == 0 { "" } else { gap };
            write!(text, "{before}{space}\"{name}\":{gap}{quote}{value}{quote}")
                .expect("a String takes all");
        }
        text.push_str("}\n");
    })
}

fn decode_json(bencher: Bencher, columns: &[usize], text: &str) {
    bencher
        .counter(ItemsCount::new(ROWS))
        .counter(BytesCount::of_str(text))
        .bench_local(|| {
            let schema = schema(columns);
            let mut decoder =
                JsonDecoder::new(schema, RecordOptions::default()).expect("columns of JSON");
            let (mut at, mut rows) = (0, 0);
            while at < text.len() {
                at += decoder
                    .push_lines(&text.as_bytes()[at..])
                    .expect("permissive");
                rows += decoder.flush().expect("a batch").0.num_rows();
            }
            assert_eq!(rows, ROWS);
        });
}

/// Written without white space, as most programs do.
#[divan::bench(args = PROJECTIONS.map(|(name, _)| name), sample_count = 100)]
fn json(bencher: Bencher, projection: &str) {
    decode_json(bencher, columns(projection), &json_lines(""));
}

/// With a blank behind each colon and comma, as Python's `json.dumps` writes it.
#[divan::bench(args = ["by_type"], sample_count = 100)]
fn json_with_blanks(bencher: Bencher, projection: &str) {
    decode_json(bencher, columns(projection), &json_lines(" "));
}

#[divan::bench(args = PROJECTIONS.map(|(name, _)| name), sample_count = 100)]
fn csv(bencher: Bencher, projection: &str) {
    let text = lines(|text, values| {
        text.push_str(&values.join(","));
        text.push('\n');
    });
    let fields = schema(&[0, 1, 2, 3, 4, 5]);
    let wanted = schema(columns(projection));
    bencher
        .counter(ItemsCount::new(ROWS))
        .counter(BytesCount::of_str(&text))
        .bench_local(|| {
            let mut decoder =
                CsvDecoder::new(&fields, Arc::clone(&wanted), CsvOptions::default(), true)
                    .expect("columns of CSV");
            let (mut at, mut rows) = (0, 0);
            while at < text.len() {
                at += decoder
                    .push_lines(&text.as_bytes()[at..])
                    .expect("permissive");
                rows += decoder.flush().expect("a batch").0.num_rows();
            }
            assert_eq!(rows, ROWS);
        });
}

fn columns(projection: &str) -> &'static [usize] {
    PROJECTIONS
        .iter()
        .find(|(name, _)| *name == projection)
        .map_or(&[], |(_, columns)| columns)
}
