//! The oracle: for random data, random cuts into epochs, random worker counts and restarts, a
//! stream's final result is the batch answer, and its changelog sums to it.

#[path = "oracle/chained.rs"]
mod chained;
mod common;
#[path = "oracle/joins.rs"]
mod joins;
#[path = "oracle/sessions.rs"]
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{SortColumn, cast, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::array_value_to_string;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tidemark::plan::catalog::Statement;
use tidemark::session::Session;
use tidemark_connectors::sources::memory::MemorySource;

use common::cut;

const MINUTE: i64 = 60_000_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("user", DataType::Utf8, true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new(
            "ts",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
    ]))
}

/// Rows whose event time goes on with some disorder; nulls here and there. Amounts are quarters, so
/// that the batch's sums, which round as they go, are exact too.
fn rows(random: &mut StdRng, count: usize, disorder: i64) -> RecordBatch {
    let start = 1_767_225_600_000_000;
    let null = |chance: f64, random: &mut StdRng| random.random_bool(chance);
    let ids: Int64Array = (0..count).map(|id| Some(id as i64)).collect();
    let users: StringArray = (0..count)
        .map(|_| (!null(0.05, random)).then(|| format!("u{}", random.random_range(0..40))))
        .collect();
    let kinds: StringArray = (0..count)
        .map(|_| (!null(0.02, random)).then(|| ["a", "b", "ü"][random.random_range(0..3)]))
        .collect();
    let amounts: Float64Array = (0..count)
        .map(|_| (!null(0.1, random)).then(|| f64::from(random.random_range(-4000..4000)) / 4.0))
        .collect();
    let times: TimestampMicrosecondArray = (0..count as i64)
        .map(|n| {
            let time = start + n * MINUTE / 20 - random.random_range(0..=disorder);
            (!null(0.02, random)).then_some(time)
        })
        .collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(users),
        Arc::new(kinds),
        Arc::new(amounts),
        Arc::new(times.with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Rows as text with how often each comes, in an order of their own.
fn bag(
    batches: &[RecordBatch],
    sign: impl Fn(&RecordBatch, usize) -> i64,
) -> BTreeMap<String, i64> {
    let mut bag = BTreeMap::new();
    for batch in batches {
        let shown = batch
            .schema()
            .fields()
            .iter()
            .filter(|f| !f.name().starts_with('_'))
            .count();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = (0..batch.num_columns())
                .filter(|column| !batch.schema().field(*column).name().starts_with('_'))
                .map(|column| array_value_to_string(batch.column(column), row).unwrap())
                .collect();
            assert_eq!(cells.len(), shown);
            *bag.entry(cells.join("|")).or_insert(0) += sign(batch, row);
        }
    }
    bag.retain(|_, count| *count != 0);
    bag
}

fn once(_: &RecordBatch, _: usize) -> i64 {
    1
}

fn change(batch: &RecordBatch, row: usize) -> i64 {
    let column = batch
        .column_by_name("_change_type")
        .expect("a changelog says what happened");
    let column = cast(column, &DataType::Utf8).unwrap();
    let kind = column
        .as_any()
        .downcast_ref::<StringArray>()
        .unwrap()
        .value(row)
        .to_owned();
    match kind.as_str() {
        "insert" | "update_postimage" => 1,
        "delete" | "update_preimage" => -1,
        other => panic!("no change is called {other}"),
    }
}

const TABLE: &str = "CREATE TABLE events (id BIGINT, user STRING, kind STRING, amount DOUBLE, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '30' MINUTE) WITH ('connector' = 'memory', 'name' = 'events');";

/// Queries whose batch answer is the stream's: no row is late, for the disorder is below the delay.
const QUERIES: &[&str] = &[
    "SELECT id, upper(kind) AS k, amount * 2 AS twice FROM events WHERE amount > 0 OR user IS NULL",
    "SELECT kind, count(*) AS n, count(amount) AS m, sum(amount) AS s, avg(amount) AS a, min(amount) AS lo,
            max(user) AS hi, count(DISTINCT user) AS d, approx_count_distinct(user) AS ad
     FROM events GROUP BY kind",
    "SELECT count(*) AS n, sum(id) AS s, max(ts) AS t FROM events",
    "SELECT kind, count(DISTINCT user) AS a, count(DISTINCT user) FILTER (WHERE amount > 0) AS b,
            count(DISTINCT user) FILTER (WHERE amount < -500) AS c, count(DISTINCT id % 100) AS d,
            count(DISTINCT id % 100) FILTER (WHERE amount > 900) AS e, count(DISTINCT user, id % 3) FILTER (WHERE id > 200) AS f
     FROM events GROUP BY kind",
    "SELECT window.start AS ws, count(DISTINCT user) AS a, count(DISTINCT user) FILTER (WHERE kind = 'a') AS b
     FROM events GROUP BY window(ts, '20 minutes', '5 minutes')",
    "SELECT n % 3 AS m, count(DISTINCT n) AS a, count(DISTINCT n) FILTER (WHERE s > 0) AS b,
            count(DISTINCT user) FILTER (WHERE s > 0) AS c, count(DISTINCT user) AS d
     FROM (SELECT user, count(*) AS n, sum(amount) AS s FROM events GROUP BY user) GROUP BY n % 3",
    "SELECT window.start AS ws, window.end AS we, kind, count(*) AS n, sum(amount) AS s
     FROM events GROUP BY window(ts, '10 minutes'), kind",
    "SELECT window.start AS ws, user, count(*) FILTER (WHERE amount > 0) AS n, min(id) AS first
     FROM events GROUP BY window(ts, '20 minutes', '5 minutes', '2 minutes'), user",
    "SELECT window_start, window_end, kind, sum(amount) AS s FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts),
       INTERVAL '15' MINUTE)) GROUP BY window_start, window_end, kind",
    "SELECT window_start, window_end, count(*) AS n FROM TABLE(HOP(TABLE events, DESCRIPTOR(ts),
       INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)) GROUP BY window_start, window_end",
    "SELECT window_start, window_end, count(DISTINCT user) AS n FROM TABLE(CUMULATE(TABLE events, DESCRIPTOR(ts),
       INTERVAL '5' MINUTE, INTERVAL '20' MINUTE)) GROUP BY window_start, window_end",
    "SELECT date_trunc('minute', ts) AS m, count(*) AS n FROM events GROUP BY date_trunc('minute', ts)",
    "SELECT DISTINCT user, kind FROM events",
    "SELECT n, count(*) AS users FROM (SELECT user, count(*) AS n FROM events GROUP BY user) GROUP BY n",
    "SELECT max(n) AS most, min(n) AS least, count(DISTINCT s) AS d, sum(s) AS total FROM
       (SELECT user, count(*) AS n, sum(amount) AS s FROM events GROUP BY user)",
    "SELECT kind, count(*) AS n FROM events GROUP BY kind HAVING count(*) > 150",
    "SELECT kind AS k, amount AS v FROM events WHERE amount > 500
     UNION ALL SELECT user AS k, min(amount) AS v FROM events GROUP BY user",
    "WITH big AS (SELECT user, amount FROM events WHERE abs(amount) > 100)
     SELECT user, CASE WHEN sum(amount) > 0 THEN 'up' ELSE 'down' END AS way FROM big GROUP BY user",
    "SELECT window.start AS ws, max(n) AS most FROM
       (SELECT window, kind, count(*) AS n, window_time(window) AS wt FROM events GROUP BY window(ts, '5 minutes'), kind)
     GROUP BY window(wt, '15 minutes')",
    "SELECT session_window.start AS s, session_window.end AS e, user, count(*) AS n, sum(amount) AS a, min(amount) AS lo,
            max(id) AS hi, count(DISTINCT kind) AS d
     FROM events GROUP BY session_window(ts, '90 seconds'), user",
    "SELECT session_window, count(*) AS n, avg(amount) AS a, max(user) AS u FROM events
     GROUP BY session_window(ts, '4 seconds')",
    "SELECT session_window.start AS s, session_window.end AS e, user, count(*) AS n, max(amount) AS hi FROM events
     GROUP BY session_window(ts, CASE WHEN kind = 'a' THEN '20 seconds' WHEN kind = 'b' THEN '3 minutes' ELSE '0 seconds' END), user",
    "SELECT window_start, window_end, kind, count(*) AS n, sum(amount) AS s FROM TABLE(SESSION(TABLE events PARTITION BY kind,
       DESCRIPTOR(ts), INTERVAL '8' SECOND)) GROUP BY window_start, window_end, kind",
    "SELECT window_start, window_end, user, count(*) AS n FROM SESSION(TABLE events PARTITION BY kind,
       DESCRIPTOR(ts), INTERVAL '8' SECOND) GROUP BY window_start, window_end, user",
    "SELECT id, kind, window_start, window_end FROM SESSION(TABLE events PARTITION BY (user, kind), DESCRIPTOR(ts), INTERVAL '2' MINUTE)",
    "SELECT session_window.start AS s, session_window.end AS e, count(*) AS n, min(c) AS lo, count(DISTINCT c) AS d FROM
       (SELECT user, max(ts) AS last, count(*) AS c FROM events GROUP BY user) GROUP BY session_window(last, '1 minute')",
    "SELECT session_window.start AS s, session_window.end AS e, kind, sum(n) AS n, max(n) AS most FROM
       (SELECT window, kind, count(*) AS n FROM events GROUP BY window(ts, '15 seconds'), kind)
     GROUP BY session_window(window, '5 seconds'), kind",
    "SELECT window.start AS ws, count(*) AS sessions, max(n) AS longest FROM
       (SELECT session_window, user, count(*) AS n FROM events GROUP BY session_window(ts, '2 minutes'), user)
     GROUP BY window(session_window, '7 minutes')",
    "SELECT session_window.start AS s, user, count(*) AS n FROM events GROUP BY session_window(ts, '3 minutes'), user
     HAVING count(*) > 2 AND user <> 'u3'",
    "SELECT session_window.start AS s, user, first(kind) AS a, max_by(id, amount) AS b, var_pop(amount) AS c,
            bit_xor(id) FILTER (WHERE amount > 0) AS d, approx_count_distinct(kind) AS e
     FROM events GROUP BY session_window(ts, '2 minutes'), user",
    "SELECT session_window.start AS s, user, collect_list(amount) AS a, sum(DISTINCT id % 5) AS b, median(amount) AS c
     FROM events GROUP BY session_window(ts, '2 minutes'), user",
    "SELECT id, p, x FROM events LATERAL VIEW OUTER posexplode(filter(array(user, kind), s -> s > 'b')) v AS p, x",
    "SELECT x, count(*) AS n FROM (SELECT explode(sequence(0, id % 4)) AS x FROM events) GROUP BY x",
    "SELECT kind, k, v FROM (SELECT kind, count(*) AS n, max(id) AS hi FROM events GROUP BY kind)
     LATERAL VIEW explode(map('n', n, 'hi', hi)) e AS k, v",
    "SELECT struct(kind, user) AS who, count(*) AS n FROM events GROUP BY struct(kind, user)",
    "SELECT DISTINCT transform(array(user, kind), s -> upper(s)) AS names FROM events",
    "SELECT kind, stddev(amount) AS a, var_pop(amount) AS b, skewness(amount) AS c, kurtosis(amount) AS d,
            corr(amount, id) AS e, covar_samp(amount, id) AS f, regr_slope(amount, id) AS g, regr_r2(amount, id) AS h,
            regr_intercept(amount, id) AS i, bit_and(id) AS j, bit_or(id) AS k, bit_xor(id) AS l,
            bool_and(amount > -999) AS m, bool_or(amount > 999) AS n, count_if(amount > 0) AS o,
            stddev(DISTINCT amount) FILTER (WHERE amount > 0) AS p, regr_count(amount, id) AS q
     FROM events GROUP BY kind",
    "SELECT kind, first(user) AS a, last(amount) AS b, any_value(user, true) AS c, first(amount) IGNORE NULLS AS d,
            min_by(user, amount) AS e, max_by(amount, user) AS f, collect_list(amount) AS g, collect_set(user) AS h,
            listagg(user, ',') AS i, string_agg(DISTINCT user, '-') WITHIN GROUP (ORDER BY user DESC) AS j,
            listagg(user, ' ') WITHIN GROUP (ORDER BY amount) FILTER (WHERE amount > 500) AS k
     FROM events GROUP BY kind",
    "SELECT user, percentile(amount, 0.3) AS a, percentile(amount, array(0.1, 0.9)) AS b, median(amount) AS c,
            percentile_cont(0.25) WITHIN GROUP (ORDER BY amount DESC) AS d, mode(kind) AS e,
            percentile_disc(0.5) WITHIN GROUP (ORDER BY amount) AS f, approx_percentile(ts, 0.5) AS g,
            histogram_numeric(amount, 3) AS h, try_sum(id) AS i, try_avg(amount) AS j
     FROM events GROUP BY user",
    "SELECT sum(DISTINCT amount) AS a, avg(DISTINCT amount) AS b, sum(DISTINCT id % 7) AS c, bit_xor(DISTINCT id % 9) AS d,
            collect_list(DISTINCT kind) AS e, percentile(DISTINCT amount, 0.5) AS f, max(DISTINCT id) AS g
     FROM events",
    "SELECT window.start AS ws, kind, first(user) AS a, max_by(user, amount) AS b, collect_list(amount) AS c,
            stddev_pop(amount) AS d, median(amount) AS e, sum(DISTINCT amount) AS f
     FROM events GROUP BY window(ts, '10 minutes'), kind",
    // Over rows that are taken back.
    "SELECT n % 3 AS k, stddev(s) AS a, corr(s, n) AS b, kurtosis(s) AS c, bit_and(n) AS d, bit_or(n) AS e, bit_xor(n) AS f,
            bool_and(s > 0) AS g, bool_or(s > 0) AS h, count_if(s > 0) AS i, try_sum(n) AS j, sum(DISTINCT n) AS l,
            avg(DISTINCT s) AS m
     FROM (SELECT user, count(*) AS n, sum(amount) AS s FROM events GROUP BY user) GROUP BY n % 3",
    "SELECT k, first(n) AS a, last(user) AS b, min_by(user, s) AS c, max_by(s, n) AS d, collect_list(s) AS e,
            collect_set(n) AS f, listagg(user, ',') AS g, listagg(user, ',') WITHIN GROUP (ORDER BY n) AS h,
            percentile(s, 0.4) AS i, median(n) AS j, approx_percentile(s, array(0.2, 0.8)) AS l, mode(n) AS m,
            histogram_numeric(s, 4) AS o, percentile_disc(0.5) WITHIN GROUP (ORDER BY s DESC) AS p,
            approx_count_distinct(n) AS q, any_value(s, true) AS r
     FROM (SELECT user, kind AS k, count(*) AS n, sum(amount) AS s FROM events GROUP BY user, kind) GROUP BY k",
    "SELECT DISTINCT ON (user, kind) user, kind, id, amount * 2 AS twice FROM events",
    "SELECT kind, count(*) AS n, sum(amount) AS s FROM (SELECT DISTINCT ON (user, kind) * FROM events WHERE amount > 0) GROUP BY kind",
    "SELECT DISTINCT ON (n) n, user, s FROM (SELECT user, count(*) AS n, sum(amount) AS s FROM events GROUP BY user)",
    "SELECT DISTINCT ON (kind, user) kind, user, amount, id FROM events ORDER BY kind, user, amount DESC NULLS LAST, id",
    "SELECT kind, id, amount, r FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY kind ORDER BY amount DESC) AS r FROM events)
     WHERE r <= 3",
    "SELECT user, amount, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user ORDER BY kind, ts) AS r FROM events)
     WHERE r BETWEEN 2 AND 4 AND amount > -500",
    "SELECT kind, n, r FROM (SELECT kind, id % 50 AS n, RANK() OVER (PARTITION BY kind ORDER BY id % 50) AS r FROM events)
     WHERE r < 20",
    "SELECT n, r FROM (SELECT id % 9 AS n, DENSE_RANK() OVER (ORDER BY id % 9 DESC) AS r FROM events) WHERE r IN (2)",
    "SELECT user, n, r FROM (SELECT user, n, RANK() OVER (ORDER BY n DESC, user) AS r FROM
       (SELECT user, count(*) AS n FROM events GROUP BY user)) WHERE r <= 5",
    "SELECT kind, max(n) AS most, count(*) AS c FROM (SELECT kind, user, n, DENSE_RANK() OVER (PARTITION BY kind ORDER BY n DESC) AS r
       FROM (SELECT kind, user, count(*) AS n FROM events GROUP BY kind, user)) WHERE r <= 2 GROUP BY kind",
    "SELECT w, user, n FROM (SELECT window.start AS w, user, n, ROW_NUMBER() OVER (PARTITION BY window ORDER BY n DESC, user) AS r FROM
       (SELECT window, user, count(*) AS n FROM events GROUP BY window(ts, '10 minutes'), user)) WHERE r <= 2",
    "SELECT w.start AS w, id, amount FROM (SELECT window(ts, '10 minutes') AS w, id, amount, ROW_NUMBER() OVER
       (PARTITION BY window(ts, '10 minutes') ORDER BY amount) AS r FROM events) WHERE r = 1 AND w IS NOT NULL",
    "SELECT id, kind, sum(id) OVER (PARTITION BY kind ORDER BY id) AS s, lag(amount) OVER (PARTITION BY user ORDER BY ts, id) AS p,
            lead(id, 2) OVER (PARTITION BY user ORDER BY ts, id) AS q, first_value(amount) OVER (PARTITION BY user ORDER BY ts, id) AS f
     FROM events",
    "SELECT id, avg(amount) OVER (PARTITION BY kind ORDER BY ts ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS a,
            max(amount) OVER (PARTITION BY kind ORDER BY ts RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING AND CURRENT ROW) AS m
     FROM events WHERE ts IS NOT NULL",
    "SELECT id, ROW_NUMBER() OVER (PARTITION BY kind ORDER BY amount) AS r, ntile(3) OVER (PARTITION BY kind ORDER BY amount) AS t,
            percent_rank() OVER (PARTITION BY kind ORDER BY amount) AS p, cume_dist() OVER (PARTITION BY kind ORDER BY amount) AS c
     FROM events",
    "SELECT user, n, n - lag(n, 1, 0) OVER (ORDER BY n, user) AS more FROM (SELECT user, count(*) AS n FROM events GROUP BY user)",
    "SELECT w.start AS w, kind, n, sum(n) OVER (PARTITION BY w) AS total FROM
       (SELECT window AS w, kind, count(*) AS n FROM events GROUP BY window(ts, '10 minutes'), kind)",
    "SELECT id, amount FROM events ORDER BY amount DESC, id LIMIT 7 OFFSET 2",
    "SELECT kind, count(*) AS n FROM (SELECT kind FROM events ORDER BY amount LIMIT 50) GROUP BY kind",
    "SELECT user, s FROM (SELECT user, sum(amount) AS s FROM events GROUP BY user) WHERE s > 0 ORDER BY s DESC, user LIMIT 3",
    "SELECT kind, user, grouping(kind) AS gk, grouping_id() AS g, count(*) AS n, sum(amount) AS s, first(id) AS f
     FROM events GROUP BY CUBE (kind, user)",
    "SELECT window.start AS ws, kind, grouping_id() AS g, count(*) AS n, max(amount) AS m
     FROM events GROUP BY window(ts, '10 minutes'), ROLLUP (kind)",
];

/// Whether append mode is possible: the time of some result comes from rows with a watermark.
fn closes(query: &str) -> bool {
    (query.contains("window") || query.contains("date_trunc")) && !query.contains("AS last")
}

struct Run<'a> {
    query: &'a str,
    mode: &'a str,
    workers: usize,
    epochs: &'a [RecordBatch],
    checkpoint: Option<&'a std::path::Path>,
    trigger: &'a str,
}

fn session(workers: usize, source: &MemorySource) -> Session {
    let session = Session::builder().workers(workers).build().unwrap();
    session.add_source("events", source.clone());
    session
}

fn source(epochs: &[RecordBatch]) -> MemorySource {
    let source = MemorySource::new(schema()).one_batch_per_epoch();
    for epoch in epochs {
        source.add(epoch.clone()).unwrap();
    }
    source
}

fn script(run: &Run<'_>) -> String {
    let checkpoint = run
        .checkpoint
        .map(|path| format!(", 'checkpointLocation' = '{}'", path.display()))
        .unwrap_or_default();
    format!(
        "{TABLE} CREATE TABLE result WITH ('connector' = 'memory', 'outputMode' = '{}', 'trigger' = '{}'{checkpoint});
         INSERT INTO result {};",
        run.mode, run.trigger, run.query
    )
}

/// One of the triggers at whose end all is read, continuous running among them.
fn trigger(random: &mut StdRng) -> &'static str {
    [
        "available-now",
        "continuous 5 milliseconds",
        "continuous 1 hour",
    ][random.random_range(0..3)]
}

fn stream(run: &Run<'_>) -> Vec<RecordBatch> {
    let source = source(run.epochs);
    source.finish();
    let session = session(run.workers, &source);
    let queries = session
        .sql(&script(run))
        .unwrap_or_else(|error| panic!("{error}\n{}", run.query));
    queries[0]
        .await_termination()
        .unwrap_or_else(|error| panic!("{error}\n{}", run.query));
    session
        .table("result")
        .unwrap()
        .expect("the sink has the query's name")
        .1
}

fn batch(query: &str, rows: &RecordBatch) -> Vec<RecordBatch> {
    let session = session(1, &source(std::slice::from_ref(rows)));
    let script = session
        .parse(&format!("{TABLE} {query};"), "oracle")
        .unwrap();
    let Some(Statement::Query(statement)) = script.statements.last() else {
        panic!("no query")
    };
    session
        .batch(statement)
        .unwrap_or_else(|error| panic!("{error}\n{query}"))
        .1
}

fn compare(what: &str, query: &str, got: &BTreeMap<String, i64>, wanted: &BTreeMap<String, i64>) {
    if got == wanted {
        return;
    }
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(row, n)| got.get(*row) != Some(n))
        .take(5)
        .collect();
    let extra: Vec<_> = got
        .iter()
        .filter(|(row, n)| wanted.get(*row) != Some(n))
        .take(5)
        .collect();
    panic!("{what}: the stream is not the batch\n{query}\nmissing {missing:?}\nextra {extra:?}");
}

#[test]
fn the_changelog_sums_to_the_batch_answer() {
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..2 {
        let rows = rows(&mut random, 600, 20 * MINUTE);
        for query in QUERIES {
            let wanted = bag(&batch(query, &rows), once);
            for workers in [1, 2, 4] {
                let epochs = cut(&mut random, &rows, 12);
                let run = Run {
                    query,
                    mode: "changelog",
                    workers,
                    epochs: &epochs,
                    checkpoint: None,
                    trigger: trigger(&mut random),
                };
                let what = format!(
                    "round {round}, changelog, {}, {workers} workers, {} epochs",
                    run.trigger,
                    epochs.len()
                );
                compare(&what, query, &bag(&stream(&run), change), &wanted);
            }
        }
    }
}

#[test]
fn update_and_complete_end_at_the_batch_answer() {
    let mut random = StdRng::seed_from_u64(2);
    let rows = rows(&mut random, 500, 20 * MINUTE);
    for query in QUERIES
        .iter()
        .filter(|query| query.contains("GROUP BY") || query.contains("count(*) AS n, sum(id)"))
    {
        let wanted = bag(&batch(query, &rows), once);
        // Update is by key; a union of a stream and an aggregate has none, nor has what multiplies rows.
        let unkeyed = ["UNION", "CUBE", "ROLLUP", "LATERAL VIEW"];
        let modes: &[&str] = if unkeyed.iter().any(|word| query.contains(word)) {
            &["complete"]
        } else {
            &["update", "complete"]
        };
        for mode in modes {
            let epochs = cut(&mut random, &rows, 12);
            let run = Run {
                query,
                mode,
                workers: 2,
                epochs: &epochs,
                checkpoint: None,
                trigger: trigger(&mut random),
            };
            compare(mode, query, &bag(&stream(&run), once), &wanted);
        }
    }
}

#[test]
fn append_gives_each_closed_window_once_and_only_what_the_batch_gives() {
    let mut random = StdRng::seed_from_u64(3);
    let rows = rows(&mut random, 2000, 20 * MINUTE);
    for query in QUERIES.iter().filter(|query| closes(query)) {
        let wanted = bag(&batch(query, &rows), once);
        let mut all = vec![];
        for workers in [1, 3] {
            let epochs = cut(&mut random, &rows, 12);
            let run = Run {
                query,
                mode: "append",
                workers,
                epochs: &epochs,
                checkpoint: None,
                trigger: trigger(&mut random),
            };
            let got = bag(&stream(&run), once);
            assert!(!got.is_empty(), "no window closed\n{query}");
            for (row, times) in &got {
                assert_eq!(
                    wanted.get(row),
                    Some(times),
                    "{row} is not the batch's\n{query}"
                );
            }
            all.push(got);
        }
        // What has closed at the end depends on nothing but the rows.
        compare("append, 1 and 3 workers", query, &all[0], &all[1]);
    }
}

#[test]
fn restarts_on_any_number_of_workers_change_nothing() {
    let mut random = StdRng::seed_from_u64(4);
    let rows = rows(&mut random, 600, 20 * MINUTE);
    for query in QUERIES {
        let wanted = bag(&batch(query, &rows), once);
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint");
        let epochs = cut(&mut random, &rows, 12);
        let mut changes: BTreeMap<String, i64> = BTreeMap::new();
        let mut known = 0;
        // Each run sees some epochs more, on another number of workers, with another trigger.
        while known < epochs.len() {
            known = (known + random.random_range(1..=3)).min(epochs.len());
            let mut workers = [1, 2, 3];
            workers.shuffle(&mut random);
            let run = Run {
                query,
                mode: "changelog",
                workers: workers[0],
                epochs: &epochs[..known],
                checkpoint: Some(&checkpoint),
                trigger: trigger(&mut random),
            };
            for (row, count) in bag(&stream(&run), change) {
                *changes.entry(row).or_insert(0) += count;
            }
        }
        changes.retain(|_, count| *count != 0);
        compare("restarts", query, &changes, &wanted);
    }
}

#[test]
fn late_rows_are_dropped_and_counted_row_by_row() {
    let mut random = StdRng::seed_from_u64(5);
    let rows = rows(&mut random, 2000, 0);
    // The first rows come again at the end, too late. A row is late against the watermark of the
    // epoch before, so there must be one between.
    let epochs = [
        rows.slice(0, 1900),
        rows.slice(1900, 100),
        rows.slice(0, 50),
    ];
    let query =
        "SELECT window.start AS ws, count(*) AS n FROM events GROUP BY window(ts, '10 minutes')";
    let session = session(2, &source(&epochs));
    let run = Run {
        query,
        mode: "update",
        workers: 2,
        epochs: &epochs,
        checkpoint: None,
        trigger: "available-now",
    };
    let queries = session.sql(&script(&run)).unwrap();
    queries[0].await_termination().unwrap();
    let late: u64 = queries[0]
        .recent_progress()
        .iter()
        .flat_map(|progress| &progress.state_operators)
        .map(|operator| operator.num_rows_dropped_by_watermark)
        .sum();
    let timed = rows.slice(0, 50).column(4).len() - rows.slice(0, 50).column(4).null_count();
    assert_eq!(late, timed as u64);
    let got = session.table("result").unwrap().unwrap().1;
    compare(
        "late rows",
        query,
        &bag(&got, once),
        &bag(&batch(query, &rows), once),
    );
}

#[test]
fn a_complete_result_is_the_same_rows_in_any_cut() {
    let mut random = StdRng::seed_from_u64(6);
    let rows = rows(&mut random, 300, 20 * MINUTE);
    let query = QUERIES[1];
    let sorted = |batches: Vec<RecordBatch>| {
        let all = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let keys = vec![SortColumn {
            values: Arc::clone(all.column(0)),
            options: None,
        }];
        take_record_batch(&all, &lexsort_to_indices(&keys, None).unwrap()).unwrap()
    };
    let mut results = vec![];
    for workers in [1, 2] {
        let epochs = cut(&mut random, &rows, 12);
        let run = Run {
            query,
            mode: "complete",
            workers,
            epochs: &epochs,
            checkpoint: None,
            trigger: "once",
        };
        results.push(sorted(stream(&run)));
    }
    assert_eq!(results[0], results[1]);
}
