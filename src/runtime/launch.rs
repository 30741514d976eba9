//! Starts a query: in one process, or as one of several that run it together.
//!
//! The first process holds the checkpoint, plans epochs and commits; the others bring workers, and
//! end when the first one says so or is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tidemark_connectors::storage::Storage;
use tidemark_connectors::{Distribution, Sink, SinkConfig, SinkWriter, Source};
use timely::WorkerConfig;
use timely::communication::{Config as CommunicationConfig, WorkerGuards};
use uuid::Uuid;

use crate::checkpoint::{Checkpoint, Decision, Fingerprint, FoldPolicy, Identity, fold_rows};
use crate::compile::source_uses;
use crate::plan::{Plan, SinkTable};
use crate::runtime::QueryError;
use crate::runtime::control::{Report, SequencerEnd, Waker};
use crate::runtime::dead_letters::{self, DeadLetters};
use crate::runtime::late_rows::{self, LateRows};
use crate::runtime::metrics::Meter;
use crate::runtime::query::{Listener, QueryConfig, Shared, StreamingQuery};
use crate::runtime::reports::Reports;
use crate::runtime::sequencer::{Beginning, Sequencer, SideTables};
use crate::runtime::worker::{self, Setup};

/// How long the workers of several processes may take to end together.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a process that only brings workers looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Starts a query.
///
/// `sources` are those of the plan, in its order; `open_sink` opens the sink, and the table of dead
/// letters, once the query's id is known. All that can be refused is refused here, before anything
/// runs.
pub fn start(
    plan: &Arc<Plan>,
    sources: Vec<Box<dyn Source>>,
    open_sink: impl Fn(&SinkTable, SinkConfig) -> tidemark_connectors::Result<Box<dyn Sink>>
    + Send
    + Sync
    + 'static,
    config: &QueryConfig,
    listener: Option<Listener>,
) -> Result<StreamingQuery, QueryError> {
    let started = match &config.cluster {
        Some(cluster) if cluster.process() > 0 => {
            follow(plan, &sources, open_sink, config, listener)
        }
        _ => {
            let meter = config.metrics.as_ref();
            let meter = meter.map(|metrics| Meter::start(metrics, plan));
            let started = lead(plan, sources, &open_sink, config, (listener, meter.clone()));
            if let (Err(error), Some(meter)) = (&started, meter) {
                meter.ended(!matches!(error, QueryError::Stopped));
            }
            started
        }
    };
    if let (Err(error), Some(cluster)) = (&started, &config.cluster) {
        cluster.refuse(&plan.name, &error.to_string());
    }
    started
}

fn sink_config(plan: &Plan, query: Uuid, storage: &Arc<dyn Storage>) -> SinkConfig {
    SinkConfig {
        query_name: plan.name.clone(),
        query_id: query.to_string(),
        schema: Arc::clone(&plan.schema),
        mode: plan.mode,
        key: plan.key.clone(),
        storage: Arc::clone(storage),
    }
}

/// The query in its first, or only, process.
fn lead(
    plan: &Arc<Plan>,
    mut sources: Vec<Box<dyn Source>>,
    open_sink: &dyn Fn(&SinkTable, SinkConfig) -> tidemark_connectors::Result<Box<dyn Sink>>,
    config: &QueryConfig,
    (listener, meter): (Option<Listener>, Option<Meter>),
) -> Result<StreamingQuery, QueryError> {
    let mut checkpoint = match &plan.settings.checkpoint_location {
        Some(location) => {
            let fingerprint = plan
                .fingerprint()
                .into_iter()
                .fold(Fingerprint::new(), |all, (part, text)| all.with(part, text));
            let name = plan.name.clone();
            let identity = Identity { name, fingerprint };
            let storage = Arc::clone(&config.storage);
            Some(Checkpoint::open_with(
                location.as_ref(),
                &identity,
                storage,
            )?)
        }
        None => None,
    };
    let id = checkpoint
        .as_ref()
        .map_or_else(Uuid::new_v4, Checkpoint::query_id);
    let mut sink = open_sink(&plan.sink, sink_config(plan, id, &config.storage))?;
    let mut side = SideTables::default();
    if let Some(table) = &plan.dead_letter {
        let config = dead_letters::sink_config(table, &id.to_string(), &config.storage);
        side.dead_letters = Some(DeadLetters::new(plan, table, open_sink(table, config)?)?);
    }
    if let Some(table) = &plan.late_rows {
        let config = late_rows::sink_config(table, &id.to_string(), &config.storage)?;
        side.late_rows = Some(LateRows::new(plan, open_sink(table, config)?)?);
    }
    for source in &mut sources {
        source.begin(&plan.name, &id.to_string());
    }
    let beginning = match &mut checkpoint {
        Some(checkpoint) => recover(checkpoint, &mut sources, &mut *sink)?,
        None => Beginning::default(),
    };
    sink.discard_uncommitted()?;
    if let Some(checkpoint) = &mut checkpoint {
        let starts = checkpoint.count_start()?;
        if let Some(meter) = &meter {
            meter.checkpointed(starts, checkpoint.scales());
        }
    }

    let distribution = sink.distribution();
    let writers = (0..config.workers)
        .map(|worker| {
            let wanted = worker == 0 || distribution == Distribution::PerWorker;
            Ok(Mutex::new(wanted.then(|| sink.writer(worker)).transpose()?))
        })
        .collect::<Result<Vec<_>, QueryError>>()?;
    let (command_sender, commands) = mpsc::channel();
    let (report_sender, reports) = mpsc::channel();
    let waker = Waker::default();
    let failures = Mutex::new(report_sender.clone());
    let setup = Arc::new(Setup {
        readers: sources.iter().map(|source| source.reader()).collect(),
        distribution,
        writer: Box::new(move |worker, _| {
            let mut writer = writers[worker]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Ok(writer.take())
        }),
        sequencer: Mutex::new(Some(SequencerEnd {
            commands,
            reports: report_sender,
            waker: waker.clone(),
        })),
        failed: Box::new(move |worker, error| {
            let failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            // A sequencer that has ended needs no telling.
            let _ = failures.send(Report::Failed { worker, error });
        }),
        ..Setup::new(plan, config)
    });
    let workers = launch(config, &setup)?;
    let shared = Arc::new(Shared::new(listener));
    let run_id = Uuid::new_v4();
    let processes = config.cluster.as_ref().map_or(1, |c| c.processes());
    let mut sequencer = Sequencer::new(
        Arc::clone(plan),
        (id, run_id),
        sources,
        (sink, side),
        checkpoint,
        (
            command_sender,
            Reports::new(
                reports,
                (config.workers * processes, config.workers),
                Arc::clone(&shared),
            ),
            waker,
        ),
        (Arc::clone(&shared), meter.clone()),
    );
    let handle = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name(format!("tidemark-{}", plan.name))
        .spawn(move || {
            let ran = catch_unwind(AssertUnwindSafe(|| sequencer.run(beginning)));
            let failed = ran
                .unwrap_or_else(|panic| {
                    let error = worker::panicked("the sequencer", &*panic);
                    Err(QueryError::Worker(error))
                })
                .err();
            let cause = failed
                .filter(|error| !error.is_reader_gone())
                .map(|error| error.to_string());
            sequencer.stop_workers(cause.clone());
            farewell(workers, processes > 1, &setup);
            drop(sequencer);
            if let Some(meter) = meter {
                meter.ended(cause.is_some());
            }
            handle.end(cause);
        })
        .map_err(|error| QueryError::Start(error.to_string()))?;
    Ok(StreamingQuery::new((id, run_id), plan, shared, thread))
}

/// What the checkpoint remembers, and what is to be done about it.
fn recover(
    checkpoint: &mut Checkpoint,
    sources: &mut [Box<dyn Source>],
    sink: &mut dyn Sink,
) -> Result<Beginning, QueryError> {
    let mut beginning = Beginning::default();
    for (index, source) in sources.iter_mut().enumerate() {
        source.restore(&checkpoint.source_log(index)?)?;
    }
    let (resume, next) = match checkpoint.recover(sink.last_committed()?)? {
        Decision::Ready { next, resume } => (resume, next),
        Decision::ReplayThenCommit {
            groups,
            resume,
            next,
        } => {
            beginning.replay = groups;
            (resume, next)
        }
        Decision::Refuse(why) => return Err(QueryError::Refused(why)),
    };
    beginning.next = next;
    if let Some(resume) = resume {
        beginning.restore = Some(checkpoint.restore_plan(resume.last)?);
        beginning.resume = Some(resume);
    }
    checkpoint.fold_in_background(Arc::new(fold_rows), FoldPolicy::default())?;
    Ok(beginning)
}

/// The query in a process that only brings workers.
fn follow(
    plan: &Arc<Plan>,
    sources: &[Box<dyn Source>],
    open_sink: impl Fn(&SinkTable, SinkConfig) -> tidemark_connectors::Result<Box<dyn Sink>>
    + Send
    + Sync
    + 'static,
    config: &QueryConfig,
    listener: Option<Listener>,
) -> Result<StreamingQuery, QueryError> {
    // Opening a sink touches nothing; the first process says which query it is.
    let distribution =
        open_sink(&plan.sink, sink_config(plan, Uuid::nil(), &config.storage))?.distribution();
    let ending = Arc::<Ending>::default();
    let (of_workers, of_loss) = (Arc::clone(&ending), Arc::clone(&ending));
    let (opened, storage) = (Arc::clone(plan), Arc::clone(&config.storage));
    let offset = config.workers * config.cluster.as_ref().map_or(0, |c| c.process());
    let setup = Arc::new(Setup {
        readers: sources.iter().map(|source| source.reader()).collect(),
        distribution,
        writer: Box::new(move |worker, query| {
            if distribution == Distribution::Single {
                return Ok(None);
            }
            let sink = open_sink(&opened.sink, sink_config(&opened, query, &storage))?;
            sink.writer(offset + worker).map(Some)
        }),
        failed: Box::new(move |_, error| of_workers.set(Some(error))),
        ended: Box::new(move |cause| of_loss.set(cause)),
        ..Setup::new(plan, config)
    });
    let workers = launch(config, &setup)?;
    let shared = Arc::new(Shared::new(listener));
    shared.set_status("Working for the first process", true, true);
    let handle = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name(format!("tidemark-{}", plan.name))
        .spawn(move || {
            let cause = loop {
                if let Some(cause) = ending.wait(LOOK) {
                    break cause;
                }
                if handle.is_stopping() {
                    setup.stop_asked.store(true, Ordering::SeqCst);
                }
            };
            farewell(workers, true, &setup);
            handle.end(cause);
        })
        .map_err(|error| QueryError::Start(error.to_string()))?;
    Ok(StreamingQuery::new(
        (Uuid::nil(), Uuid::new_v4()),
        plan,
        shared,
        thread,
    ))
}

/// Starts this process's workers, connected with those of the others.
fn launch(config: &QueryConfig, setup: &Arc<Setup>) -> Result<WorkerGuards<()>, QueryError> {
    let (builders, others) = match &config.cluster {
        None => CommunicationConfig::Process(config.workers)
            .try_build()
            .map_err(QueryError::Start)?,
        Some(cluster) => {
            let built = cluster.connect(&setup.plan, config.workers, &setup.link)?;
            let listener = Arc::downgrade(setup);
            setup.link.listen(move |reason| {
                if let Some(setup) = listener.upgrade() {
                    (setup.failed)(setup.process * setup.local_workers, reason.to_owned());
                }
            });
            built
        }
    };
    let setup = Arc::clone(setup);
    timely::execute::execute_from(builders, others, WorkerConfig::default(), move |each| {
        worker::run(each, &setup);
    })
    .map_err(QueryError::Start)
}

/// Waits for the workers to end. With a lost process their connections never do; they are left.
fn farewell(workers: WorkerGuards<()>, connected: bool, setup: &Setup) {
    if !connected {
        return drop(workers);
    }
    if setup.link.is_broken() {
        return std::mem::forget(workers);
    }
    let (gone, all_gone) = mpsc::channel();
    std::thread::spawn(move || {
        drop(workers);
        let _ = gone.send(());
    });
    let _ = all_gone.recv_timeout(FAREWELL);
}

/// How the query ended for a process that only brings workers; the first word counts.
#[derive(Default)]
struct Ending {
    cause: Mutex<Option<Option<String>>>,
    changed: Condvar,
}

impl Ending {
    fn set(&self, cause: Option<String>) {
        let mut slot = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(cause);
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration) -> Option<Option<String>> {
        let slot = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let (slot, _) = self
            .changed
            .wait_timeout_while(slot, timeout, |slot| slot.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        slot.clone()
    }
}

/// Gives a worker of this process its writer, for the query with this id.
pub type OpenWriter =
    dyn Fn(usize, Uuid) -> tidemark_connectors::Result<Option<Box<dyn SinkWriter>>> + Send + Sync;

impl Setup {
    /// What every process needs alike; nothing is read, written or told yet.
    fn new(plan: &Arc<Plan>, config: &QueryConfig) -> Self {
        Self {
            plan: Arc::clone(plan),
            readers: vec![],
            pools: source_uses(plan).iter().map(|_| Arc::default()).collect(),
            distribution: Distribution::Single,
            writer: Box::new(|_, _| Ok(None)),
            checkpoint: plan
                .settings
                .checkpoint_location
                .as_ref()
                .map(PathBuf::from),
            storage: Arc::clone(&config.storage),
            sequencer: Mutex::new(None),
            failed: Box::new(|_, _| {}),
            ended: Box::new(|_| {}),
            stop_asked: AtomicBool::new(false),
            link: Arc::default(),
            process: config.cluster.as_ref().map_or(0, |c| c.process()),
            local_workers: config.workers,
        }
    }
}
