//! Scripts all the way to plans: what users write, and what `EXPLAIN` says of it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use tidemark_connectors::OutputMode;

use super::Plan;
use super::convert::plan_query;
use super::convert::testing::data_file;
use super::sql::{OpenSource, ScriptOptions, SourceSchema, SqlSession};

const TABLES: &str = "
CREATE TABLE events (eventId STRING, userId STRING, kind STRING, amount DOUBLE, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json');
CREATE VIEW large AS SELECT kind AS k, amount AS a, ts AS at FROM events WHERE amount > 100;
";

fn planned(sql: &str, mode: Option<OutputMode>) -> Result<Plan, String> {
    let open: OpenSource = Arc::new(|_, _, declared| {
        let metadata = Schema::new(vec![Field::new("file_name", DataType::Utf8, true)]);
        Ok(SourceSchema {
            columns: declared.unwrap_or_else(|| Arc::new(Schema::empty())),
            metadata: Arc::new(metadata),
        })
    });
    let mode = mode
        .map(|mode| format!(", 'outputMode' = '{mode}'"))
        .unwrap_or_default();
    let script = format!(
        "{TABLES}CREATE TABLE out WITH ('connector' = 'console', 'checkpointLocation' = 'ckpt'{mode}); INSERT INTO out {sql}"
    );
    let mut session = SqlSession::new(&ScriptOptions::default())
        .expect("no settings")
        .with_opener(open);
    let script = session.run(&script, "t.sql");
    let script = script.map_err(|error| error.to_string())?;
    let statement = script.queries().next().expect("there is one INSERT");
    plan_query(statement).map_err(|error| error.to_string())
}

fn explained(sql: &str, mode: Option<OutputMode>) -> String {
    match planned(sql, mode) {
        Ok(plan) => {
            let fields = plan.schema.fields().iter();
            let fields: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
            format!("columns: {}\n{}", fields.join(", "), plan.explain())
        }
        Err(error) => error,
    }
}

#[test]
fn scripts_become_plans() {
    data_file("scripts.txt", explained);
}

#[test]
fn one_text_gives_one_plan() {
    let sql = "SELECT window.start, kind, min(eventId), max(userId), sum(amount) FROM events GROUP BY window(ts, '10 minutes', '5 minutes'), kind";
    let first = explained(sql, None);
    for _ in 0..8 {
        assert_eq!(explained(sql, None), first);
    }
}

#[test]
fn keys_of_sessions_come_from_one_worker_where_the_sessions_fold() {
    let of = |sql: &str| planned(sql, Some(OutputMode::Update)).unwrap().key_is_group;
    let sessions = "FROM events GROUP BY session_window(ts, '5 minutes'), userId";
    assert!(of("SELECT kind, count(*) FROM events GROUP BY kind"));
    assert!(of(&format!(
        "SELECT session_window.start, userId, count(*) AS n {sessions} HAVING count(*) > 1"
    )));
    // A list of all rows does not fold; and above folded sessions the end is a part of the group.
    assert!(!of(&format!(
        "SELECT session_window.start, userId, collect_list(kind) {sessions}"
    )));
    assert!(!of(&format!(
        "SELECT start, userId, sum(n) FROM (SELECT session_window.start AS start, session_window.end AS end, userId, count(*) AS n {sessions}) GROUP BY start, end, userId"
    )));
}
