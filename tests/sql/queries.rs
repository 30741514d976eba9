//! Whole queries held against files of expected answers: `tests/sql/queries`.
//!
//! ```text
//! CREATE TABLE events (user STRING, ts TIMESTAMP) WITH ('connector' = 'memory', 'name' = 'events');
//!
//! == a case and its name
//! SELECT user, count(*) AS n FROM events GROUP BY user;
//! epoch
//! events ["ann", "2026-01-01 12:00:00"]
//! epoch
//! events {"user": "ann"}
//! restart
//! epoch
//! ---- update facts
//! 0 + ann | 1
//! 0 ! watermark 1970-01-01T00:00:00.000Z, state 1
//! ---- append
//! refused: append needs a watermark
//! ```
//!
//! What stands before the first case is declared for all cases of the file. Each `epoch` is one
//! epoch of the rows below it, without rows an empty one. A row of a table in memory is JSON: an
//! object, or the values by position. What follows the name of a table that reads files is a line
//! of the file that it finds in that epoch; `$DIR` in the statements is its directory. `events@p`
//! is the partition `p`, one a table and epoch. `restart` lets the query end, which may give an
//! epoch without data, and go on from its checkpoint on another number of workers.
//!
//! `---- mode` is followed by what the query gives in that mode: the epoch, then `+` for a row that
//! is new, `-` for one that is gone, `<` and `>` for one before and after an update. `facts` adds a
//! line for each epoch; `in order` shows new rows as the sink gets them, not sorted. `refused:` and `failed:` say how a query ends that does not start, or does
//! not finish. Every case runs with one worker and with two.
//!
//! `TIDEMARK_REWRITE=1` and `TIDEMARK_SQL` work as for the expressions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde_json::Value;
use tidemark::plan::catalog::{CatalogTable, Statement};
use tidemark::runtime::Progress;
use tidemark::session::{Session, SessionError};
use tidemark_connectors::ChangeType;
use tidemark_connectors::format::json::JsonDecoder;
use tidemark_connectors::format::{ParseMode, RecordOptions};
use tidemark_connectors::sources::memory::MemorySource;

use crate::common::{Captured, Run};

#[test]
fn queries_give_what_is_written() {
    let report = crate::check("queries", answer);
    assert!(report.is_empty(), "{report}");
}

/// One case, without its expected part.
#[derive(Clone, Debug, Default)]
struct Case {
    name: String,
    script: String,
    /// Runs of epochs of lines: a table with its partition, and a row.
    runs: Vec<Vec<Vec<(String, String)>>>,
}

/// What the cases share and what is found line by line.
fn answer(text: &str) -> (String, Vec<String>) {
    let mut prelude = String::new();
    let mut case: Option<Case> = None;
    let (mut found, mut differences) = (String::new(), vec![]);
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let _ = writeln!(found, "{line}");
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            case = Some(Case {
                name: name.into(),
                script: prelude.clone(),
                runs: vec![vec![]],
            });
            continue;
        }
        let Some(case) = &mut case else {
            let _ = writeln!(prelude, "{line}");
            continue;
        };
        if let Some(asked) = line.strip_prefix("---- ") {
            let mut wanted = String::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| {
                !line.trim().is_empty() && !line.starts_with("----") && !line.starts_with("== ")
            }) {
                let _ = writeln!(wanted, "{line}");
            }
            let (mode, asked) = asked.split_once(' ').unwrap_or((asked, ""));
            let answers = [1, 2].map(|workers| case.run(mode, workers, asked));
            found.push_str(&answers[0]);
            let place = format!("{}: {} ({mode})", number + 1, case.name);
            if answers[0] != wanted {
                differences.push(format!(
                    "{place}\n-- wanted\n{wanted}-- found\n{}",
                    answers[0]
                ));
            }
            if answers[0] != answers[1] {
                differences.push(format!(
                    "{place}\n-- one worker\n{}-- two workers\n{}",
                    answers[0], answers[1]
                ));
            }
        } else if line == "epoch" {
            case.last_run().push(vec![]);
        } else if line == "restart" {
            case.runs.push(vec![]);
        } else if let Some(epoch) = case.last_run().last_mut() {
            let (table, row) = line.split_once(' ').unwrap_or((line, ""));
            epoch.push((table.into(), row.into()));
        } else {
            let _ = writeln!(case.script, "{line}");
        }
    }
    (found, differences)
}

impl Case {
    fn last_run(&mut self) -> &mut Vec<Vec<(String, String)>> {
        self.runs.last_mut().expect("a case begins with a run")
    }

    /// Runs the case in one mode: what it gives, a line for each row.
    fn run(&self, mode: &str, workers: usize, asked: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let captured = Captured::default();
        let mut progress = vec![];
        let mut end = String::new();
        if let Err((kind, error)) = self.run_in(dir.path(), mode, workers, &captured, &mut progress)
        {
            let message = error
                .to_string()
                .replace(&dir.path().display().to_string(), "$DIR");
            let first = message.lines().next().unwrap_or_default();
            end = format!(
                "{kind}: {}\n",
                first.strip_prefix("query: ").unwrap_or(first)
            );
        }
        let mut shown = String::new();
        for (epoch, mut rows) in captured.epochs() {
            // Rows that are all new are in no order; an update's two rows stay side by side.
            let all_new = rows.iter().all(|(change, _)| *change == ChangeType::Insert);
            if all_new && asked != "in order" {
                rows.sort_by(|a, b| a.1.cmp(&b.1));
            }
            for (change, row) in rows {
                let _ = writeln!(shown, "{epoch} {} {row}", sign(change));
            }
            if asked == "facts"
                && let Some(progress) = progress.iter().find(|p| p.batch_id == epoch)
            {
                let _ = writeln!(shown, "{epoch} ! {}", fact(progress));
            }
        }
        shown + &end
    }

    fn run_in(
        &self,
        dir: &Path,
        mode: &str,
        workers: usize,
        captured: &Captured,
        progress: &mut Vec<Progress>,
    ) -> Result<(), (&'static str, SessionError)> {
        let refused = |error| ("refused", error);
        let script = self.script.replace("$DIR", &dir.display().to_string());
        let tables = declared(&script).map_err(refused)?;
        let memory: Vec<(String, MemorySource)> = tables
            .iter()
            .filter(|table| table.connector == "memory")
            .map(|table| {
                let source = MemorySource::new(table.schema.clone().expect("it has columns"));
                (table.name.clone(), source.one_batch_per_epoch())
            })
            .collect();
        let mut files = 0;
        for (index, run) in self.runs.iter().enumerate() {
            for epoch in run {
                feed(epoch, &memory, dir, &mut files);
            }
            let checkpoint = dir.join("checkpoint");
            let run = Run {
                script: &script,
                mode,
                workers: if index % 2 == 0 { workers } else { 3 - workers },
                tables: &memory,
                checkpoint: (self.runs.len() > 1).then_some(&checkpoint),
            };
            let told = run.stream(captured).map_err(|error| match &error {
                SessionError::Plan(_) => ("refused", error),
                _ => ("failed", error),
            })?;
            progress.extend(told);
        }
        Ok(())
    }
}

/// The tables that a script declares.
fn declared(script: &str) -> Result<Vec<std::sync::Arc<CatalogTable>>, SessionError> {
    // Tables in memory need their sources to be planned with: their declarations come first.
    let session = Session::builder().build()?;
    let mut tables = vec![];
    for statement in script.split_inclusive(";\n") {
        if statement
            .trim_start()
            .to_uppercase()
            .starts_with("CREATE TABLE")
        {
            let script = session.parse(statement, "query")?;
            tables.extend(script.statements.into_iter().filter_map(|s| match s {
                Statement::CreateTable(table) => Some(table),
                _ => None,
            }));
        }
    }
    Ok(tables)
}

/// Gives each table its rows of one epoch.
fn feed(
    epoch: &[(String, String)],
    memory: &[(String, MemorySource)],
    dir: &Path,
    files: &mut u64,
) {
    let mut texts: BTreeMap<&str, String> = BTreeMap::new();
    for (table, row) in epoch {
        let _ = writeln!(texts.entry(table).or_default(), "{row}");
    }
    for (name, source) in memory {
        let of_table: Vec<(&str, &String)> = texts
            .iter()
            .filter(|(table, _)| table.split('@').next() == Some(name))
            .map(|(table, text)| (*table, text))
            .collect();
        let (table, text) = match of_table[..] {
            [] => (name.as_str(), ""),
            [(table, text)] => (table, text.as_str()),
            _ => panic!("{name} has two partitions in one epoch"),
        };
        let batch = rows(&source_schema(source), text);
        match table.split_once('@') {
            Some((_, partition)) => source.add_to(partition, batch).unwrap(),
            None => source.add(batch).unwrap(),
        }
    }
    for (table, text) in texts {
        if memory
            .iter()
            .any(|(name, _)| table.split('@').next() == Some(name))
        {
            continue;
        }
        *files += 1;
        let place = dir.join(table);
        fs::create_dir_all(&place).unwrap();
        let path = place.join(format!("{files}"));
        fs::write(&path, text).unwrap();
        // Files are taken in the order of their times.
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + *files);
        fs::File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
}

fn source_schema(source: &MemorySource) -> SchemaRef {
    tidemark_connectors::Source::schema(source)
}

/// Rows from their JSON lines.
fn rows(schema: &SchemaRef, text: &str) -> RecordBatch {
    let options = RecordOptions {
        mode: ParseMode::FailFast,
        ..RecordOptions::default()
    };
    let mut decoder = JsonDecoder::new(SchemaRef::clone(schema), options).unwrap();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let object = match row {
            Value::Array(values) => {
                let names = schema.fields().iter().map(|field| field.name().clone());
                Value::Object(names.zip(values).collect())
            }
            object => object,
        };
        let pushed = decoder.push_record(object.to_string().as_bytes());
        pushed.unwrap_or_else(|bad| panic!("{}: {line}", bad.reason));
    }
    decoder.flush().unwrap().0
}

fn sign(change: ChangeType) -> char {
    match change {
        ChangeType::Insert => '+',
        ChangeType::Delete => '-',
        ChangeType::UpdatePreimage => '<',
        ChangeType::UpdatePostimage => '>',
    }
}

/// The watermark, the late rows and the rows of state.
fn fact(progress: &Progress) -> String {
    let of_operators = |number: fn(&tidemark::runtime::progress::StateOperatorProgress) -> u64| {
        progress.state_operators.iter().map(number).sum::<u64>()
    };
    let watermark = progress.event_time.get("watermark");
    let mut fact = format!("watermark {}", watermark.map_or("none", String::as_str));
    let late = of_operators(|operator| operator.num_rows_dropped_by_watermark);
    if late > 0 {
        let _ = write!(fact, ", late {late}");
    }
    let dropped: u64 = progress.sources.iter().map(|s| s.num_dropped_records).sum();
    if dropped > 0 {
        let _ = write!(fact, ", dropped {dropped}");
    }
    let state = of_operators(|operator| operator.num_rows_total);
    let _ = write!(fact, ", state {state}");
    fact
}
