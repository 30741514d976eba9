//! What becomes of rows that come late: dropped, given to a table of their own, or taken in to correct what was
//! given.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark::plan::catalog::Statement;
use tidemark::session::Session;

const FILES: usize = 8;
const ROWS: usize = 60;

/// Two tables of files, whose rows come up to 50 minutes late; the times of each go on.
fn input(dir: &Path, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for table in ["a", "b"] {
        fs::create_dir_all(dir.join(table)).expect("a directory");
        for file in 0..FILES {
            let lines: String = (0..ROWS)
                .map(|row| {
                    let id = file * ROWS + row;
                    let minute = 60 + file * 15 - random.random_range(0..50);
                    let (hour, minute) = (10 + minute / 60, minute % 60);
                    format!(
                        "{{\"id\": {id}, \"user\": \"u{}\", \"x\": {}, \"ts\": \"2026-01-01T{hour}:{minute:02}:{:02}Z\"}}\n",
                        random.random_range(0..6),
                        random.random_range(0..100),
                        random.random_range(0..60),
                    )
                })
                .collect();
            fs::write(dir.join(format!("{table}/.{file}")), lines).expect("written");
        }
    }
}

/// Lets the files of a range be seen.
fn show(dir: &Path, files: std::ops::Range<usize>) {
    for table in ["a", "b"] {
        for file in files.clone() {
            let to = dir.join(format!("{table}/{file}.json"));
            fs::rename(dir.join(format!("{table}/.{file}")), to).expect("renamed");
        }
    }
}

fn script(dir: &Path, options: &str, query: &str) -> String {
    let dir = dir.display();
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id BIGINT, user STRING, x BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
               WITH ('connector' = 'file', 'path' = '{dir}/{name}', 'format' = 'json', 'maxFilesPerTrigger' = '1');"
        )
    };
    format!(
        "{}{}
         CREATE TABLE late WITH ('connector' = 'memory');
         CREATE TABLE result WITH ('connector' = 'memory', 'trigger' = 'available-now', 'checkpointLocation' = '{dir}/ckpt', {options});
         INSERT INTO result {query};",
        table("a"),
        table("b")
    )
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<_> = (batch.columns().iter())
        .map(|column| ArrayFormatter::try_new(column, &options).expect("text"))
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            cells.join(" ")
        })
        .collect()
}

/// What a run leaves: how often each row is there, the late rows, and how many were dropped.
struct Left {
    rows: BTreeMap<String, i64>,
    late: Vec<RecordBatch>,
    dropped: u64,
}

/// A changelog, summed up.
fn run(workers: usize, script: &str) -> Left {
    let session = Session::builder()
        .workers(workers)
        .build()
        .expect("a session");
    let queries = session.sql(script).expect("queries");
    queries[0].await_termination().expect("an end");
    let dropped = (queries[0].recent_progress().iter())
        .flat_map(|progress| &progress.state_operators)
        .map(|operator| operator.num_rows_dropped_by_watermark)
        .sum();
    let mut rows = BTreeMap::new();
    let (_, batches) = session.table("result").expect("known").expect("a table");
    for batch in &batches {
        let kinds = batch
            .column_by_name("_change_type")
            .expect("a kind")
            .clone();
        let mut own = batch.clone();
        for name in ["_epoch", "_change_type"] {
            let at = own.schema().index_of(name).expect("a column");
            own.remove_column(at);
        }
        for (row, text) in texts(&own).into_iter().enumerate() {
            let kind = kinds.as_string::<i32>().value(row);
            let comes = kind == "insert" || kind == "update_postimage";
            *rows.entry(text).or_insert(0) += if comes { 1 } else { -1 };
        }
    }
    rows.retain(|_, count| *count != 0);
    Left {
        rows,
        late: session
            .table("late")
            .expect("known")
            .map_or(vec![], |(_, batches)| batches),
        dropped,
    }
}

fn batch(script: &str) -> BTreeMap<String, i64> {
    let session = Session::builder().build().expect("a session");
    let parsed = session.parse(script, "query").expect("a script");
    let Some(Statement::Query(query)) = parsed.statements.last() else {
        panic!("the script has no query");
    };
    let mut rows = BTreeMap::new();
    for batch in session.batch(query).expect("an answer").1 {
        for text in texts(&batch) {
            *rows.entry(text).or_insert(0) += 1;
        }
    }
    rows
}

const WINDOWS: &str = "SELECT window.start AS w, user, count(*) AS n, sum(x) AS s FROM a GROUP BY window(ts, '5 minutes'), user";
const SLIDING: &str = "SELECT window.start AS w, count(*) AS n, max(x) AS m FROM a GROUP BY window(ts, '10 minutes', '5 minutes')";
const SESSIONS: &str = "SELECT session_window.start AS s, session_window.end AS e, user, count(*) AS n FROM a GROUP BY session_window(ts, '2 minutes'), user";
const JOIN: &str = "SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.user = b.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE";
const DISTINCT: &str = "SELECT DISTINCT id, user, ts FROM a";
const RANKS: &str = "SELECT w.start AS w, id, x, r FROM (SELECT window AS w, id, x, ROW_NUMBER() OVER (PARTITION BY window ORDER BY x DESC, id) AS r
  FROM (SELECT window(ts, '5 minutes') AS window, id, x FROM a)) WHERE r <= 2";
const CHAINED: &str = "SELECT window.start AS w, sum(n) AS n, max(n) AS m FROM
  (SELECT window_time(window) AS t, user, count(*) AS n FROM a GROUP BY window(ts, '5 minutes'), user) GROUP BY window(t, '15 minutes')";

#[test]
fn with_enough_lateness_allowed_nothing_is_late() {
    for (seed, query) in (1..).zip([WINDOWS, SLIDING, SESSIONS, JOIN, DISTINCT, RANKS, CHAINED]) {
        let dropped = {
            let dir = tempfile::tempdir().expect("a directory");
            input(dir.path(), seed);
            show(dir.path(), 0..FILES);
            let script = script(dir.path(), "'outputMode' = 'changelog'", query);
            run(1, &script).dropped
        };
        assert!(dropped > 0, "rows of {query} are late without");
        for workers in [[1, 1], [3, 2]] {
            let dir = tempfile::tempdir().expect("a directory");
            input(dir.path(), seed);
            let options =
                "'outputMode' = 'changelog', 'lateRows' = 'correct', 'allowedLateness' = '1 hour'";
            let script = script(dir.path(), options, query);
            show(dir.path(), 0..FILES / 2);
            let mut first = run(workers[0], &script);
            // A restart, on another number of workers.
            show(dir.path(), FILES / 2..FILES);
            let second = run(workers[1], &script);
            assert_eq!((first.dropped, second.dropped), (0, 0), "{query}");
            for (row, count) in second.rows {
                *first.rows.entry(row).or_insert(0) += count;
            }
            first.rows.retain(|_, count| *count != 0);
            assert_eq!(first.rows, batch(&script), "{query}");
        }
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a arrow::array::ArrayRef {
    batch.column_by_name(name).expect("a column")
}

#[test]
fn late_rows_go_to_their_table() {
    let options = "'outputMode' = 'changelog', 'lateRows' = 'table late'";
    for (seed, query) in (1..).zip([WINDOWS, SLIDING, SESSIONS, JOIN, DISTINCT, RANKS, CHAINED]) {
        let mut seen: Option<Vec<String>> = None;
        for workers in [1, 3] {
            let dir = tempfile::tempdir().expect("a directory");
            input(dir.path(), seed);
            let script = script(dir.path(), options, query);
            let mut late = Vec::new();
            let mut dropped = 0;
            for files in [0..FILES / 2, FILES / 2..FILES] {
                show(dir.path(), files);
                let left = run(workers, &script);
                late.extend(left.late);
                dropped += left.dropped;
            }
            let mut rows = Vec::new();
            for batch in &late {
                let event = column(batch, "event_time").as_primitive::<TimestampMicrosecondType>();
                let mark = column(batch, "watermark").as_primitive::<TimestampMicrosecondType>();
                let lateness = column(batch, "lateness_ms").as_primitive::<Int64Type>();
                for row in 0..batch.num_rows() {
                    assert!(event.value(row) <= mark.value(row));
                    let millis = (mark.value(row) - event.value(row)).div_euclid(1000);
                    assert_eq!(lateness.value(row), millis);
                    rows.push(format!(
                        "{} {} {}",
                        column(batch, "row").as_string::<i32>().value(row),
                        event.value(row),
                        mark.value(row)
                    ));
                }
            }
            assert_eq!(rows.len() as u64, dropped, "{query}");
            assert!(dropped > 0, "rows of {query} are late");
            rows.sort();
            match &seen {
                Some(seen) => assert_eq!(*seen, rows, "{query}"),
                None => seen = Some(rows),
            }
        }
    }
}

#[test]
fn what_is_late_and_what_is_not_is_all() {
    let dir = tempfile::tempdir().expect("a directory");
    input(dir.path(), 11);
    show(dir.path(), 0..FILES);
    let options =
        "'outputMode' = 'changelog', 'lateRows' = 'table late', 'allowedLateness' = '5 minutes'";
    let left = run(
        2,
        &script(dir.path(), options, "SELECT DISTINCT id, ts FROM a"),
    );
    let mut ids: Vec<u64> = (left.rows.keys())
        .filter_map(|row| row.split(' ').next()?.parse().ok())
        .collect();
    let in_time = ids.len();
    for batch in &left.late {
        let rows = column(batch, "row").as_string::<i32>();
        let lateness = column(batch, "lateness_ms").as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            // Later than what is allowed.
            assert!(lateness.value(row) >= 300_000);
            let value: serde_json::Value = serde_json::from_str(rows.value(row)).expect("JSON");
            ids.extend(value["id"].as_u64());
            assert_eq!(column(batch, "source").as_string::<i32>().value(row), "a");
        }
    }
    assert!(in_time > 0 && ids.len() > in_time);
    ids.sort_unstable();
    assert_eq!(ids, (0..(FILES * ROWS) as u64).collect::<Vec<_>>());
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    input(dir.path(), 1);
    show(dir.path(), 0..FILES);
    for (options, said) in [
        (
            "'lateRows' = 'correct'",
            "also 'allowedLateness' = '1 hour' to say how late a row may be",
        ),
        (
            "'lateRows' = 'keep'",
            "expected drop, correct, or table and its name",
        ),
        ("'lateRows' = 'table nowhere'", "unknown table 'nowhere'"),
        (
            "'lateRows' = 'table result'",
            "'result' for late rows and for other ones is not supported",
        ),
        (
            "'outputMode' = 'append', 'allowedLateness' = '1 hour'",
            "append gives what never changes",
        ),
    ] {
        let session = Session::builder().build().expect("a session");
        let error = session
            .sql(&script(dir.path(), options, WINDOWS))
            .expect_err(options);
        assert!(error.to_string().contains(said), "{error}");
    }
}
