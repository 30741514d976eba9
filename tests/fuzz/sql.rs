//! Scripts: parsed and planned, never run.

use tidemark::session::Session;
use tidemark_connectors::sources::memory::MemorySource;

use crate::{entries, fuzz};

const TABLES: &str = "CREATE TABLE events (user STRING, n INT, price DOUBLE, d DECIMAL(10, 2), ok BOOLEAN, day DATE,
  tags ARRAY<STRING>, m MAP<STRING, INT>, s STRUCT<x: INT, y: STRING>, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH ('connector' = 'memory', 'name' = 'events');\n";

/// Errors of the planner that begin so are its own mistakes.
const MISTAKES: [&str; 2] = ["Internal error", "this is a bug"];

#[test]
fn scripts_are_planned_or_refused() {
    let session = Session::builder().build().unwrap();
    let script = session.parse(TABLES, "tables").unwrap();
    let tidemark::plan::catalog::Statement::CreateTable(table) = &script.statements[0] else {
        panic!("it declares a table")
    };
    let source = MemorySource::new(table.schema.clone().unwrap());
    fuzz("sql", &entries(include_str!("corpus/sql.txt")), |input| {
        let text = String::from_utf8_lossy(input);
        let session = Session::builder().build().unwrap();
        session.add_source("events", source.clone());
        session.parse(TABLES, "tables").unwrap();
        let planned = session.parse(&text, "fuzz").and_then(|script| {
            script
                .queries()
                .try_for_each(|query| session.plan(query).map(|plan| drop(plan.explain())))
        });
        match planned {
            Ok(()) => Ok(()),
            Err(error) => {
                let message = error.to_string();
                match MISTAKES.iter().find(|mistake| message.contains(**mistake)) {
                    Some(_) => Err(message),
                    None => Ok(()),
                }
            }
        }
    });
}
