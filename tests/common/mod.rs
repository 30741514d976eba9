//! What the end-to-end tests share: a query that runs over in-memory tables, and a sink that keeps
//! what each epoch gave.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use rand::Rng;
use rand::rngs::StdRng;
use tidemark::plan::catalog::Statement;
use tidemark::runtime::{Progress, QueryConfig, start};
use tidemark::session::{Session, SessionError};
use tidemark_connectors::sinks::show::{Zone, cells};
use tidemark_connectors::sources::memory::MemorySource;
use tidemark_connectors::storage::Disk;
use tidemark_connectors::{
    ChangeType, ConnectorError, Delivery, Distribution, Output, Result, Sink, SinkConfig,
    SinkWriter, Source, Staged, open_source,
};

/// A small query that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a query gave, by epoch. Clones share it; it outlives the runs of a query that restarts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    epochs: BTreeMap<u64, Vec<Output>>,
    /// The epoch whose first commit fails.
    doomed: Option<u64>,
    /// What that commit would have written.
    lost: Vec<Output>,
    key: Option<Vec<usize>>,
}

impl Captured {
    /// Each epoch's changed rows as text, in the order in which the sink got them.
    pub(crate) fn epochs(&self) -> BTreeMap<u64, Vec<(ChangeType, String)>> {
        self.lock()
            .epochs
            .iter()
            .map(|(epoch, outputs)| (*epoch, outputs.iter().flat_map(rows_of).collect()))
            .collect()
    }

    /// Lets the next commit of an epoch fail, once all of it is computed.
    pub(crate) fn fail_commit_of(&self, epoch: u64) {
        self.lock().doomed = Some(epoch);
    }

    /// The rows whose commit failed.
    pub(crate) fn lost(&self) -> Vec<(ChangeType, String)> {
        self.lock().lost.iter().flat_map(rows_of).collect()
    }

    /// The columns that identify a row, where the plan knows them.
    pub(crate) fn key(&self) -> Option<Vec<usize>> {
        self.lock().key.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each changed row as text.
fn rows_of(output: &Output) -> Vec<(ChangeType, String)> {
    let rows = cells(&output.batch, Zone::UTC).unwrap();
    let change = |row| match &output.changes {
        Some(changes) => changes[row],
        None => ChangeType::Insert,
    };
    (rows.iter().enumerate())
        .map(|(row, cells)| (change(row), cells.join(" | ")))
        .collect()
}

/// The sink of a [`Captured`].
#[derive(Debug)]
struct CaptureSink {
    captured: Captured,
    /// By epoch: the next one may be staged before one is committed.
    staged: Arc<Mutex<BTreeMap<u64, Vec<Output>>>>,
}

impl Sink for CaptureSink {
    fn description(&self) -> String {
        "CaptureSink".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    fn last_committed(&mut self) -> Result<Option<u64>> {
        Ok(self.captured.lock().epochs.keys().next_back().copied())
    }

    fn discard_uncommitted(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, epoch: u64, _: &[Staged]) -> Result<()> {
        let outputs = self.staged.lock().unwrap().remove(&epoch);
        let outputs = outputs.unwrap_or_default();
        let mut contents = self.captured.lock();
        if contents.doomed.take_if(|doomed| *doomed == epoch).is_some() {
            contents.lost = outputs;
            let reason = format!("the commit of epoch {epoch} is to fail");
            return Err(ConnectorError::Inconsistent(reason));
        }
        contents.epochs.insert(epoch, outputs);
        Ok(())
    }

    fn writer(&self, _: usize) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(CaptureWriter {
            outputs: vec![],
            staged: Arc::clone(&self.staged),
        }))
    }
}

struct CaptureWriter {
    outputs: Vec<Output>,
    staged: Arc<Mutex<BTreeMap<u64, Vec<Output>>>>,
}

impl SinkWriter for CaptureWriter {
    fn write(&mut self, _: u64, output: &Output) -> Result<()> {
        self.outputs.push(output.clone());
        Ok(())
    }

    fn stage(&mut self, epoch: u64) -> Result<Staged> {
        let outputs = std::mem::take(&mut self.outputs);
        self.staged.lock().unwrap().insert(epoch, outputs);
        Ok(Staged::default())
    }
}

/// One run of a query over tables in memory, from `available-now` to its end.
pub(crate) struct Run<'a> {
    /// Declarations and one `SELECT`. A table in memory has its own name as `'name'`.
    pub(crate) script: &'a str,
    /// `append`, `update`, `complete` or `changelog`.
    pub(crate) mode: &'a str,
    /// Worker threads.
    pub(crate) workers: usize,
    /// What the tables in memory hold: each batch is an epoch.
    pub(crate) tables: &'a [(String, MemorySource)],
    /// Where the query goes on from, if anywhere.
    pub(crate) checkpoint: Option<&'a Path>,
}

impl Run<'_> {
    /// A session that knows the tables.
    fn session(&self) -> std::result::Result<Session, SessionError> {
        let mut builder = Session::builder()
            .workers(self.workers)
            .config("outputMode", self.mode)
            .config("trigger", "available-now");
        if let Some(path) = self.checkpoint {
            builder = builder.config("checkpointLocation", path.display().to_string());
        }
        let session = builder.build()?;
        for (name, source) in self.tables {
            session.add_source(name, source.clone());
        }
        Ok(session)
    }

    /// Runs the query to its end; its rows go to `captured`. Gives each epoch's progress.
    pub(crate) fn stream(
        &self,
        captured: &Captured,
    ) -> std::result::Result<Vec<Progress>, SessionError> {
        let session = self.session()?;
        let script = session.parse(self.script, "query")?;
        let Some(statement) = script.queries().next() else {
            return Err(SessionError::Setting("the script has no query".into()));
        };
        let plan = session.plan(statement)?;
        let sources = plan.sources.iter().map(|table| {
            let known = self.tables.iter().find(|known| {
                table.connector == "memory" && table.options.get("name") == Some(&known.0)
            });
            match known {
                Some((_, source)) => Ok(Box::new(source.clone()) as Box<dyn Source>),
                None => open_source(
                    &table.connector,
                    &table.options,
                    Some(Arc::clone(&table.schema)),
                ),
            }
        });
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let progress: Arc<Mutex<Vec<Progress>>> = Arc::default();
        let told = Arc::clone(&progress);
        let captured = captured.clone();
        let query = start(
            &plan,
            sources,
            move |_, config: SinkConfig| {
                captured.lock().key = config.key;
                Ok(Box::new(CaptureSink {
                    captured: captured.clone(),
                    staged: Arc::default(),
                }) as Box<dyn Sink>)
            },
            &QueryConfig {
                workers: self.workers,
                cluster: None,
                storage: Arc::new(Disk),
            },
            Some(Box::new(move |epoch| {
                told.lock().unwrap().push(epoch.clone());
            })),
        )?;
        if !query.await_termination_timeout(PATIENCE) {
            return Err(SessionError::Setting(format!("no end after {PATIENCE:?}")));
        }
        query.await_termination()?;
        drop(query);
        let progress = std::mem::take(&mut *progress.lock().unwrap());
        Ok(progress)
    }

    /// The batch answer over all that the tables hold.
    pub(crate) fn batch(&self) -> std::result::Result<Vec<RecordBatch>, SessionError> {
        let session = self.session()?;
        let script = session.parse(self.script, "query")?;
        let Some(Statement::Query(statement)) = script.statements.last() else {
            return Err(SessionError::Setting("the script has no query".into()));
        };
        Ok(session.batch(statement)?.1)
    }
}

/// Cuts rows into between one and `most` epochs at random places.
pub(crate) fn cut(random: &mut StdRng, rows: &RecordBatch, most: usize) -> Vec<RecordBatch> {
    let mut places: Vec<usize> = (0..random.random_range(0..most))
        .map(|_| random.random_range(0..=rows.num_rows()))
        .collect();
    places.extend([0, rows.num_rows()]);
    places.sort_unstable();
    places
        .windows(2)
        .filter(|w| w[0] < w[1])
        .map(|w| rows.slice(w[0], w[1] - w[0]))
        .collect()
}
