//! Rows on which an expression fails: named with their place, or set aside in a table.

use std::fs;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use tidemark::session::Session;

/// Three files, some lines of which divide by zero.
fn input(dir: &Path) {
    for file in 0..3 {
        let lines: String = (0..40)
            .map(|line| {
                let divisor = if (line + file) % 13 == 5 { 0 } else { line + 1 };
                format!(
                    "{{\"id\": {}, \"d\": {divisor}, \"t\": \"2026-01-01T00:{line:02}:00Z\"}}\n",
                    file * 40 + line
                )
            })
            .collect();
        fs::write(dir.join(format!("{file}.json")), lines).unwrap();
    }
}

fn script(dir: &Path, sink: &str, letters: &str, query: &str) -> String {
    format!(
        "CREATE TABLE events (id BIGINT, d BIGINT, t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '1' MINUTE)
           WITH ('connector' = 'file', 'path' = '{}', 'format' = 'json', 'maxFilesPerTrigger' = '1');
         CREATE TABLE letters WITH ({letters});
         CREATE TABLE result WITH ({sink}, 'trigger' = 'available-now', 'deadLetter' = 'letters');
         INSERT INTO result {query};",
        dir.join("in").display()
    )
}

fn texts(batches: &[RecordBatch], column: &str) -> Vec<String> {
    let all: Vec<_> = batches
        .iter()
        .flat_map(|batch| {
            let column = batch.column_by_name(column).unwrap();
            let column = arrow::compute::cast(column, &DataType::Utf8).unwrap();
            let column = column.as_string::<i32>().clone();
            (0..column.len()).map(move |row| column.value(row).to_owned())
        })
        .collect();
    all
}

#[test]
fn failing_rows_go_to_the_table_and_the_rest_is_answered() {
    for query in [
        "SELECT id, 10 / d AS q FROM events WHERE 10 / d > -1",
        "SELECT id, count(*) AS n, sum(10 / d) AS s FROM events GROUP BY id",
    ] {
        let mut seen = vec![];
        for workers in [1, 3] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("in")).unwrap();
            input(&dir.path().join("in"));
            let session = Session::builder().workers(workers).build().unwrap();
            let memory = "'connector' = 'memory'";
            let sink = format!(
                "{memory}, 'outputMode' = '{}'",
                if query.contains("GROUP") {
                    "update"
                } else {
                    "append"
                }
            );
            let queries = session
                .sql(&script(dir.path(), &sink, memory, query))
                .unwrap();
            queries[0].await_termination().unwrap();
            let (_, rows) = session.table("result").unwrap().unwrap();
            assert_eq!(
                rows.iter().map(RecordBatch::num_rows).sum::<usize>(),
                120 - 9
            );
            let (_, letters) = session.table("letters").unwrap().unwrap();
            let root = dir.path().display().to_string();
            let places: Vec<String> = texts(&letters, "offset")
                .iter()
                .map(|p| p.replace(&root, ""))
                .collect();
            assert_eq!(places.len(), 9, "{places:?}");
            assert!(places.contains(&"/in/0.json:6".to_owned()), "{places:?}");
            assert!(
                texts(&letters, "reason")[0].contains("DIVIDE_BY_ZERO")
                    || texts(&letters, "reason")[0].contains("division by zero")
            );
            assert_eq!(texts(&letters, "source")[0], "events");
            let record = letters[0]
                .column_by_name("record")
                .unwrap()
                .as_binary::<i32>()
                .value(0);
            let record = std::str::from_utf8(record).unwrap();
            assert!(
                record.starts_with("{\"id\": ") && record.contains("\"d\": 0"),
                "{record}"
            );
            assert!(texts(&letters, "row")[0].contains("\"d\":0"));
            let epochs = letters.iter().flat_map(|batch| {
                batch
                    .column(0)
                    .as_primitive::<Int64Type>()
                    .values()
                    .to_vec()
            });
            seen.push((places, epochs.collect::<Vec<_>>()));
        }
        assert_eq!(
            seen[0], seen[1],
            "one order, whatever the number of workers"
        );
    }
}

#[test]
fn without_a_table_the_query_ends_and_names_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    input(&dir.path().join("in"));
    for query in [
        "SELECT id, 10 / d AS q FROM events WHERE id >= 0",
        "SELECT id, sum(10 / d) AS s FROM events GROUP BY id",
    ] {
        let session = Session::builder().workers(2).build().unwrap();
        let sink = "'connector' = 'memory', 'outputMode' = 'update'";
        let text = script(dir.path(), sink, "'connector' = 'noop'", query)
            .replace(", 'deadLetter' = 'letters'", "");
        let queries = session.sql(&text).unwrap();
        let error = queries[0].await_termination().unwrap_err().to_string();
        assert!(error.contains("table 'events'"), "{error}");
        assert!(error.contains("/in/0.json:6"), "{error}");
    }
}

#[test]
fn letters_are_there_once_after_restarts() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    input(&dir.path().join("in"));
    let all: Vec<_> = (0..3)
        .map(|n| dir.path().join(format!("in/{n}.json")))
        .collect();
    let later = |file: &Path| dir.path().join(file.file_name().unwrap());
    for file in &all[1..] {
        fs::rename(file, later(file)).unwrap();
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let sink = format!(
        "'connector' = 'file', 'path' = '{}', 'format' = 'json', 'checkpointLocation' = '{}'",
        path("out"),
        path("checkpoint")
    );
    let letters = format!(
        "'connector' = 'file', 'path' = '{}', 'format' = 'json'",
        path("letters")
    );
    let text = script(
        dir.path(),
        &sink,
        &letters,
        "SELECT id, 10 / d AS q FROM events",
    );
    for (round, file) in all.iter().enumerate() {
        if round > 0 {
            fs::rename(later(file), file).unwrap();
        }
        let session = Session::builder().workers(1 + round % 2).build().unwrap();
        let queries = session.sql(&text).unwrap();
        queries[0].await_termination().unwrap();
    }
    let count = |directory: &str| -> usize {
        fs::read_dir(dir.path().join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .map(|path| fs::read_to_string(path).unwrap().lines().count())
            .sum()
    };
    assert_eq!((count("out"), count("letters")), (111, 9));
}

#[test]
fn a_dead_letter_table_declares_no_columns() {
    let session = Session::builder().build().unwrap();
    let error = session
        .sql(
            "CREATE TABLE letters (a INT) WITH ('connector' = 'memory');
             CREATE TABLE result WITH ('connector' = 'memory', 'deadLetter' = 'letters');
             INSERT INTO result SELECT 1 AS a;",
        )
        .unwrap_err()
        .to_string();
    assert!(error.contains("leave them out"), "{error}");
}
