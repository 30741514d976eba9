//! Queries in Rust: the names that a Spark user knows, over an in-memory source.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use tidemark::plan::Trigger;
use tidemark::session::{Session, avg, col, count, count_distinct, expr, lit, window};
use tidemark_connectors::OutputMode;
use tidemark_connectors::sources::memory::MemorySource;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, true),
        Field::new("amount", DataType::Int64, true),
        Field::new(
            "ts",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
    ]))
}

/// One row for each (user, amount, minute).
fn rows(rows: &[(&str, i64, i64)]) -> RecordBatch {
    let users: StringArray = rows.iter().map(|row| Some(row.0)).collect();
    let amounts: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
    let times: TimestampMicrosecondArray =
        rows.iter().map(|row| Some(row.2 * 60_000_000)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(users),
        Arc::new(amounts),
        Arc::new(times.with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn setup() -> (Session, MemorySource) {
    let session = Session::builder().workers(2).build().unwrap();
    let source = MemorySource::new(schema());
    session.add_source("clicks", source.clone());
    (session, source)
}

fn number(session: &Session, sql: &str) -> i64 {
    let (_, batches) = session.query_tables(sql).unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[test]
fn a_windowed_query_runs_while_its_table_is_asked() {
    let (session, source) = setup();
    let clicks = session
        .read_stream()
        .format("memory")
        .option("name", "clicks")
        .load()
        .unwrap();
    let counts = clicks
        .with_watermark("ts", "10 minutes")
        .unwrap()
        .filter("amount > 0")
        .group_by([window(col("ts"), "5 minutes"), col("user")])
        .unwrap()
        .agg([count(lit(1)).alias("n"), avg("amount").alias("mean")])
        .unwrap();
    let query = counts
        .write_stream()
        .format("memory")
        .query_name("counts")
        .output_mode(OutputMode::Update)
        .trigger(Trigger::ProcessingTime(Duration::from_millis(10)))
        .start()
        .unwrap();
    assert_eq!(session.streams().active().len(), 1);
    assert_eq!(session.streams().get("counts").unwrap().id(), query.id());

    source
        .add(rows(&[
            ("ann", 1, 1),
            ("ann", 2, 2),
            ("bob", 3, 6),
            ("bob", -1, 6),
        ]))
        .unwrap();
    query.process_all_available().unwrap();
    assert_eq!(number(&session, "SELECT sum(n) FROM counts"), 3);
    source.add(rows(&[("ann", 9, 3)])).unwrap();
    query.process_all_available().unwrap();
    assert_eq!(
        number(&session, "SELECT n FROM counts WHERE user = 'ann'"),
        3
    );
    assert_eq!(number(&session, "SELECT count(*) FROM counts"), 2);

    let progress = query.recent_progress();
    assert_eq!(
        progress
            .iter()
            .map(|progress| progress.num_input_rows)
            .sum::<u64>(),
        5
    );
    query.stop().unwrap();
    assert!(!query.is_active());
    assert!(query.exception().is_none());
    assert!(session.streams().active().is_empty());
}

#[test]
fn the_rest_of_the_steps() {
    let (session, source) = setup();
    source
        .add(rows(&[
            ("ann", 1, 1),
            ("ann", 1, 1),
            ("bob", 2, 1),
            ("cy", 3, 1),
        ]))
        .unwrap();
    source.finish();
    let clicks = session
        .read_stream()
        .format("memory")
        .option("name", "clicks")
        .load()
        .unwrap();
    let all = clicks
        .select([col("user"), expr("amount * 10").alias("tenfold")])
        .distinct()
        .with_column("big", expr("tenfold > 10"));
    let both = all.union(&all);
    let query = both
        .group_by([col("big")])
        .unwrap()
        .agg([
            count_distinct("user").alias("users"),
            count("*").alias("rows"),
        ])
        .unwrap()
        .write_stream()
        .format("memory")
        .query_name("sizes")
        .output_mode(OutputMode::Complete)
        .trigger(Trigger::AvailableNow)
        .start()
        .unwrap();
    query.await_termination().unwrap();
    assert_eq!(number(&session, "SELECT users FROM sizes WHERE big"), 2);
    assert_eq!(number(&session, "SELECT rows FROM sizes WHERE big"), 4);
    assert_eq!(number(&session, "SELECT rows FROM sizes WHERE NOT big"), 2);
}

#[test]
fn a_second_query_of_the_same_name_is_refused() {
    let (session, _source) = setup();
    let start = || {
        let clicks = session
            .read_stream()
            .format("memory")
            .option("name", "clicks")
            .load()
            .unwrap();
        clicks
            .write_stream()
            .format("noop")
            .query_name("twin")
            .start()
    };
    let first = start().unwrap();
    let error = start().unwrap_err().to_string();
    assert_eq!(
        error,
        "a query named 'twin' is running already; give this one another 'queryName'"
    );
    first.stop().unwrap();
}

#[test]
fn duplicates_are_dropped() {
    let (session, source) = setup();
    source
        .add(rows(&[
            ("ann", 1, 0),
            ("ann", 2, 1),
            ("bob", 2, 1),
            ("ann", 1, 2),
        ]))
        .unwrap();
    source.finish();
    let clicks = session
        .read_stream()
        .format("memory")
        .option("name", "clicks")
        .load()
        .unwrap()
        .with_watermark("ts", "10 minutes")
        .unwrap();
    for (name, of, left) in [
        ("by_user", clicks.drop_duplicates(&["user"]), 3),
        ("by_two", clicks.drop_duplicates(&["user", "amount"]), 5),
        ("by_all", clicks.drop_duplicates(&[]), 6),
        (
            "within",
            clicks.drop_duplicates_within_watermark(&["user"]),
            3,
        ),
    ] {
        let query = of
            .write_stream()
            .format("memory")
            .query_name(name)
            .trigger(Trigger::AvailableNow)
            .start()
            .unwrap();
        query.await_termination().unwrap();
        let sum = format!("SELECT sum(amount) FROM {name}");
        assert_eq!(number(&session, &sum), left, "{name}");
    }
}
