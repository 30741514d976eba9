//! Nexmark's queries are right: what they answer as streams, however the events are cut into epochs, on any
//! number of workers and over restarts, is what a batch answers over the same events.

#[path = "../common/mod.rs"]
mod common;
mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark_connectors::sinks::show::{Zone, cells};
use tidemark_connectors::sources::memory::MemorySource;
use tidemark_connectors::{ChangeType, Read, ReadLimit, open_source};
use tidemark_dataflows::nexmark;

use common::{Captured, Run};

/// A result: each row as text, and how often it is there.
type Bag = BTreeMap<String, i64>;

/// The tables and which events of 50 are theirs.
const TABLES: [(&str, usize, usize); 3] = [("person", 0, 1), ("auction", 1, 3), ("bid", 4, 46)];

/// The generator's tables in memory.
struct Events {
    tables: Vec<RecordBatch>,
    events: usize,
}

impl Events {
    fn new(events: usize, rate: usize) -> Self {
        let tables = TABLES.map(|(name, _, _)| {
            let (events, rate) = (events.to_string(), rate.to_string());
            let options = [("table", name), ("events", &events), ("rate", &rate)];
            let mut source = open_source("nexmark", &options.into_iter().collect(), None).unwrap();
            let all: Vec<usize> = (0..source.schema().fields().len()).collect();
            let mut batches = vec![];
            while let Some(range) = source.plan(ReadLimit::default()).unwrap() {
                for split in &range.splits {
                    let mut reader = source.reader().open(split, &all).unwrap();
                    while let Read::Batch { batch, .. } = reader.read().unwrap() {
                        batches.push(batch);
                    }
                }
            }
            concat_batches(&source.schema(), &batches).unwrap()
        });
        Self {
            tables: tables.into(),
            events,
        }
    }

    /// Sources that give the events in these epochs, the first `known` of them.
    fn sources(&self, places: &[usize], known: usize) -> Vec<(String, MemorySource)> {
        let tables = TABLES.iter().zip(&self.tables);
        let sources = tables.map(|((name, first, count), rows)| {
            let source = MemorySource::new(rows.schema()).one_batch_per_epoch();
            // How many of the table's are among so many events.
            let before = |events: usize| {
                events / 50 * count + (events % 50).saturating_sub(*first).min(*count)
            };
            for epoch in places.windows(2).take(known) {
                let (from, to) = (before(epoch[0]), before(epoch[1]));
                source.add(rows.slice(from, to - from)).unwrap();
            }
            ((*name).to_owned(), source)
        });
        sources.collect()
    }

    /// Random places to cut the events at.
    fn cuts(&self, random: &mut StdRng) -> Vec<usize> {
        let mut places: Vec<usize> = (0..random.random_range(2..8))
            .map(|_| random.random_range(1..self.events))
            .collect();
        places.extend([0, self.events]);
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// The query as a bare `SELECT` behind tables of the connector `memory`, and its output mode.
fn script(name: &str, sql: &str) -> (String, String) {
    let (declared, select) = sql.split_once("INSERT INTO result\n").unwrap();
    let (before, sink) = declared.split_once("CREATE TABLE result WITH (").unwrap();
    let (_, mode) = sink.split_once("'outputMode' = '").unwrap();
    let mode = mode.split('\'').next().unwrap();
    let tables: String = nexmark::TABLES
        .split_inclusive(";\n")
        .map(|table| {
            let (columns, _) = table.rsplit_once(" WITH (").unwrap();
            let name = TABLES
                .iter()
                .find(|(name, ..)| table.contains(&format!("TABLE {name} ")));
            let name = name.unwrap().0;
            format!("{columns} WITH ('connector' = 'memory', 'name' = '{name}');\n")
        })
        .collect();
    let select = if name == "q12" {
        // When a bid was read is nobody else's to know.
        let select = select.trim_end().trim_end_matches(';');
        format!("SELECT bidder, sum(bids) AS bids FROM ({select}) GROUP BY bidder;")
    } else {
        select.to_owned()
    };
    (format!("{tables}{before}{select}"), mode.to_owned())
}

fn add(bag: &mut Bag, row: String, count: i64) {
    let found = bag.entry(row).or_insert(0);
    *found += count;
}

/// What a changelog sums to.
fn sum(captured: &Captured) -> Bag {
    let mut bag = Bag::new();
    for (change, row) in captured.epochs().into_values().flatten() {
        let count = match change {
            ChangeType::Insert | ChangeType::UpdatePostimage => 1,
            ChangeType::Delete | ChangeType::UpdatePreimage => -1,
        };
        add(&mut bag, row, count);
    }
    bag.retain(|_, count| *count != 0);
    bag
}

fn bag(batches: &[RecordBatch]) -> Bag {
    let mut bag = Bag::new();
    for batch in batches {
        for row in cells(batch, Zone::UTC).unwrap() {
            add(&mut bag, row.join(" | "), 1);
        }
    }
    bag
}

fn compare(what: &str, got: &Bag, wanted: &Bag) {
    let differ = |a: &Bag, b: &Bag| {
        let rows = a.iter().filter(|(row, count)| b.get(*row) != Some(count));
        let rows: Vec<_> = rows
            .take(5)
            .map(|(row, n)| format!("{n} x {row}"))
            .collect();
        rows.join("\n")
    };
    assert!(
        got == wanted,
        "{what}: {} rows, and {} are wanted\nonly here:\n{}\nonly wanted:\n{}",
        got.len(),
        wanted.len(),
        differ(got, wanted),
        differ(wanted, got)
    );
}

#[test]
fn streams_answer_what_a_batch_does_in_any_cut_and_over_restarts() {
    let mut random = StdRng::seed_from_u64(1);
    // 40 seconds of event time: windows of 10 seconds close.
    let events = Events::new(10_000, 250);
    for (name, sql) in nexmark::QUERIES {
        let (script, mode) = script(name, sql);
        let whole = events.sources(&[0, events.events], 1);
        let run = |workers, mode, tables: &[_], checkpoint: Option<&Path>, captured: &Captured| {
            let run = Run {
                script: &script,
                mode,
                workers,
                tables,
                checkpoint,
            };
            run.stream(captured)
                .unwrap_or_else(|error| panic!("{name}: {error}\n{script}"));
        };
        let oracle = Run {
            script: &script,
            mode: "changelog",
            workers: 1,
            tables: &whole,
            checkpoint: None,
        };
        let wanted = bag(&oracle
            .batch()
            .unwrap_or_else(|error| panic!("{name}: {error}")));
        assert!(!wanted.is_empty(), "{name} finds nothing");
        for workers in [1, 2] {
            let (captured, cuts) = (Captured::default(), events.cuts(&mut random));
            let sources = events.sources(&cuts, cuts.len());
            run(workers, "changelog", &sources, None, &captured);
            compare(
                &format!("{name}, {workers} workers"),
                &sum(&captured),
                &wanted,
            );
        }
        // The first run knows some epochs, the second all of them.
        let (captured, cuts) = (Captured::default(), events.cuts(&mut random));
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint");
        let known = random.random_range(1..cuts.len() - 1);
        for (workers, known) in [(2, known), (random.random_range(1..=3), cuts.len())] {
            let sources = events.sources(&cuts, known);
            run(workers, "changelog", &sources, Some(&checkpoint), &captured);
        }
        compare(&format!("{name}, restarted"), &sum(&captured), &wanted);
        if mode == "append" {
            // Each row once, of the batch's; the last windows are open still.
            let (captured, cuts) = (Captured::default(), events.cuts(&mut random));
            run(
                2,
                "append",
                &events.sources(&cuts, cuts.len()),
                None,
                &captured,
            );
            let given = sum(&captured);
            assert!(!given.is_empty(), "{name}: nothing is final");
            for (row, count) in &given {
                assert_eq!(wanted.get(row), Some(count), "{name}, append: {row}");
            }
        }
    }
}

/// Rows and a sum over them that does not depend on their order.
fn checksum(bag: &Bag) -> String {
    let rows: i64 = bag.values().sum();
    let sum = bag.iter().fold(0_i64, |sum, (row, count)| {
        sum.wrapping_add(count.wrapping_mul(i64::from(crc32c::crc32c(row.as_bytes()))))
    });
    format!("{rows} rows, checksum {sum}")
}

/// `TIDEMARK_REWRITE=1` writes the file anew, for a look at the difference.
#[test]
fn final_results_of_100_000_events_are_those_in_the_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nexmark/results.txt");
    let events = Events::new(100_000, 2_500);
    let mut found =
        "# The final result of each query over 100,000 events, 2,500 a second, seed 0.\n"
            .to_owned();
    for (name, sql) in nexmark::QUERIES {
        let (script, _) = script(name, sql);
        let cuts = [0, 30_011, 55_000, 100_000];
        let captured = Captured::default();
        let run = Run {
            script: &script,
            mode: "changelog",
            workers: 2,
            tables: &events.sources(&cuts, 3),
            checkpoint: None,
        };
        run.stream(&captured)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        found.push_str(&format!("{name}: {}\n", checksum(&sum(&captured))));
    }
    if std::env::var_os("TIDEMARK_REWRITE").is_some() {
        fs::write(&path, found).expect("the file can be written");
    } else {
        let known = fs::read_to_string(&path).expect("the file is there");
        assert_eq!(found, known, "run this test with TIDEMARK_REWRITE=1");
    }
}
