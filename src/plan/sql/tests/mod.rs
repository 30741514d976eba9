//! Scripts planned and answered, errors as users read them.

mod errors;
mod scripts;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;

use super::*;
use crate::plan::batch::{Tables, run_over};
use crate::plan::catalog::QueryStatement;

const MINUTE: i64 = 60_000_000;

const EVENTS: &str =
    "CREATE TABLE events (eventId STRING, userId STRING, amount DOUBLE, n INT, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE) WITH ('connector' = 'memory');\n";

fn metadata() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(
        "file_name",
        DataType::Utf8,
        true,
    )]))
}

fn session() -> SqlSession {
    let open: OpenSource = Arc::new(|connector, _, declared| {
        if connector != "memory" {
            return Err(tidemark_connectors::ConnectorError::UnknownConnector {
                name: connector.into(),
                nearest: Some("memory".into()),
                known: "memory".into(),
            });
        }
        let learnt = || {
            Arc::new(Schema::new(vec![Field::new(
                "Learnt",
                DataType::Int64,
                true,
            )]))
        };
        Ok(SourceSchema {
            columns: declared.unwrap_or_else(learnt),
            metadata: metadata(),
        })
    });
    SqlSession::new(&ScriptOptions::default())
        .expect("no settings")
        .with_opener(open)
}

fn planned(sql: &str) -> QueryStatement {
    let script = session()
        .run(&format!("{EVENTS}{sql}"), "t.sql")
        .unwrap_or_else(|e| panic!("{sql}\n{e}"));
    let query = script.queries().last().cloned();
    query.unwrap_or_else(|| panic!("no query in {sql}"))
}

fn refused(sql: &str) -> String {
    match session().run(sql, "t.sql") {
        Ok(script) => panic!("{sql} was planned: {script:?}"),
        Err(error) => error.to_string(),
    }
}

/// Five rows: minutes 1, 2, 7, none, 11.
fn rows() -> RecordBatch {
    let minutes = [Some(1), Some(2), Some(7), None, Some(11)];
    let ts: TimestampMicrosecondArray = minutes
        .map(|m| m.map(|m: i64| m * MINUTE))
        .into_iter()
        .collect();
    let file = Arc::new(StringArray::from(vec!["a", "a", "b", "b", "b"])) as ArrayRef;
    let fields = Fields::from(vec![Field::new("file_name", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["e1", "e2", "e3", "e4", "e5"])),
        Arc::new(StringArray::from(vec!["u1", "u2", "u1", "u1", "u3"])),
        Arc::new(Float64Array::from(vec![1.0, 2.0, 4.0, 8.0, 16.0])),
        Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5])),
        Arc::new(ts.with_timezone("UTC")),
        Arc::new(StructArray::new(fields, vec![file], None)),
    ];
    let names = ["eventId", "userId", "amount", "n", "ts", "_metadata"];
    RecordBatch::try_from_iter(names.into_iter().zip(columns)).expect("columns of one length")
}

/// The answer as sorted lines `a|b`, after the names.
fn answer(sql: &str) -> Vec<String> {
    let query = planned(sql);
    let mut tables = Tables::new();
    let wide = rows();
    for source in &query.sources {
        let count =
            5 + usize::from(format!("{}", query.logical.display_indent()).contains("_metadata"));
        let columns: Vec<usize> = (0..count).collect();
        tables.insert(
            source.name.clone(),
            vec![wide.project(&columns).expect("fewer columns")],
        );
    }
    let batches = run_over(&query.logical, &tables, "UTC", 90 * MINUTE)
        .unwrap_or_else(|e| panic!("{sql}\n{e}\n{}", query.logical.display_indent()));
    let text = pretty_format_batches(&batches)
        .expect("printable")
        .to_string();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('+'))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(str::trim)
                .collect::<Vec<_>>()
                .join("|")
                .replace("1970-01-01T", "")
                .replace(":00Z", "")
        })
        .collect();
    lines[1..].sort();
    lines
}

#[test]
fn queries_are_answered_as_spark_answers_them() {
    let cases: &[(&str, &[&str])] = &[
        (
            "SELECT eventid, USERID, amount FROM events WHERE N = 1",
            &["eventid|USERID|amount", "e1|u1|1.0"],
        ),
        (
            "SELECT * FROM Events WHERE n = 5",
            &["eventId|userId|amount|n|ts", "e5|u3|16.0|5|00:11"],
        ),
        (
            "SELECT e.*, n + 1 AS Next FROM events e WHERE n = 5",
            &["eventId|userId|amount|n|ts|Next", "e5|u3|16.0|5|00:11|6"],
        ),
        (
            "SELECT n / 2 AS half, n DIV 2 AS whole, n % 2 AS rest FROM events WHERE n = 5",
            &["half|whole|rest", "2.5|2|1"],
        ),
        (
            "SELECT userId AS `User Id`, sum(amount) AS total FROM events GROUP BY userId",
            &["User Id|total", "u1|13.0", "u2|2.0", "u3|16.0"],
        ),
        (
            "SELECT DISTINCT userId FROM events",
            &["userId", "u1", "u2", "u3"],
        ),
        (
            "SELECT count(*), count(DISTINCT userId) AS users, approx_count_distinct(userId) AS about FROM events",
            &["count(1)|users|about", "5|3|3"],
        ),
        (
            "SELECT count(*) FILTER (WHERE n > 3) AS c, avg(n) AS mean, mean(n) AS m2 FROM events",
            &["c|mean|m2", "2|3.0|3.0"],
        ),
        (
            "SELECT window.start, window.end, count(*) AS c FROM events GROUP BY window(ts, '5 minutes')",
            &[
                "start|end|c",
                "00:00|00:05|2",
                "00:05|00:10|1",
                "00:10|00:15|1",
            ],
        ),
        (
            "SELECT window, userId, count(*) c FROM events GROUP BY window(ts, '10 minutes'), userId",
            &[
                "window|userId|c",
                "{start: 00:00, end: 00:10}|u1|2",
                "{start: 00:00, end: 00:10}|u2|1",
                "{start: 00:10, end: 00:20}|u3|1",
            ],
        ),
        (
            "SELECT window.start AS s, count(*) AS c FROM events GROUP BY window(ts, '10 minutes', '5 minutes')",
            &["s|c", "00:00|3", "00:05|2", "00:10|1", "1969-12-31T23:55|2"],
        ),
        (
            "SELECT window(ts, INTERVAL '10' MINUTE).start AS s, eventId FROM events",
            &["s|eventId", "00:00|e1", "00:00|e2", "00:00|e3", "00:10|e5"],
        ),
        (
            "SELECT eventId, window(ts, '4 minutes', '2 minutes', '1 minute') FROM events WHERE n = 1",
            &[
                "eventId|window",
                "e1|{start: 00:01, end: 00:05}",
                "e1|{start: 1969-12-31T23:59, end: 00:03}",
            ],
        ),
        (
            "SELECT window_time(window) AS t, count(*) AS c FROM events GROUP BY window(ts, '1 hour')",
            &["t|c", "00:59:59.999999Z|4"],
        ),
        (
            "SELECT window(window, '10 minutes').start AS s, sum(c) AS c FROM (SELECT window, count(*) AS c FROM events GROUP BY window(ts, '5 minutes')) GROUP BY window(window, '10 minutes')",
            &["s|c", "00:00|3", "00:10|1"],
        ),
        (
            "SELECT window.start AS s, count(*) AS c FROM events GROUP BY window(ts, '5 minutes') HAVING count(*) > 1",
            &["s|c", "00:00|2"],
        ),
        (
            "SELECT window_start, window_end, window_time, count(*) AS c FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' MINUTE)) GROUP BY window_start, window_end, window_time",
            &[
                "window_start|window_end|window_time|c",
                "00:00|00:05|00:04:59.999Z|2",
                "00:05|00:10|00:09:59.999Z|1",
                "00:10|00:15|00:14:59.999Z|1",
            ],
        ),
        (
            "SELECT window_start, count(*) AS c FROM HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '5' MINUTES, INTERVAL '10' MINUTES) GROUP BY window_start",
            &[
                "window_start|c",
                "00:00|3",
                "00:05|2",
                "00:10|1",
                "1969-12-31T23:55|2",
            ],
        ),
        (
            "SELECT window_end, count(*) AS c FROM TABLE(CUMULATE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '15' MINUTE)) AS w GROUP BY window_end",
            &["window_end|c", "00:05|2", "00:10|3", "00:15|4"],
        ),
        (
            "SELECT * FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' MINUTE)) WHERE n = 1",
            &[
                "eventId|userId|amount|n|ts|window_start|window_end|window_time",
                "e1|u1|1.0|1|00:01|00:00|00:05|00:04:59.999Z",
            ],
        ),
        (
            "SELECT eventId, _metadata.file_name FROM events WHERE n < 2",
            &["eventId|file_name", "e1|a"],
        ),
        (
            "SELECT *, _metadata.FILE_NAME AS f FROM events WHERE n < 2",
            &["eventId|userId|amount|n|ts|f", "e1|u1|1.0|1|00:01|a"],
        ),
        (
            "SELECT year(ts) AS y, quarter(ts) AS q, month(ts) AS m, day(ts) AS d FROM events WHERE n = 1",
            &["y|q|m|d", "1970|1|1|1"],
        ),
        (
            "SELECT count(DISTINCT userId, ts) AS c, count(DISTINCT userId, n % 2) AS d FROM events",
            &["c|d", "4|4"],
        ),
        (
            "SELECT current_timestamp() AS now, current_date AS today, n FROM events WHERE n = 1",
            &["now|today|n", "01:30|1970-01-01|1"],
        ),
        (
            "WITH big AS (SELECT n AS Num FROM events WHERE n > 3) SELECT * FROM big UNION ALL SELECT n FROM events WHERE n = 1",
            &["Num", "1", "4", "5"],
        ),
        (
            "SELECT n FROM events WHERE n < 3 UNION SELECT 1",
            &["n", "1", "2"],
        ),
        (
            "CREATE VIEW Busy (Who, HowOften) AS SELECT userId, count(*) FROM events GROUP BY userId; SELECT * FROM busy WHERE howoften > 1",
            &["Who|HowOften", "u1|3"],
        ),
        (
            "SELECT CASE WHEN n > 2 THEN \"many\" ELSE 'few' END AS c, count(*) AS n2 FROM STREAM events GROUP BY 1",
            &["c|n2", "few|2", "many|3"],
        ),
        (
            "SELECT events.n FROM events WATERMARK ts DELAY OF INTERVAL 1 MINUTE WHERE n = 1",
            &["n", "1"],
        ),
        (
            "SELECT CAST('2024-01-01 10:00:00' AS TIMESTAMP) AS t, TIMESTAMP '1970-01-01 00:01:00' AS u, 10L AS l, 1.5D AS d, CAST(3 AS STRING) AS s",
            &["t|u|l|d|s", "2024-01-01T10:00|00:01|10|1.5|3"],
        ),
        (
            "SELECT eventId FROM events WHERE ts >= '1970-01-01 00:05:00' AND ts < TIMESTAMP '1970-01-01 00:05:00' + INTERVAL 5 MINUTES",
            &["eventId", "e3"],
        ),
        (
            "SELECT a, b FROM (VALUES (1, 'x'), (2, 'y')) AS t(a, b)",
            &["a|b", "1|x", "2|y"],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(answer(sql), *expected, "{sql}");
    }
}

#[test]
fn the_console_shows_the_clock_of_the_session() {
    let zone = |sql: &str| {
        let sink = planned(sql).sink;
        sink.options.get("timeZone").map(str::to_owned)
    };
    let tokyo = "SET 'session.timeZone' = 'Asia/Tokyo';";
    assert_eq!(zone("SELECT ts FROM events"), None);
    let found = zone(&format!("{tokyo} SELECT ts FROM events"));
    assert_eq!(found.as_deref(), Some("Asia/Tokyo"));
    let own = "CREATE TABLE out WITH ('connector' = 'console', 'timeZone' = '+02:00');";
    let found = zone(&format!(
        "{tokyo} {own} INSERT INTO out SELECT ts FROM events"
    ));
    assert_eq!(found.as_deref(), Some("+02:00"));
}

#[test]
fn a_count_of_rows_is_named_as_in_spark() {
    let names = |sql: &str| {
        let plan = planned(sql).logical;
        let fields = plan.schema().fields().iter();
        fields.map(|f| f.name().clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        names("SELECT count(*), COUNT( * ) AS n, count(n) FROM events"),
        ["count(1)", "n", "count(n)"]
    );
}
