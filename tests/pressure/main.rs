//! Sinks that fail, stop or are slow, and input that comes too fast: nothing is lost, nothing is there
//! twice, and memory stays bounded.

#[cfg(target_os = "linux")]
mod command;
mod flaky;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
#[path = "../watching/place.rs"]
mod place;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use flaky::{Flaky, Trouble};
use tempfile::TempDir;
use tidemark::runtime::{Progress, QueryConfig, Sources, StreamingQuery, start_from};
use tidemark::session::Session;
use tidemark_connectors::Source;
use tidemark_connectors::sources::memory::MemorySource;
use tidemark_connectors::storage::Disk;

/// What has not come by then does not.
const LIMIT: Duration = Duration::from_mins(1);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

fn rows(from: i64, count: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
    RecordBatch::try_new(schema(), vec![numbers]).expect("rows")
}

/// A query that copies numbers from memory into a sink that may fail.
struct Place {
    dir: TempDir,
    source: MemorySource,
    sink: Flaky,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            source: MemorySource::new(schema()).one_batch_per_epoch(),
            sink: Flaky::default(),
        }
    }

    /// `settings`: of the sink.
    fn start(&self, settings: &str) -> StreamingQuery {
        let checkpoint = self.dir.path().join("ckpt");
        let session = Session::builder()
            .config("checkpointLocation", checkpoint.display().to_string())
            .build()
            .expect("a session");
        session.add_source("numbers", self.source.clone());
        let script = format!(
            "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'memory', 'name' = 'numbers');
             CREATE TABLE copy WITH ('connector' = 'noop'{settings});
             INSERT INTO copy SELECT n FROM numbers;"
        );
        let script = session.parse(&script, "query").expect("a script");
        let statement = script.queries().next().expect("a query");
        let plan = session.plan(statement).expect("a plan");
        let (source, sink) = (self.source.clone(), self.sink.clone());
        start_from(
            &plan,
            Sources::opened_by(move || Ok(vec![Box::new(source.clone()) as Box<dyn Source>])),
            move |_, _| Ok(sink.open()),
            &QueryConfig {
                workers: 2,
                cluster: None,
                storage: Arc::new(Disk),
                metrics: None,
            },
            None,
        )
        .expect("it starts")
    }
}

#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn retries(most: u32) -> String {
    format!(", 'maxRetries' = '{most}', 'retryInterval' = '20 milliseconds'")
}

/// Wherever it fails, before or after the rows are there.
#[test]
fn a_sink_that_fails_is_tried_again_and_nothing_is_lost_or_there_twice() {
    for trouble in [
        Trouble::Write,
        Trouble::Stage,
        Trouble::Commit,
        Trouble::Committed,
    ] {
        let place = Place::new();
        let query = place.start(&retries(3));
        place.source.add(rows(0, 100)).expect("rows");
        until("the first rows", || place.sink.rows().len() == 100);
        place.sink.fail(trouble, 2);
        for batch in 1..5 {
            place.source.add(rows(batch * 100, 100)).expect("rows");
        }
        until("all rows", || place.sink.rows().len() >= 500);
        query.process_all_available().expect("it runs");
        let expected: Vec<i64> = (0..500).collect();
        assert_eq!(place.sink.rows(), expected, "{trouble:?}");
        let warnings: Vec<String> = (query.recent_progress().iter())
            .flat_map(|progress| progress.warnings.clone())
            .collect();
        let again = |said: &String| {
            said.starts_with("started again, retry ") && said.contains(" after: cannot ")
        };
        assert!(warnings.iter().any(again), "{trouble:?}: {warnings:?}");
        query.stop().expect("it ends");
    }
}

#[test]
fn a_sink_that_stops_for_a_while_holds_the_query_and_it_says_so() {
    let place = Place::new();
    let query = place.start(&retries(10_000));
    place.sink.fail(Trouble::Commit, u64::MAX);
    place.source.add(rows(0, 10)).expect("rows");
    until("a retry", || {
        query.status().message.contains("retry 2 of 10000")
    });
    until("a word of it", || {
        let said = query.why().split_whitespace().collect::<Vec<_>>().join(" ");
        said.contains("waiting for retry ") && said.contains("after: cannot commit flaky")
    });
    assert!(query.is_active());
    // What comes meanwhile is not read.
    place.source.add(rows(10, 10)).expect("rows");
    place.sink.fail(Trouble::Commit, 0);
    until("all rows", || place.sink.rows().len() == 20);
    assert_eq!(place.sink.rows(), (0..20).collect::<Vec<i64>>());
    query.stop().expect("it ends");
}

#[test]
fn a_sink_that_never_recovers_ends_the_query_and_a_later_start_goes_on() {
    let place = Place::new();
    place.sink.fail(Trouble::Stage, u64::MAX);
    place.source.add(rows(0, 10)).expect("rows");
    let query = place.start(&retries(2));
    let failed = query
        .await_termination()
        .expect_err("it gives up")
        .to_string();
    assert!(failed.contains("cannot write flaky"), "{failed}");
    assert!(
        failed.ends_with("it was started again 2 times ('maxRetries') and went no further"),
        "{failed}"
    );
    // Without retries the first failure is the last.
    let query = place.start("");
    let failed = query.await_termination().expect_err("it fails").to_string();
    assert!(!failed.contains("maxRetries"), "{failed}");
    place.sink.fail(Trouble::Stage, 0);
    let query = place.start("");
    until("all rows", || place.sink.rows().len() == 10);
    query.stop().expect("it ends");
}

#[test]
fn an_error_that_will_not_pass_is_not_tried_again() {
    let place = Place::new();
    place.sink.fail(Trouble::Data, u64::MAX);
    place.source.add(rows(0, 10)).expect("rows");
    let query = place.start(&retries(1000));
    let failed = query.await_termination().expect_err("it fails").to_string();
    assert!(!failed.contains("maxRetries"), "{failed}");
}

#[test]
fn a_query_that_waits_for_a_retry_can_be_stopped() {
    let place = Place::new();
    place.sink.fail(Trouble::Commit, u64::MAX);
    place.source.add(rows(0, 10)).expect("rows");
    let query = place.start(", 'maxRetries' = '5', 'retryInterval' = '1 hour'");
    until("a retry", || {
        query
            .status()
            .message
            .contains("Waiting for retry 1 of 5 after: cannot commit flaky")
    });
    let failed = query.stop().expect_err("it had failed").to_string();
    assert!(
        failed.contains("it was stopped before retry 1 of 5"),
        "{failed}"
    );
}

/// The rows of each epoch that read any.
fn sizes(query: &StreamingQuery) -> Vec<u64> {
    let read = query.recent_progress().into_iter();
    let read = read.map(|progress: Progress| progress.num_input_rows);
    read.filter(|rows| *rows > 0).collect()
}

#[test]
fn the_rate_follows_a_slow_sink_when_a_burst_comes() {
    let mut place = Place::new();
    place.source = MemorySource::new(schema());
    place.sink.pace(Duration::from_millis(2));
    let query = place.start(", 'backpressure.enabled' = 'true', 'backpressure.initialRate' = '100', 'backpressure.pid.minRate' = '50'");
    // A hundred times what the first epoch may take in, in pieces of ten rows; each takes two milliseconds.
    for piece in 0..1_000 {
        place.source.add(rows(piece * 10, 10)).expect("rows");
    }
    until("all rows", || place.sink.rows().len() == 10_000);
    query.process_all_available().expect("it runs");
    let sizes = sizes(&query);
    assert!(sizes[0] <= 110, "{sizes:?}");
    assert!(sizes.len() > 2, "{sizes:?}");
    let last = query.recent_progress();
    let limited = last.iter().filter(|progress| progress.num_input_rows > 0);
    for progress in limited {
        let limit = &progress.sources[0].metrics["maxRowsPerEpoch"];
        let limit: u64 = limit.parse().expect("a number");
        assert!(progress.num_input_rows <= limit.max(10), "{progress:?}");
    }
    query.stop().expect("it ends");
}

#[test]
fn an_epoch_is_cut_to_its_bytes() {
    let mut place = Place::new();
    place.source = MemorySource::new(schema());
    for piece in 0..100 {
        place.source.add(rows(piece * 1_000, 1_000)).expect("rows");
    }
    let piece = rows(0, 1_000).get_array_memory_size();
    let dir = place.dir.path().join("ckpt").display().to_string();
    let session = Session::builder()
        .config("checkpointLocation", dir)
        .config("maxBytesPerTrigger", (piece * 10).to_string())
        .config("trigger", "available-now")
        .build()
        .expect("a session");
    session.add_source("numbers", place.source.clone());
    let queries = session.sql(
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'memory', 'name' = 'numbers');
         CREATE TABLE copy WITH ('connector' = 'noop');
         INSERT INTO copy SELECT n FROM numbers;",
    );
    let query = queries.expect("it starts").pop().expect("a query");
    query.await_termination().expect("it ends");
    assert_eq!(sizes(&query), [10_000; 10]);
    let last = query.last_progress().expect("an epoch");
    assert_eq!(
        last.sources[0].metrics["maxBytesPerEpoch"],
        (piece * 10).to_string()
    );
}
