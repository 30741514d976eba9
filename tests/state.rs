//! What each operator keeps, epoch by epoch: the lines of the table "State, and when it goes" in
//! `docs/semantics.md`, held to `numRowsTotal`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemark::session::Session;
use tidemark_connectors::sources::memory::MemorySource;

const MINUTE: i64 = 60_000_000;

fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("x", DataType::Int64, true),
        Field::new("ts", utc, true),
    ]))
}

/// Rows of a key, a number and a minute.
fn rows(rows: &[(&str, i64, i64)]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|row| Some(row.0)).collect();
    let numbers: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.2 * MINUTE)).collect();
    let times = times.with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(numbers), Arc::new(times)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Six rows of three keys within ten minutes, some more, then the watermark passes them all.
fn epochs() -> Vec<RecordBatch> {
    vec![
        rows(&[
            ("a", 1, 0),
            ("a", 2, 1),
            ("b", 1, 1),
            ("b", 1, 2),
            ("c", 1, 7),
            ("c", 1, 8),
        ]),
        rows(&[("a", 3, 2), ("b", 1, 9)]),
        rows(&[("d", 1, 100)]),
    ]
}

/// The rows that each stateful operator keeps after each epoch, the inputs' first. The epochs without
/// data that follow a move of the watermark are among them.
fn kept(mode: &str, query: &str) -> Vec<Vec<u64>> {
    kept_of(epochs(), mode, query)
}

fn kept_of(epochs: Vec<RecordBatch>, mode: &str, query: &str) -> Vec<Vec<u64>> {
    let source = MemorySource::new(schema()).one_batch_per_epoch();
    for epoch in epochs {
        source.add(epoch).unwrap();
    }
    let session = Session::builder().workers(2).build().unwrap();
    session.add_source("events", source);
    let script = format!(
        "CREATE TABLE events (k STRING, x BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
           WITH ('connector' = 'memory', 'name' = 'events');
         CREATE TABLE versions (k STRING, x BIGINT, ts TIMESTAMP, PRIMARY KEY (k), WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
           WITH ('connector' = 'memory', 'name' = 'events');
         CREATE TABLE result WITH ('connector' = 'memory', 'outputMode' = '{mode}', 'trigger' = 'available-now');
         INSERT INTO result {query};"
    );
    let queries = session
        .sql(&script)
        .unwrap_or_else(|error| panic!("{error}\n{query}"));
    queries[0]
        .await_termination()
        .unwrap_or_else(|error| panic!("{error}\n{query}"));
    (queries[0].recent_progress().iter())
        .map(|progress| {
            progress
                .state_operators
                .iter()
                .map(|o| o.num_rows_total)
                .collect()
        })
        .collect()
}

#[test]
fn what_has_no_state_reports_none() {
    let query =
        "SELECT k, x + 1 AS y FROM events WHERE x > 0 UNION ALL SELECT k, x AS y FROM events";
    assert_eq!(kept("append", query), vec![Vec::<u64>::new(); 3]);
}

#[test]
fn a_group_with_a_window_goes_with_the_watermark() {
    let query = "SELECT window.start AS s, k, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), k";
    for mode in ["append", "update", "changelog"] {
        assert_eq!(kept(mode, query), [[3], [4], [5], [1]], "{mode}");
    }
    assert_eq!(
        kept("complete", query)[2][0],
        5,
        "complete mode forgets nothing"
    );
}

#[test]
fn a_group_without_event_time_stays() {
    let query = "SELECT k, count(*) AS n FROM events GROUP BY k";
    assert_eq!(kept("update", query), [[3], [3], [4], [4]]);
}

#[test]
fn a_group_over_what_changes_goes_with_its_last_row() {
    let query = "SELECT n, count(*) AS keys FROM (SELECT k, count(*) AS n FROM events GROUP BY k) GROUP BY n";
    // Two rows each: one group. Then 3, 3 and 2; then also 1.
    assert_eq!(kept("update", query), [[3, 1], [3, 2], [4, 3], [4, 3]]);
}

#[test]
fn an_aggregate_over_all_rows_is_one_row() {
    let query = "SELECT count(*) AS n, max(x) AS most FROM events";
    assert_eq!(kept("update", query), [[1], [1], [1], [1]]);
}

#[test]
fn distinct_rows_stay_unless_they_carry_event_time() {
    assert_eq!(
        kept("append", "SELECT DISTINCT k, x FROM events"),
        [[4], [5], [6], [6]]
    );
    let query = "SELECT DISTINCT k, ts FROM events";
    assert_eq!(kept("append", query), [[6], [8], [9], [1]]);
}

#[test]
fn a_session_that_is_folded_is_one_row_until_its_end() {
    let query = "SELECT session_window.start AS s, k, count(*) AS n FROM events GROUP BY session_window(ts, '2 minutes'), k";
    for mode in ["append", "update", "changelog"] {
        assert_eq!(kept(mode, query), [[3], [4], [5], [1]], "{mode}");
    }
    assert_eq!(
        kept("complete", query)[2][0],
        5,
        "complete mode forgets nothing"
    );
}

#[test]
fn a_session_that_is_not_folded_keeps_its_rows_until_its_end() {
    let query = "SELECT session_window.start AS s, k, count(DISTINCT x) AS n FROM events GROUP BY session_window(ts, '2 minutes'), k";
    for mode in ["update", "changelog"] {
        assert_eq!(
            kept(mode, query),
            [[6, 3], [8, 4], [9, 5], [1, 1]],
            "{mode}"
        );
    }
    // In append mode a session reaches the aggregate complete, and leaves it in the same epoch.
    assert_eq!(kept("append", query), [[6, 0], [8, 0], [9, 0], [1, 0]]);
}

/// Three keys each minute, in epochs of five minutes: more than a thousand times the bound of a minute.
#[test]
fn state_follows_the_bound_and_not_the_stream() {
    let epochs = || -> Vec<RecordBatch> {
        (0..204)
            .map(|epoch| {
                let minutes = epoch * 5..epoch * 5 + 5;
                let of = |minute| ["a", "b", "c"].map(|key| (key, minute, minute));
                rows(&minutes.flat_map(of).collect::<Vec<_>>())
            })
            .collect()
    };
    let queries = [
        "SELECT a.k, a.x, b.x AS y FROM events a JOIN events b ON a.k = b.k
           AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE",
        "SELECT a.k, a.x, b.x AS y FROM events a FULL JOIN events b ON a.k = b.k AND a.x < b.x
           AND b.ts BETWEEN a.ts - INTERVAL '1' MINUTE AND a.ts + INTERVAL '1' MINUTE",
        "SELECT l.k, l.n, r.n AS m FROM
           (SELECT window, k, count(*) AS n FROM events GROUP BY window(ts, '1 minute'), k) l JOIN
           (SELECT window, k, count(*) AS n FROM events GROUP BY window(ts, '1 minute'), k) r ON l.window = r.window AND l.k = r.k",
        "SELECT * FROM DEDUPLICATE_WITHIN_WATERMARK(TABLE events, DESCRIPTOR(k, x))",
        "SELECT window_end, k, x FROM (SELECT window_end, k, x, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY x DESC, k) AS r
           FROM TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE r <= 2",
        "SELECT k, x, sum(x) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW) AS s FROM events",
        "SELECT k, x, x - lag(x) OVER (PARTITION BY k ORDER BY ts) AS more FROM events",
        "SELECT a.k, a.x, b.x AS y FROM events a ASOF JOIN events b MATCH_CONDITION (a.ts > b.ts) ON a.k = b.k",
        "SELECT a.k, a.x, b.x AS y FROM events a ASOF JOIN events b MATCH_CONDITION (a.ts < b.ts) ON a.k = b.k",
        "SELECT a.k, a.x, v.x AS y FROM events a LEFT JOIN versions FOR SYSTEM_TIME AS OF a.ts AS v ON a.k = v.k",
    ];
    for query in queries {
        for mode in ["append", "changelog"] {
            // Without a bound in time a row is kept for those that look back on it.
            if mode == "changelog" && query.contains("lag(") {
                continue;
            }
            // The last hundred epochs.
            let kept = kept_of(epochs(), mode, query);
            let most = |kept: &[Vec<u64>]| kept.iter().map(|of| of.iter().sum::<u64>()).max();
            let (before, after) = kept.split_at(kept.len() / 2);
            assert!(most(after) <= most(before), "{mode} {query}\n{kept:?}");
            assert!(most(after) < Some(250), "{mode} {query}\n{kept:?}");
        }
    }
}
