//! SQL held against files of expected answers: `tests/sql/expressions`.
//!
//! A line is one case: `expression ==> TYPE | value`, the value as the console shows it, or
//! `expression ==> ERROR [CLASS]`. A line that begins with `SELECT` is a whole query, whose rows are
//! compared in the order of their texts. `# ...` is a comment; `@ SET 'key' = 'value'` holds for the
//! lines that follow. Each expression is answered twice, by a running query and as a batch, and both must agree.
//!
//! `TIDEMARK_REWRITE=1` writes the answers found into the files, for a look at the difference;
//! `TIDEMARK_SQL=strings` takes only files whose names hold that.

mod common;
#[path = "sql/queries.rs"]
mod queries;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemark::plan::catalog::Statement;
use tidemark::plan::sql::type_name;
use tidemark::session::{Session, SessionError};
use tidemark_connectors::sinks::show::{Zone, cells};

#[test]
fn expressions_give_what_is_written() {
    let report = check("expressions", expressions);
    assert!(report.is_empty(), "{report}");
}

/// Runs `answer` over each file of a directory: it gives the file with the answers found, and what
/// differs.
fn check(directory: &str, answer: impl Fn(&str) -> (String, Vec<String>) + Sync) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sql")
        .join(directory);
    let only = std::env::var("TIDEMARK_SQL").unwrap_or_default();
    let mut files: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(&only))
        .collect();
    files.sort();
    let mut report = String::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let (found, differences) = answer(&text);
        if std::env::var_os("TIDEMARK_REWRITE").is_some() {
            fs::write(&path, found).unwrap();
        }
        for difference in differences {
            let _ = writeln!(report, "{}: {difference}", path.display());
        }
    }
    report
}

fn expressions(text: &str) -> (String, Vec<String>) {
    let mut settings = String::new();
    let (mut found, mut differences) = (String::new(), vec![]);
    for (number, line) in text.lines().enumerate() {
        if let Some(setting) = line.strip_prefix("@ ") {
            let _ = write!(settings, "{setting}; ");
        }
        let blank = line.trim().is_empty() || line.starts_with('#') || line.starts_with('@');
        if blank {
            found.push_str(line);
            found.push('\n');
            continue;
        }
        let (expression, wanted) = line.split_once(" ==>").unwrap_or((line, ""));
        let (stream, batch) = (
            streamed(&settings, expression),
            batched(&settings, expression),
        );
        let _ = writeln!(found, "{expression} ==> {stream}");
        if stream != wanted.trim_start() {
            differences.push(format!(
                "{}: {expression}\n  wanted {wanted}\n  found   {stream}",
                number + 1
            ));
        }
        if stream != batch {
            differences.push(format!(
                "{}: {expression}\n  the stream gives {stream}\n  the batch gives  {batch}",
                number + 1
            ));
        }
    }
    (found, differences)
}

/// The query of a line.
fn query(line: &str) -> String {
    if line.starts_with("SELECT ") {
        line.to_owned()
    } else {
        format!("SELECT {line} AS c")
    }
}

/// The answer of a query that runs.
fn streamed(settings: &str, expression: &str) -> String {
    let run = || {
        let session = Session::builder().build()?;
        let queries = session.sql(&format!(
            "{settings} CREATE TABLE result WITH ('connector' = 'memory', 'trigger' = 'once');
             INSERT INTO result {};",
            query(expression)
        ))?;
        queries[0].await_termination()?;
        Ok(session
            .table("result")?
            .expect("the query wrote its result"))
    };
    shown(run())
}

/// The answer of the same query as a batch.
fn batched(settings: &str, expression: &str) -> String {
    let run = || {
        let session = Session::builder().build()?;
        let script = session.parse(&format!("{settings} {};", query(expression)), "case")?;
        let Some(Statement::Query(statement)) = script.statements.last() else {
            panic!("{expression} is no query")
        };
        session.batch(statement)
    };
    shown(run())
}

/// `TYPE | value`, or `ERROR [CLASS]`; several rows are set apart by `; `.
fn shown(answer: Result<(SchemaRef, Vec<RecordBatch>), SessionError>) -> String {
    match answer {
        Ok((schema, batches)) => {
            let zone = Zone::UTC;
            let mut rows: Vec<String> = batches
                .iter()
                .flat_map(|batch| cells(batch, zone).unwrap())
                .map(|row| row.join(" | "))
                .collect();
            rows.sort();
            let types: Vec<String> = schema
                .fields()
                .iter()
                .map(|field| type_name(field.data_type()))
                .collect();
            format!("{} | {}", types.join(", "), rows.join("; "))
        }
        Err(error) => class(&error.to_string()),
    }
}

/// `ERROR [CLASS]` of a message, or its first line where it has no class.
fn class(message: &str) -> String {
    let named = message.match_indices('[').find_map(|(at, _)| {
        let (name, _) = message[at + 1..].split_once(']')?;
        // `[2147483647]` is a value.
        let fits = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.len() > 3
            && name
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_.".contains(c));
        fits.then_some(name)
    });
    match named {
        Some(name) => format!("ERROR [{name}]"),
        None => format!("ERROR {}", message.lines().next().unwrap_or_default()),
    }
}
