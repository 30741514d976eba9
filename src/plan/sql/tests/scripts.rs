//! What a script's statements become.

use std::time::Duration;

use super::*;
use crate::plan::Trigger;
use crate::plan::catalog::OnError;
use tidemark_connectors::OutputMode;

fn shape(sql: &str) -> String {
    planned(sql).logical.display_indent().to_string()
}

#[test]
fn a_whole_script_with_sinks_settings_and_views() {
    let text = "SET 'checkpointLocation' = 'ckpt';
        SET spark.sql.streaming.minBatchesToRetain = 7;
        SET idleTimeout = '30 seconds';
        CREATE TABLE events (event_id STRING, event_type STRING, ts TIMESTAMP,
          WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE) WITH ('connector' = 'memory', 'path' = 'in');
        CREATE TABLE per_type WITH ('connector' = 'file', 'path' = 'out', 'partitionBy' = 'event_type',
          'outputMode' = 'append', 'trigger' = '30 seconds', 'queryName' = 'byType', 'deadLetter' = 'bad');
        CREATE TABLE bad WITH ('connector' = 'file', 'path' = 'bad');
        INSERT INTO per_type
        SELECT window.start AS window_start, event_type, count(*) AS n, approx_count_distinct(event_id) AS ids
        FROM events GROUP BY window(ts, '5 minutes'), event_type;
        EXPLAIN SELECT event_id FROM events;
        SELECT event_id FROM events;
        CREATE TABLE copy (id STRING, at BIGINT, PRIMARY KEY (id)) WITH ('connector' = 'console') AS SELECT event_id, 7 FROM events;
        DROP TABLE copy;";
    let script = session()
        .run(text, "t.sql")
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(script.statements.len(), 12);
    let queries: Vec<_> = script.queries().collect();
    let [per_type, bare, copy] = queries[..] else {
        panic!("three queries run, not {}", queries.len())
    };
    assert_eq!(
        (per_type.name.as_str(), per_type.target.as_deref()),
        ("byType", Some("per_type"))
    );
    assert_eq!(per_type.mode, Some(OutputMode::Append));
    assert_eq!(
        per_type.trigger,
        Trigger::ProcessingTime(Duration::from_secs(30))
    );
    assert_eq!(
        per_type.settings.checkpoint_location.as_deref(),
        Some("ckpt/byType")
    );
    assert_eq!(per_type.settings.min_batches_to_retain, 7);
    assert_eq!(per_type.on_error, OnError::DeadLetter);
    assert_eq!(
        per_type.dead_letter.as_ref().map(|t| t.name.as_str()),
        Some("bad")
    );
    assert_eq!(per_type.sink.connector, "file");
    assert_eq!(per_type.sink.options.get("partitionBy"), Some("event_type"));
    assert_eq!(per_type.sink.options.get("outputMode"), None);
    let fields: Vec<String> = per_type
        .logical
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(fields, ["window_start", "event_type", "n", "ids"]);
    let watermark = per_type.sources[0]
        .table
        .watermark
        .clone()
        .expect("declared");
    assert_eq!(
        (watermark.column, watermark.delay),
        (2, Duration::from_mins(10))
    );
    assert_eq!(watermark.idle_timeout, Some(Duration::from_secs(30)));
    assert_eq!(
        (bare.name.as_str(), bare.sink.connector.as_str()),
        ("query2", "console")
    );
    assert_eq!(bare.trigger, Trigger::ProcessingTime(Duration::ZERO));
    assert_eq!(copy.primary_key, [0]);
    let types: Vec<String> = copy
        .logical
        .schema()
        .fields()
        .iter()
        .map(|f| format!("{} {}", f.name(), type_name(f.data_type())))
        .collect();
    assert_eq!(types, ["id STRING", "at BIGINT"]);
}

#[test]
fn settings_from_outside_hold_against_the_script() {
    let options = ScriptOptions {
        settings: vec![("trigger".into(), "once".into())],
    };
    let open = session().tables.open;
    let mut session = SqlSession::new(&options)
        .expect("a setting")
        .with_opener(open);
    let script = session
        .run(
            &format!("SET trigger = '5 seconds'; {EVENTS} SELECT n FROM events"),
            "t.sql",
        )
        .expect("planned");
    assert_eq!(
        script.queries().next().map(|q| q.trigger),
        Some(Trigger::Once)
    );
}

#[test]
fn types_are_sparks() {
    let text = "CREATE TABLE t (a BOOLEAN, b BYTE, c SHORT, d INTEGER, e LONG, f REAL, g DOUBLE, h DECIMAL(12, 3), i NUMERIC,
        j VARCHAR(10), k CHAR(3), l BINARY, m DATE, n TIMESTAMP, o TIMESTAMP_NTZ, p TIMESTAMP_LTZ, q ARRAY<ARRAY<INT>>,
        r MAP<STRING, BIGINT>, s STRUCT<a: INT, B: ARRAY<STRING>>, t INTERVAL) WITH ('connector' = 'memory');
        SELECT * FROM t";
    let script = session()
        .run(text, "t.sql")
        .unwrap_or_else(|e| panic!("{e}"));
    let query = script.queries().next().expect("a query");
    let types: Vec<String> = query
        .logical
        .schema()
        .fields()
        .iter()
        .map(|f| type_name(f.data_type()))
        .collect();
    let expected = "BOOLEAN TINYINT SMALLINT INT BIGINT FLOAT DOUBLE DECIMAL(12,3) DECIMAL(10,0) STRING STRING BINARY DATE TIMESTAMP TIMESTAMP_NTZ TIMESTAMP ARRAY<ARRAY<INT>> MAP<STRING, BIGINT> STRUCT<a: INT, B: ARRAY<STRING>> INTERVAL";
    assert_eq!(types.join(" "), expected);
    let of = |expr: &str| {
        type_name(
            planned(&format!("SELECT {expr} AS x FROM events"))
                .logical
                .schema()
                .field(0)
                .data_type(),
        )
    };
    for (expr, expected) in [
        ("sum(n)", "BIGINT"),
        ("sum(amount)", "DOUBLE"),
        ("sum(CAST(n AS DECIMAL(10, 2)))", "DECIMAL(20,2)"),
        ("avg(n)", "DOUBLE"),
        ("avg(CAST(n AS DECIMAL(10, 2)))", "DECIMAL(14,6)"),
        ("count(*)", "BIGINT"),
        ("n + 1", "INT"),
        ("n / 2", "DOUBLE"),
        ("CAST('2024-01-01' AS TIMESTAMP)", "TIMESTAMP"),
        ("CAST(n AS STRING)", "STRING"),
        ("ts + INTERVAL 1 DAY", "TIMESTAMP"),
        ("current_date()", "DATE"),
        ("now()", "TIMESTAMP"),
        ("1.5", "DECIMAL(2,1)"),
        ("year(ts)", "INT"),
        ("quarter(ts)", "INT"),
        ("date_add(to_date('2024-01-01'), 1)", "DATE"),
        ("to_timestamp('2024-01-01')", "TIMESTAMP"),
        ("string(n)", "STRING"),
        ("userId RLIKE 'a'", "BOOLEAN"),
        ("!(n = 1)", "BOOLEAN"),
        ("isnull(n)", "BOOLEAN"),
        ("struct(n, 1)", "STRUCT<n: INT, col2: INT>"),
        ("date_trunc('hour', ts)", "TIMESTAMP"),
    ] {
        assert_eq!(of(expr), expected, "{expr}");
    }
}

#[test]
fn columns_left_out_are_learnt_from_the_source() {
    let script = session()
        .run(
            "CREATE TABLE t WITH ('connector' = 'memory'); SELECT learnt FROM t",
            "t.sql",
        )
        .unwrap_or_else(|e| panic!("{e}"));
    let query = script.queries().next().expect("a query");
    assert_eq!(
        query.sources[0]
            .table
            .schema
            .as_ref()
            .map(|s| s.field(0).name().as_str()),
        Some("Learnt")
    );
}

#[test]
fn plans_keep_the_shape_that_state_wants() {
    for (sql, expected) in [
        (
            "SELECT DISTINCT userId FROM events",
            "Aggregate: groupBy=[[events.userid]], aggr=[[]]",
        ),
        (
            "SELECT userId FROM events UNION SELECT eventId FROM events",
            "aggr=[[]]",
        ),
        (
            "SELECT count(DISTINCT userId) AS c FROM events",
            "aggr=[[count(DISTINCT events.userid)]]",
        ),
        (
            "SELECT n FROM events WHERE userId = 'x'",
            "TableScan: events projection=[userid, n]",
        ),
        (
            "SELECT * FROM events",
            "TableScan: events projection=[eventid, userid, amount, n, ts]",
        ),
        (
            "SELECT approx_count_distinct(n, 0.01) AS c FROM events",
            "approx_count_distinct(events.n, Int32(14))",
        ),
        ("SELECT now() AS t, n FROM events", "current_timestamp()"),
        (
            "SELECT window, count(*) AS c FROM events GROUP BY window(ts, '5 minutes')",
            "groupBy=[[__tumbling_window(events.ts, Int64(300000000), Int64(0))]]",
        ),
        (
            "SELECT window, count(*) AS c FROM events GROUP BY window(ts, '5 minutes', '1 minute', '-30 seconds')",
            "__sliding_windows(events.ts, Int64(300000000), Int64(60000000), Int64(-30000000))",
        ),
    ] {
        let plan = shape(sql);
        assert!(plan.contains(expected), "{sql}\n{plan}");
    }
}

#[test]
fn a_watermark_of_the_query_makes_a_source_of_its_own() {
    let query = planned(
        "SELECT events.n FROM events WATERMARK ts DELAY OF INTERVAL 1 MINUTE UNION ALL SELECT n FROM events",
    );
    let delays: Vec<(&str, u64)> = query
        .sources
        .iter()
        .map(|s| {
            (
                s.name.as_str(),
                s.table.watermark.as_ref().map_or(0, |w| w.delay.as_secs()),
            )
        })
        .collect();
    assert_eq!(
        delays,
        [("events watermark ts 60000000us", 60), ("events", 600)]
    );
}
