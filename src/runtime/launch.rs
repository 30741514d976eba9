//! Starts a query: in one process, or as one of several that run it together.
//!
//! The first process holds the checkpoint, plans epochs and commits (`lead`); the others bring workers (`follow`).

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemark_connectors::storage::Storage;
use tidemark_connectors::{Distribution, Keeping, Sink, SinkConfig, SinkWriter, Source};
use timely::WorkerConfig;
use timely::communication::{Config as CommunicationConfig, WorkerGuards};
use uuid::Uuid;

use crate::checkpoint::{Fingerprint, tables_dir};
use crate::compile::source_uses;
use crate::operators::calls::Outside;
use crate::plan::{Plan, SinkTable, Trigger};
use crate::runtime::QueryError;
use crate::runtime::follow::Follow;
use crate::runtime::lead::Lead;
use crate::runtime::metrics::Meter;
use crate::runtime::query::{Listener, QueryConfig, Shared, StreamingQuery};
use crate::runtime::worker::{self, Setup};

/// How long the workers of several processes may take to end together.
const FAREWELL: Duration = Duration::from_secs(5);

/// Opens the sources of a plan, in its order.
type OpenSources = Box<dyn Fn() -> tidemark_connectors::Result<Vec<Box<dyn Source>>> + Send>;

/// The sources of a query, in the order of its plan.
pub struct Sources {
    opened: Option<Vec<Box<dyn Source>>>,
    again: Option<OpenSources>,
}

impl From<Vec<Box<dyn Source>>> for Sources {
    /// Sources that are there once: the query ends with its first failure.
    fn from(opened: Vec<Box<dyn Source>>) -> Self {
        Self {
            opened: Some(opened),
            again: None,
        }
    }
}

impl Sources {
    /// Sources that can be opened again, where the query starts again after a failure.
    pub fn opened_by(
        open: impl Fn() -> tidemark_connectors::Result<Vec<Box<dyn Source>>> + Send + 'static,
    ) -> Self {
        Self {
            opened: None,
            again: Some(Box::new(open)),
        }
    }

    /// Whether they can be opened more than once.
    pub(super) fn can_open_again(&self) -> bool {
        self.again.is_some()
    }

    pub(super) fn open(&mut self) -> tidemark_connectors::Result<Vec<Box<dyn Source>>> {
        match (self.opened.take(), &self.again) {
            (Some(opened), _) => Ok(opened),
            (None, Some(open)) => open(),
            (None, None) => Ok(vec![]),
        }
    }
}

/// Opens a sink, once the query's id is known.
pub(super) type OpenSink =
    dyn Fn(&SinkTable, SinkConfig) -> tidemark_connectors::Result<Box<dyn Sink>> + Send + Sync;

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
    start_from(plan, sources.into(), open_sink, config, listener)
}

/// Starts a query as [`start`] does, from sources that can perhaps be opened again.
pub fn start_from(
    plan: &Arc<Plan>,
    sources: Sources,
    open_sink: impl Fn(&SinkTable, SinkConfig) -> tidemark_connectors::Result<Box<dyn Sink>>
    + Send
    + Sync
    + 'static,
    config: &QueryConfig,
    listener: Option<Listener>,
) -> Result<StreamingQuery, QueryError> {
    let started = match &config.cluster {
        Some(cluster) if cluster.process() > 0 => Follow {
            plan: Arc::clone(plan),
            open_sink: Arc::new(open_sink),
            config: config.clone(),
            shared: Arc::new(Shared::new(listener)),
        }
        .start(sources),
        _ => {
            let meter = config.metrics.as_ref();
            let meter = meter.map(|metrics| Meter::start(metrics, plan));
            let lead = Lead {
                plan: Arc::clone(plan),
                open_sink: Box::new(open_sink),
                config: config.clone(),
                run_id: Uuid::new_v4(),
                shared: Arc::new(Shared::new(listener)),
                meter: meter.clone(),
            };
            let started = lead.start(sources);
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

/// What a checkpoint of the plan must agree with.
pub(super) fn fingerprint(plan: &Plan) -> Fingerprint {
    let parts = plan.fingerprint().into_iter();
    parts.fold(Fingerprint::new(), |all, (part, text)| all.with(part, text))
}

pub(super) fn sink_config(plan: &Plan, query: Uuid, storage: &Arc<dyn Storage>) -> SinkConfig {
    SinkConfig {
        query_name: plan.name.clone(),
        query_id: query.to_string(),
        schema: Arc::clone(&plan.schema),
        mode: plan.mode,
        key: plan.key.clone(),
        storage: Arc::clone(storage),
        continuous: matches!(plan.trigger, Trigger::Continuous(_)),
    }
}

/// Tells sources where a table that cannot be read twice may be kept.
pub(super) fn keep_tables(
    plan: &Plan,
    config: &QueryConfig,
    sources: &mut [Box<dyn Source>],
) -> Result<(), QueryError> {
    let checkpoint = plan.settings.checkpoint_location.as_ref();
    let place = checkpoint.map(|dir| (tables_dir(dir.as_ref()), Arc::clone(&config.storage)));
    for (index, source) in sources.iter_mut().enumerate() {
        source.keep(&Keeping {
            place: place.clone(),
            source: index,
            columns: plan.columns_read(index),
            processes: config.cluster.as_ref().map_or(1, |c| c.processes()),
            alone: plan.sources.iter().all(|table| !table.streaming),
        })?;
    }
    Ok(())
}

/// Starts this process's workers, connected with those of the others.
/// `again`: the first process decides when; it is waited for as long as it is there.
pub(super) fn launch(
    config: &QueryConfig,
    setup: &Arc<Setup>,
    again: bool,
) -> Result<WorkerGuards<()>, QueryError> {
    let (builders, others) = match &config.cluster {
        None => CommunicationConfig::Process(config.workers)
            .try_build()
            .map_err(QueryError::Start)?,
        Some(cluster) => {
            let built = cluster.connect(&setup.plan, config.workers, (&setup.link, again))?;
            let listener = Arc::downgrade(setup);
            setup.link.listen(move |reason| {
                if let Some(setup) = listener.upgrade() {
                    (setup.failed)(setup.process * setup.local_workers, reason.to_owned());
                }
            });
            built
        }
    };
    let mut how = WorkerConfig::default();
    if config.workers == 1 && config.cluster.is_none() {
        // It waits for no other worker, who may be nearly there: only for what is outside.
        how = how.idle_spin(Duration::ZERO);
    }
    let setup = Arc::clone(setup);
    timely::execute::execute_from(builders, others, how, move |each| {
        worker::run(each, &setup);
    })
    .map_err(QueryError::Start)
}

/// Waits for the workers to end. With a lost process their connections never do; they are left.
pub(super) fn farewell(workers: WorkerGuards<()>, connected: bool, setup: &Setup) {
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

/// Gives a worker of this process its writer, for the query with this id.
pub type OpenWriter =
    dyn Fn(usize, Uuid) -> tidemark_connectors::Result<Option<Box<dyn SinkWriter>>> + Send + Sync;

impl Setup {
    /// What every process needs alike; nothing is read, written or told yet.
    pub(super) fn new(plan: &Arc<Plan>, config: &QueryConfig) -> Self {
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
            ended: Box::new(|_, _| {}),
            stop_asked: AtomicBool::new(false),
            link: Arc::default(),
            process: config.cluster.as_ref().map_or(0, |c| c.process()),
            local_workers: config.workers,
            latencies: Arc::default(),
            outside: Outside::default(),
        }
    }
}
