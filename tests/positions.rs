//! Random values, and the order of a group's rows: by where a row was read, so neither workers nor
//! a replay change them.

mod common;

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use std::sync::Arc;
use tidemark::session::Session;
use tidemark_connectors::sources::memory::MemorySource;

use common::{Captured, Run};

const TABLE: &str =
    "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'memory', 'name' = 'numbers');";

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

/// The rows of a query over these epochs, as columns of text.
fn run(query: &str, workers: usize, epochs: &[RecordBatch]) -> Vec<Vec<String>> {
    let session = Session::builder().workers(workers).build().unwrap();
    let source = MemorySource::new(epochs[0].schema()).one_batch_per_epoch();
    for epoch in epochs {
        source.add(epoch.clone()).unwrap();
    }
    session.add_source("numbers", source);
    let script = format!(
        "{TABLE} CREATE TABLE result WITH ('connector' = 'memory', 'trigger' = 'available-now');
         INSERT INTO result {query};"
    );
    session.sql(&script).unwrap()[0]
        .await_termination()
        .unwrap();
    let (_, batches) = session.table("result").unwrap().unwrap();
    let mut rows = vec![];
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter();
            rows.push(
                cells
                    .map(|column| array_value_to_string(column, row).unwrap())
                    .collect(),
            );
        }
    }
    rows.sort();
    rows
}

#[test]
fn values_of_a_seed_do_not_depend_on_workers() {
    let epochs = [numbers(0..500), numbers(500..900)];
    let query = "SELECT n, rand(1) AS a, random(1) AS r, randn(2) AS b, uuid(3) AS c, shuffle(array(1, 2, 3, n), 4) AS d,
        monotonically_increasing_id() AS e, spark_partition_id() AS f,
        uniform(-5, 5, 6) AS g, randstr(8, 7) AS h FROM numbers WHERE rand(5) < 0.5";
    let one = run(query, 1, &epochs);
    assert!((300..600).contains(&one.len()), "{}", one.len());
    assert_eq!(one, run(query, 3, &epochs));
}

#[test]
fn uuids_differ_for_all_rows_and_calls() {
    let epochs = [numbers(0..1000), numbers(0..1000)];
    let query = "SELECT uuid() AS a, uuid() AS b FROM
        (SELECT explode(array(1, 2, 3, 4, 5)) AS e FROM numbers)";
    let rows = run(query, 2, &epochs);
    assert_eq!(rows.len(), 10_000);
    let all: BTreeSet<&String> = rows.iter().flatten().collect();
    assert_eq!(all.len(), 20_000);
    assert!(
        all.iter()
            .all(|uuid| uuid.len() == 36 && uuid.as_bytes()[14] == b'4')
    );
}

#[test]
fn values_without_a_seed_are_the_same_after_a_crash_on_other_workers() {
    let script = format!(
        "{TABLE} SELECT n, rand() AS a, uuid() AS b, randstr(6) AS c, uniform(0, 1000000) AS d
         FROM numbers WHERE rand() < 0.8;"
    );
    let given = |workers: [usize; 2]| {
        let source = MemorySource::new(numbers([0]).schema()).one_batch_per_epoch();
        (0..3).for_each(|epoch| source.add(numbers(epoch * 100..(epoch + 1) * 100)).unwrap());
        let checkpoint = tempfile::tempdir().unwrap();
        let run = |workers, captured: &Captured| {
            let run = Run {
                script: &script,
                mode: "append",
                workers,
                tables: &[("numbers".into(), source.clone())],
                checkpoint: Some(checkpoint.path()),
            };
            run.stream(captured)
        };
        let captured = Captured::default();
        captured.fail_commit_of(1);
        assert!(run(workers[0], &captured).is_err());
        let mut lost = captured.lost();
        run(workers[1], &captured).unwrap();
        let mut again = captured.epochs()[&1].clone();
        lost.sort_by(|a, b| a.1.cmp(&b.1));
        again.sort_by(|a, b| a.1.cmp(&b.1));
        assert!((50..100).contains(&lost.len()), "{}", lost.len());
        assert_eq!(lost, again);
        again
    };
    assert_ne!(given([1, 3]), given([3, 2]), "each query draws for itself");
}

#[test]
fn uniform_and_randstr_keep_to_what_is_asked() {
    let query = "SELECT uniform(-5, 5L) AS a, uniform(1.5, 20.25) AS b, uniform(0.25D, 1.5D) AS c, uniform(n, NULL) AS d,
        randstr(8) AS e, randstr(n % 3) AS f, typeof(uniform(1.5, 20.25)) AS g FROM numbers";
    let rows = run(query, 2, &[numbers(0..1000)]);
    let number = |row: &[String], column: usize| row[column].parse::<f64>().unwrap();
    for row in &rows {
        assert!((-4.0..=4.0).contains(&number(row, 0)), "{row:?}");
        assert!((1.5..=20.25).contains(&number(row, 1)), "{row:?}");
        assert!((0.25..1.5).contains(&number(row, 2)), "{row:?}");
        assert!(row[3].is_empty() && row[5].len() < 3, "{row:?}");
        let alphanumeric = row[4].bytes().all(|c| c.is_ascii_alphanumeric());
        assert!(alphanumeric && row[4].len() == 8, "{row:?}");
        assert_eq!(row[6], "decimal(4,2)");
    }
    let whole: BTreeSet<&String> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(whole.len(), 9, "{whole:?}");
}

#[test]
fn lists_are_in_the_order_of_the_source() {
    let values = [5, 3, 9, 1, 3, 7];
    let query = "SELECT collect_list(n) AS l, first(n) AS f, last(n) AS g FROM numbers";
    let one = numbers(values);
    let many: Vec<RecordBatch> = values.iter().map(|n| numbers([*n])).collect();
    for workers in [1, 3] {
        for epochs in [std::slice::from_ref(&one), &many] {
            let rows = run(query, workers, epochs);
            let last = vec!["[5, 3, 9, 1, 3, 7]".into(), "5".into(), "7".to_owned()];
            assert!(rows.contains(&last), "{rows:?}");
        }
    }
}

#[test]
fn a_batch_has_random_values_too_and_aggregated_rows_have_none() {
    let session = Session::builder().build().unwrap();
    let source = MemorySource::new(numbers([0]).schema());
    source.add(numbers(0..100)).unwrap();
    session.add_source("numbers", source);
    let sql = format!("{TABLE} SELECT rand() AS r FROM numbers;");
    let script = session.parse(&sql, "test").unwrap();
    let Some(tidemark::plan::catalog::Statement::Query(query)) = script.statements.last() else {
        panic!("no query")
    };
    let (_, batches) = session.batch(query).unwrap();
    let column: &Float64Array = batches[0].column(0).as_primitive();
    assert_eq!(column.values().len(), 100);
    assert!(column.values().iter().all(|r| (0.0..1.0).contains(r)));

    let session = Session::builder().build().unwrap();
    session.add_source("numbers", MemorySource::new(numbers([0]).schema()));
    let above = format!(
        "{TABLE} CREATE TABLE result WITH ('connector' = 'memory');
         INSERT INTO result SELECT n, rand() AS r FROM (SELECT n, count(*) AS c FROM numbers GROUP BY n);"
    );
    let error = session.sql(&above).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("compute it below the aggregation"),
        "{error}"
    );
}
