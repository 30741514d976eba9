//! Starts a query, and is the user's handle to it. Names are those of Spark's `StreamingQuery`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidemark_connectors::{Sink, SinkConfig, Source};
use uuid::Uuid;

use crate::checkpoint::{Checkpoint, Decision, Fingerprint, FoldPolicy, Identity};
use crate::compile::source_uses;
use crate::plan::{Plan, SinkTable};
use crate::runtime::control::{SequencerEnd, Waker};
use crate::runtime::dead_letters::{self, DeadLetters};
use crate::runtime::sequencer::{Beginning, Sequencer};
use crate::runtime::worker::{self, Setup};
use crate::runtime::{Progress, QueryError};
use crate::state::merge_sections;

/// How many epochs' progress is kept (`spark.sql.streaming.numRecentProgressUpdates`).
const RECENT: usize = 100;

/// How a query is run.
#[derive(Clone, Copy, Debug)]
pub struct QueryConfig {
    /// Worker threads.
    pub workers: usize,
}

/// What a query is doing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryStatus {
    /// In words.
    pub message: String,
    /// There was something to read when last looked.
    pub is_data_available: bool,
    /// An epoch is under way.
    pub is_trigger_active: bool,
}

/// What the sequencer and the user's handle share.
pub(crate) struct Shared {
    state: Mutex<SharedState>,
    changed: Condvar,
    listener: Option<Listener>,
}

/// Called with each epoch's progress, on the query's own thread.
pub type Listener = Box<dyn Fn(&Progress) + Send + Sync>;

struct SharedState {
    status: QueryStatus,
    recent: VecDeque<Progress>,
    stopping: bool,
    /// How often the sources were found to hold nothing new.
    idle_rounds: u64,
    /// Somebody waits for the next round: triggers do not wait.
    hurry: bool,
    ended: Option<Ended>,
}

/// How a query ended: with this cause, if it failed.
#[derive(Clone)]
struct Ended(Option<String>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_status(&self, message: &str, data: bool, active: bool) {
        self.lock().status = QueryStatus {
            message: message.into(),
            is_data_available: data,
            is_trigger_active: active,
        };
    }

    pub(crate) fn push_progress(&self, progress: Progress) {
        if let Some(listener) = &self.listener {
            listener(&progress);
        }
        let mut state = self.lock();
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back(progress);
        self.changed.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// The sources hold nothing new.
    pub(crate) fn note_idle(&self) {
        let mut state = self.lock();
        state.idle_rounds += 1;
        state.hurry = false;
        self.changed.notify_all();
    }

    /// Sleeps until `deadline`, a stop, or somebody who is in a hurry.
    pub(crate) fn sleep_until(&self, deadline: Instant) {
        let mut state = self.lock();
        while !state.stopping && !state.hurry {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    fn end(&self, cause: Option<String>) {
        let mut state = self.lock();
        state.status = QueryStatus {
            message: match &cause {
                None => "Stopped".into(),
                Some(cause) => format!("Terminated with exception: {cause}"),
            },
            is_data_available: false,
            is_trigger_active: false,
        };
        state.ended = Some(Ended(cause));
        self.changed.notify_all();
    }
}

/// A running query.
pub struct StreamingQuery {
    id: Uuid,
    run_id: Uuid,
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for StreamingQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingQuery")
            .field("name", &self.name())
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl StreamingQuery {
    /// The query's id: the same whenever it is started from its checkpoint.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// This run's id.
    pub fn run_id(&self) -> Uuid {
        self.run_id
    }

    /// The query's name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// The plan, as `EXPLAIN` shows it.
    pub fn explain(&self) -> String {
        self.plan.explain()
    }

    /// The plan itself.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What it is doing.
    pub fn status(&self) -> QueryStatus {
        self.shared.lock().status.clone()
    }

    /// Whether it has not ended.
    pub fn is_active(&self) -> bool {
        self.shared.lock().ended.is_none()
    }

    /// The progress of the last epoch.
    pub fn last_progress(&self) -> Option<Progress> {
        self.shared.lock().recent.back().cloned()
    }

    /// The progress of the last hundred epochs, oldest first.
    pub fn recent_progress(&self) -> Vec<Progress> {
        self.shared.lock().recent.iter().cloned().collect()
    }

    /// Why it ended, if it failed.
    pub fn exception(&self) -> Option<String> {
        self.shared.lock().ended.clone().and_then(|ended| ended.0)
    }

    /// Asks it to end once the epoch in flight is committed. Does not wait.
    pub fn request_stop(&self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        self.shared.changed.notify_all();
    }

    /// Ends it once the epoch in flight is committed, and waits for that.
    pub fn stop(&self) -> Result<(), QueryError> {
        self.request_stop();
        self.await_termination()
    }

    /// Waits for its end; an error if it failed.
    pub fn await_termination(&self) -> Result<(), QueryError> {
        let mut state = self.shared.lock();
        while state.ended.is_none() {
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let cause = state.ended.clone().and_then(|ended| ended.0);
        drop(state);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // Its outcome is in `ended` already.
            let _ = thread.join();
        }
        cause.map_or(Ok(()), |cause| Err(QueryError::Worker(cause)))
    }

    /// Waits for its end, at most this long; whether it has ended.
    pub fn await_termination_timeout(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while state.ended.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        true
    }

    /// Waits until all that the sources hold now is processed and committed.
    pub fn process_all_available(&self) -> Result<(), QueryError> {
        let mut state = self.shared.lock();
        // The round under way may have looked before the caller's data came.
        let enough = state.idle_rounds + 2;
        while state.ended.is_none() && state.idle_rounds < enough {
            state.hurry = true;
            self.shared.changed.notify_all();
            state = self
                .shared
                .changed
                .wait_timeout(state, Duration::from_millis(10))
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        let cause = state.ended.clone().and_then(|ended| ended.0);
        cause.map_or(Ok(()), |cause| Err(QueryError::Worker(cause)))
    }
}

impl Drop for StreamingQuery {
    fn drop(&mut self) {
        self.request_stop();
    }
}

/// Starts a query.
///
/// `sources` are those of the plan, in its order; `open_sink` opens the sink, and the table of dead
/// letters, once the query's id is known. All that can be refused is refused here, before anything runs.
pub fn start(
    plan: &Arc<Plan>,
    mut sources: Vec<Box<dyn Source>>,
    open_sink: impl Fn(&SinkTable, SinkConfig) -> tidemark_connectors::Result<Box<dyn Sink>>,
    config: QueryConfig,
    listener: Option<Listener>,
) -> Result<StreamingQuery, QueryError> {
    let mut checkpoint = match &plan.settings.checkpoint_location {
        Some(location) => {
            let fingerprint = plan
                .fingerprint()
                .into_iter()
                .fold(Fingerprint::new(), |all, (part, text)| all.with(part, text));
            Some(Checkpoint::open(
                location,
                &Identity {
                    name: plan.name.clone(),
                    fingerprint,
                },
            )?)
        }
        None => None,
    };
    let id = checkpoint
        .as_ref()
        .map_or_else(Uuid::new_v4, Checkpoint::query_id);
    let config_of_sink = SinkConfig {
        query_name: plan.name.clone(),
        query_id: id.to_string(),
        schema: Arc::clone(&plan.schema),
        mode: plan.mode,
        key: plan.key.clone(),
    };
    let mut sink = open_sink(&plan.sink, config_of_sink)?;
    let dead_letters = match &plan.dead_letter {
        Some(table) => {
            let config = dead_letters::sink_config(&table.name, &id.to_string());
            Some(DeadLetters::new(plan, open_sink(table, config)?)?)
        }
        None => None,
    };
    let mut beginning = Beginning::default();
    if let Some(checkpoint) = &mut checkpoint {
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
        checkpoint.fold_in_background(
            Arc::new(|sections, watermark| {
                merge_sections(sections, watermark).map_err(|error| error.to_string())
            }),
            FoldPolicy::default(),
        )?;
    }
    sink.discard_uncommitted()?;

    let writers = (0..config.workers)
        .map(|worker| {
            let wanted =
                worker == 0 || sink.distribution() == tidemark_connectors::Distribution::PerWorker;
            Ok(Mutex::new(wanted.then(|| sink.writer(worker)).transpose()?))
        })
        .collect::<Result<Vec<_>, QueryError>>()?;
    let (command_sender, commands) = mpsc::channel();
    let (report_sender, reports) = mpsc::channel();
    let waker = Waker::default();
    let setup = Setup {
        plan: Arc::clone(plan),
        readers: sources.iter().map(|source| source.reader()).collect(),
        pools: source_uses(plan).iter().map(|_| Arc::default()).collect(),
        distribution: sink.distribution(),
        writers,
        state_dir: checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.state_dir().clone()),
        sequencer: Mutex::new(Some(SequencerEnd {
            commands,
            reports: report_sender.clone(),
            waker: waker.clone(),
        })),
        failures: Mutex::new(report_sender),
        panicked: AtomicBool::new(false),
        process: 0,
        local_workers: config.workers,
    };
    let workers = timely::execute(timely::Config::process(config.workers), move |each| {
        worker::run(each, &setup);
    })
    .map_err(QueryError::Start)?;

    let shared = Arc::new(Shared {
        state: Mutex::new(SharedState {
            status: QueryStatus {
                message: "Initializing".into(),
                is_data_available: false,
                is_trigger_active: false,
            },
            recent: VecDeque::new(),
            stopping: false,
            idle_rounds: 0,
            hurry: false,
            ended: None,
        }),
        changed: Condvar::new(),
        listener,
    });
    let run_id = Uuid::new_v4();
    let mut sequencer = Sequencer::new(
        Arc::clone(plan),
        (id, run_id),
        config.workers,
        sources,
        (sink, dead_letters),
        checkpoint,
        (command_sender, reports, waker),
        Arc::clone(&shared),
    );
    let handle = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name(format!("tidemark-{}", plan.name))
        .spawn(move || {
            let outcome = sequencer.run(beginning);
            sequencer.stop_workers();
            drop(workers);
            drop(sequencer);
            handle.end(outcome.err().map(|error| error.to_string()));
        })
        .map_err(|error| QueryError::Start(error.to_string()))?;
    Ok(StreamingQuery {
        id,
        run_id,
        plan: Arc::clone(plan),
        shared,
        thread: Mutex::new(Some(thread)),
    })
}
