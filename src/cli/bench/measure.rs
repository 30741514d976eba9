//! Runs one query in this process and says what it took.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidemark_connectors::{ConnectorError, Read, ReadLimit, SourceReader, Split, open_source};
use tidemark_dataflows::nexmark;

use crate::cli::bench::process;
use crate::cli::{Failure, NexmarkArgs, session, stop};
use crate::plan::{Node, Operator, Plan};
use crate::runtime::Progress;

/// How often a signal is looked for.
const MOMENT: Duration = Duration::from_millis(50);

/// What one run of a query took.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    pub(super) query: String,
    /// Events of the generator, of all kinds, whichever of them the query reads.
    pub(super) events: u64,
    pub(super) workers: u16,
    /// From the start of the query to its end.
    pub(super) seconds: f64,
    pub(super) events_per_second: f64,
    /// Of processors, meanwhile.
    pub(super) cpu_seconds: f64,
    pub(super) cpu_seconds_per_million: f64,
    /// The most memory that the process had.
    pub(super) peak_bytes: u64,
    /// The most rows of state after an epoch, and their bytes.
    pub(super) state_rows: u64,
    pub(super) state_bytes: u64,
    pub(super) output_rows: u64,
    /// The pace of the last fifth of the epochs to that of the first, where there are enough.
    pub(super) last_to_first: Option<f64>,
    /// The generator alone with as many threads, for the columns that the query uses.
    pub(super) generator_events_per_second: f64,
}

/// What the epochs told.
#[derive(Default)]
struct Told {
    state_rows: u64,
    state_bytes: u64,
    output_rows: u64,
    /// When each epoch with rows was done, and how many rows it had.
    epochs: Vec<(Instant, u64)>,
}

impl Told {
    fn add(&mut self, progress: &Progress) {
        let bytes = progress.state_operators.iter();
        let bytes = bytes.map(|operator| operator.memory_used_bytes).sum();
        self.state_rows = self.state_rows.max(progress.state_rows());
        self.state_bytes = self.state_bytes.max(bytes);
        self.output_rows += progress.sink.num_output_rows;
        if progress.num_input_rows > 0 {
            self.epochs.push((Instant::now(), progress.num_input_rows));
        }
    }

    /// The pace of the last fifth of the epochs to that of the first.
    fn last_to_first(&self, began: Instant) -> Option<f64> {
        let fifth = self.epochs.len() / 5;
        if fifth < 2 {
            return None;
        }
        let pace = |from: Instant, epochs: &[(Instant, u64)]| {
            let rows: u64 = epochs.iter().map(|(_, rows)| rows).sum();
            let (end, _) = epochs[epochs.len() - 1];
            rows as f64 / (end - from).as_secs_f64().max(1e-9)
        };
        let last = self.epochs.len() - fifth;
        let first = pace(began, &self.epochs[..fifth]);
        Some(pace(self.epochs[last - 1].0, &self.epochs[last..]) / first)
    }
}

/// A directory of this run, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = env::temp_dir().join(format!("tidemark-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| {
            Failure::usage(format!(
                "cannot make {}: {error}; set TMPDIR to another directory",
                path.display()
            ))
        })?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The tables of all queries, with so many events.
pub(super) fn tables(args: &NexmarkArgs) -> String {
    let options = [
        ("events", args.events),
        ("rate", args.rate),
        ("seed", args.seed),
    ];
    options
        .iter()
        .fold(nexmark::TABLES.to_owned(), |tables, (key, value)| {
            nexmark::with_option(&tables, key, &value.to_string())
        })
}

/// The script of a query, its files in `dir`.
fn script(args: &NexmarkArgs, sql: &str, dir: &Path) -> String {
    let files = dir.join("files").display().to_string();
    format!(
        "{}{}",
        tables(args),
        nexmark::with_option(sql, "path", &files)
    )
}

/// Runs the query `name` once.
pub(super) fn measure(args: &NexmarkArgs, name: &str, sql: &str) -> Result<Measured, Failure> {
    let scratch = Scratch::new()?;
    let mut settings = vec![];
    if args.checkpoint {
        settings.push(("checkpointLocation".to_owned(), scratch.path("checkpoint")));
    }
    let session = session(args.workers, None, (None, None), &settings)?;
    let script = session.parse(&script(args, sql, &scratch.0), name)?;
    let Some(statement) = script.queries().next() else {
        return Err(Failure::usage(format!("{name} holds no query")));
    };
    let plan = session.plan(statement)?;
    let told = Arc::new(Mutex::new(Told::default()));
    let heard = Arc::clone(&told);
    let listener = Box::new(move |progress: &Progress| {
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(progress);
    });
    let asked = stop::on_signal(&session)?;
    let (began, cpu) = (Instant::now(), process::cpu_seconds());
    let query = session.start(&plan, Some(listener))?;
    while query.is_active() {
        if asked.load(Ordering::SeqCst) {
            query.request_stop();
        }
        query.await_termination_timeout(MOMENT);
    }
    let failed = |error: &dyn std::fmt::Display| Failure::query(format!("{name}: {error}"));
    query.await_termination().map_err(|error| failed(&error))?;
    if asked.load(Ordering::SeqCst) {
        return Err(Failure::query(format!("{name} was stopped")));
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu_seconds = process::cpu_seconds() - cpu;
    let peak_bytes = process::peak_bytes();
    let events = args.events;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Measured {
        query: name.to_owned(),
        events,
        workers: args.workers,
        seconds,
        events_per_second: events as f64 / seconds,
        cpu_seconds,
        cpu_seconds_per_million: cpu_seconds * 1e6 / events as f64,
        peak_bytes,
        state_rows: told.state_rows,
        state_bytes: told.state_bytes,
        output_rows: told.output_rows,
        last_to_first: told.last_to_first(began),
        generator_events_per_second: events as f64
            / generate(&plan, args.workers).map_err(|error| failed(&error))?,
    })
}

/// What a query reads of its sources: which of them, and which columns.
fn scans(node: &Node, found: &mut Vec<(usize, Vec<usize>)>) {
    if let Operator::Source { source, projection } = &node.operator {
        found.push((*source, projection.clone()));
    }
    node.inputs.iter().for_each(|input| scans(input, found));
}

/// Seconds that the query's sources take by themselves.
fn generate(plan: &Plan, workers: u16) -> Result<f64, ConnectorError> {
    let mut found = vec![];
    scans(&plan.root, &mut found);
    let mut work: Vec<(Split, Arc<dyn SourceReader>, &[usize])> = vec![];
    for (source, projection) in &found {
        let table = &plan.sources[*source];
        let schema = Some(Arc::clone(&table.schema));
        let mut source = open_source(&table.connector, &table.options, schema)?;
        while let Some(range) = source.plan(ReadLimit::default())? {
            let reader = source.reader();
            let splits = range.splits.into_iter();
            work.extend(splits.map(|split| (split, Arc::clone(&reader), projection.as_slice())));
        }
    }
    let began = Instant::now();
    let work = Mutex::new(work);
    let read = || loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some((split, reader, projection)) = next else {
            return Ok(());
        };
        let mut reader = reader.open(&split, projection)?;
        while !matches!(reader.read()?, Read::End) {}
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(read)).collect();
        let read = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        read.collect::<Result<(), ConnectorError>>()
    })?;
    Ok(began.elapsed().as_secs_f64())
}
