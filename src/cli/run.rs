//! `tidemark run` and `tidemark explain`.

use std::fs;
use std::io::{ErrorKind, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemark_connectors::sinks::show::{ShowOptions, show};

use crate::cli::bar::{self, Bars};
use crate::cli::cluster;
use crate::cli::{ExplainArgs, Failure, ProgressKind, RunArgs, print, say, session, stop};
use crate::plan::catalog::{Answer, QueriesAt, Statement};
use crate::runtime::http::pages;
use crate::runtime::query::Listener;
use crate::runtime::{Progress, QueryError, StreamingQuery};
use crate::session::{Session, SessionError};

/// A script's text.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "check the path",
            ErrorKind::PermissionDenied => "check the permissions",
            ErrorKind::InvalidData => "a script is text in UTF-8",
            _ => "give the path of a script",
        };
        Failure::usage(format!("cannot read {}: {error}; {remedy}", file.display()))
    })
}

/// Runs a script's queries side by side until all have ended.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let cluster = cluster::config(&args.cluster)?;
    let follows = cluster.as_ref().is_some_and(|cluster| cluster.process > 0);
    if args.batch && cluster.is_some() {
        return Err(Failure::usage("--batch runs in one process; leave -n out"));
    }
    let serve = (args.metrics.as_deref(), args.http.as_deref());
    let session = session(args.workers, cluster, serve, &args.settings)?;
    let script = session.parse(&text, &args.file.display().to_string())?;
    if args.batch {
        return batch(&session, &script.statements);
    }
    let mut plans = vec![];
    for statement in &script.statements {
        match statement {
            Statement::Query(query) => plans.push(session.plan(query)?),
            Statement::Explain(_) if follows => {}
            Statement::Explain(query) => print(&format!("{}\n", session.plan(query)?.explain()))?,
            Statement::Answer(answer) => print(&answered(answer)?)?,
            Statement::ShowQueries(at) | Statement::StopQuery { at, .. } => {
                return Err(not_here(at));
            }
            Statement::CreateTable(_)
            | Statement::CreateView { .. }
            | Statement::Set { .. }
            | Statement::Drop { .. } => {}
        }
    }
    if plans.is_empty() {
        let answers = script
            .statements
            .iter()
            .any(|s| matches!(s, Statement::Explain(_) | Statement::Answer(_)));
        return if answers {
            Ok(())
        } else {
            Err(Failure::usage(format!(
                "{} holds no query; add INSERT INTO a table SELECT ..., or a bare SELECT for the console",
                args.file.display()
            )))
        };
    }
    let asked = stop::on_signal(&session)?;
    session.announce(&plans);
    match session.metrics_address() {
        Some(address) => say(&format!("metrics: http://{address}{}", pages::METRICS)),
        None if serve.0.is_some() => say("metrics: served by process 0, which has those of all"),
        None => {}
    }
    match session.http_address() {
        Some(address) => say(&format!("http: http://{address}/")),
        None if serve.1.is_some() => say("http: served by process 0, which knows of all"),
        None => {}
    }
    // Tables on the same terminal would run into the bars.
    let tables = std::io::stdout().is_terminal()
        && plans
            .iter()
            .any(|plan| plan.sink.connector.eq_ignore_ascii_case("console"));
    let bars_fit = std::io::stderr().is_terminal() && !tables;
    let kind = args.progress.unwrap_or(if bars_fit && !follows {
        ProgressKind::Bar
    } else {
        ProgressKind::None
    });
    let bars = Bars::default();
    let mut queries = vec![];
    let mut failed = false;
    // Said at once: the others may go on for ever.
    let mut fail = |message: String| {
        failed = true;
        bars.say(&format!("error: {message}"));
    };
    for plan in &plans {
        match session.start(plan, listener(kind, &bars, &plan.name)) {
            Ok(query) => queries.push(query),
            // As the user asked.
            Err(SessionError::Query {
                source: QueryError::Stopped,
                ..
            }) => {}
            Err(error) => fail(error.to_string()),
        }
    }
    // A query that could not start takes none of the others with it.
    let mut told = vec![false; queries.len()];
    while queries.iter().any(|query| query.is_active()) {
        if asked.load(Ordering::SeqCst) {
            queries.iter().for_each(|query| query.request_stop());
        }
        for (query, told) in queries.iter().zip(&mut told) {
            if !*told && let Some(cause) = query.exception() {
                *told = true;
                fail(format!("query '{}': {cause}", query.name()));
            }
        }
        let active: Vec<_> = queries.iter().filter(|query| query.is_active()).collect();
        let stuck: Vec<_> = active.iter().filter_map(|query| query.stuck()).collect();
        if !active.is_empty() && active.len() == stuck.len() {
            for (query, why) in active.iter().zip(stuck) {
                bars.say(&format!("query '{}': {why}", query.name()));
            }
            // As after a kill nothing is lost; whoever does not answer is not waited for.
            std::process::exit(i32::from(failed_before(&queries)));
        }
        if let Some(active) = active.first() {
            active.await_termination_timeout(Duration::from_millis(50));
        }
    }
    for (query, told) in queries.iter().zip(told) {
        if let Err(error) = query.await_termination()
            && !told
        {
            fail(format!("query '{}': {error}", query.name()));
        }
        if let Some(latency) = query.latency() {
            bars.say(&format!("query '{}': latency {latency}", query.name()));
        }
    }
    if failed { Err(Failure::told()) } else { Ok(()) }
}

/// Whether one of them has failed.
fn failed_before(queries: &[Arc<StreamingQuery>]) -> bool {
    queries.iter().any(|query| query.exception().is_some())
}

fn listener(kind: ProgressKind, bars: &Bars, name: &str) -> Option<Listener> {
    let warned = name.to_owned();
    let warn = move |progress: &Progress, say: &dyn Fn(&str)| {
        for warning in &progress.warnings {
            say(&format!("warning: query '{warned}': {warning}"));
        }
    };
    match kind {
        ProgressKind::None => Some(Box::new(move |progress| warn(progress, &say))),
        ProgressKind::Json => Some(Box::new(|progress| {
            if let Ok(line) = serde_json::to_string(progress) {
                say(&line);
            }
        })),
        ProgressKind::Bar => {
            let (line, bars) = (Arc::new(bars.add(name)), bars.clone());
            Some(Box::new(move |progress| {
                warn(progress, &|text| bars.say(text));
                bar::show(&line, progress);
            }))
        }
    }
}

/// The answer of `SHOW` or `DESCRIBE`, as it is printed.
fn answered(answer: &Answer) -> Result<String, Failure> {
    match answer {
        Answer::Text(text) => Ok(format!("{text}\n")),
        Answer::Rows(rows) => {
            let options = ShowOptions {
                rows: usize::MAX,
                truncate: None,
                ..ShowOptions::default()
            };
            show(&rows.schema(), std::slice::from_ref(rows), &options)
                .map_err(|error| Failure::query(error.to_string()))
        }
    }
}

/// All queries of a script start side by side, once all of it is planned.
fn not_here(at: &QueriesAt) -> Failure {
    Failure::usage(format!(
        "{}:{}:{}: a statement about running queries; here all queries of the script run side by side: use `tidemark sql`, which runs one statement after the other",
        at.file, at.position.line, at.position.column
    ))
}

fn batch(session: &Session, statements: &[Statement]) -> Result<(), Failure> {
    for statement in statements {
        if let Statement::Query(query) = statement {
            let (schema, batches) = session
                .batch(query)
                .map_err(|error| Failure::query(format!("query '{}': {error}", query.name)))?;
            let options = ShowOptions {
                rows: usize::MAX,
                ..ShowOptions::default()
            };
            let table =
                show(&schema, &batches, &options).map_err(|e| Failure::query(e.to_string()))?;
            print(&format!("{}:\n{table}", query.name))?;
        }
    }
    Ok(())
}

/// Prints the plan of each query of a script.
pub(super) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let session = session(1, None, (None, None), &args.settings)?;
    let script = session.parse(&text, &args.file.display().to_string())?;
    for statement in &script.statements {
        if let Statement::Query(query) | Statement::Explain(query) = statement {
            print(&format!("{}\n", session.plan(query)?.explain()))?;
        }
    }
    Ok(())
}
