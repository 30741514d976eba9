//! The user's handle to it. Names are those of Spark's `StreamingQuery`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidemark_connectors::storage::Storage;
use uuid::Uuid;

use crate::checkpoint::CommitEntry;
use crate::operators::calls::{Calls, Outside};
use crate::plan::Plan;
use crate::runtime::cluster::Cluster;
use crate::runtime::latency::{Latencies, LatencyHistogram, LatencySummary};
use crate::runtime::metrics::Metrics;
use crate::runtime::{Progress, QueryError};

/// How many epochs' progress is kept (`spark.sql.streaming.numRecentProgressUpdates`).
const RECENT: usize = 100;

/// A sink or source that takes longer to answer is told of.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a query is run.
#[derive(Clone, Debug)]
pub struct QueryConfig {
    /// Worker threads of each process.
    pub workers: usize,
    /// The processes that run it together; `None`: this one alone.
    pub cluster: Option<Arc<Cluster>>,
    /// Where checkpoints and sinks write their files.
    pub storage: Arc<dyn Storage>,
    /// Where the query tells of its epochs; `None`: nobody asks.
    pub metrics: Option<Arc<Metrics>>,
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
    /// How long records took since the query was started.
    latencies: LatencyHistogram,
    /// The calls of this process to sink and sources.
    pub(super) outside: Outside,
}

/// Called with each epoch's progress, on the query's own thread.
pub type Listener = Box<dyn Fn(&Progress) + Send + Sync>;

struct SharedState {
    status: QueryStatus,
    /// Since when.
    status_since: Instant,
    recent: VecDeque<Progress>,
    /// How things stood after the last epoch, or when the run began.
    standing: Option<Arc<CommitEntry>>,
    /// How many epochs were committed.
    committed: u64,
    /// The workers hold the state that the run begins with.
    ready: bool,
    /// Since when somebody wants it to end.
    stopping: Option<Instant>,
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
        let mut state = self.lock();
        state.status = QueryStatus {
            message: message.into(),
            is_data_available: data,
            is_trigger_active: active,
        };
        state.status_since = Instant::now();
    }

    /// Whether the workers hold the state that the run begins with.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.lock().ready = ready;
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
        state.committed += 1;
        self.changed.notify_all();
    }

    /// Rows of a continuous query took this long.
    pub(crate) fn took(&self, latencies: &Latencies) {
        self.latencies.add(latencies);
    }

    /// How things stand now.
    pub(crate) fn set_standing(&self, standing: CommitEntry) {
        self.lock().standing = Some(Arc::new(standing));
    }

    /// How many epochs this run has committed.
    pub(crate) fn committed(&self) -> u64 {
        self.lock().committed
    }

    /// Sleeps until `deadline` or a stop; whether it was a stop.
    pub(crate) fn stops_before(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), left, |state| state.stopping.is_none());
        let state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        state.stopping.is_some()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping.is_some()
    }

    /// Somebody waits for all that is there to be committed.
    pub(crate) fn is_hurried(&self) -> bool {
        self.lock().hurry
    }

    /// The sources hold nothing new.
    pub(crate) fn note_idle(&self) {
        let mut state = self.lock();
        state.idle_rounds += 1;
        state.hurry = false;
        self.changed.notify_all();
    }

    /// The query is to end once the epoch in flight is committed.
    pub(crate) fn ask_to_stop(&self) {
        self.lock().stopping.get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    /// Sleeps until `deadline`, a stop, or somebody who is in a hurry; whether it was one of those.
    pub(crate) fn sleep_until(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while state.stopping.is_none() && !state.hurry {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        true
    }

    pub(crate) fn new(listener: Option<Listener>) -> Self {
        Self {
            state: Mutex::new(SharedState {
                status: QueryStatus {
                    message: "Initializing".into(),
                    is_data_available: false,
                    is_trigger_active: false,
                },
                status_since: Instant::now(),
                recent: VecDeque::new(),
                standing: None,
                committed: 0,
                ready: false,
                stopping: None,
                idle_rounds: 0,
                hurry: false,
                ended: None,
            }),
            changed: Condvar::new(),
            listener,
            latencies: LatencyHistogram::default(),
            outside: Outside::default(),
        }
    }

    pub(crate) fn end(&self, cause: Option<String>) {
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
    pub(super) fn new(
        (id, run_id): (Uuid, Uuid),
        plan: &Arc<Plan>,
        shared: Arc<Shared>,
        thread: JoinHandle<()>,
    ) -> Self {
        Self {
            id,
            run_id,
            plan: Arc::clone(plan),
            shared,
            thread: Mutex::new(Some(thread)),
        }
    }

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
        let mut status = self.shared.lock().status.clone();
        if let Some((who, silent)) = self.silent() {
            status.message = format!(
                "Waiting for {who}, which has not answered for {} s",
                silent.as_secs()
            );
        }
        status
    }

    /// Who of sink and sources has not answered for long, and for how long.
    pub(super) fn silent(&self) -> Option<(String, Duration)> {
        let outside = &self.shared.outside;
        let long = |calls: &Calls| calls.longest().filter(|longest| *longest >= PATIENCE);
        let sink =
            long(&outside.sink).map(|silent| (format!("the sink {}", self.plan.sink.name), silent));
        sink.or_else(|| long(&outside.sources).map(|silent| ("a source".into(), silent)))
    }

    /// Why a stop that was asked for does not come about, if the sink or a source has not answered for
    /// `stopTimeout` since. What was not committed is read again by the next start on the checkpoint.
    pub fn stuck(&self) -> Option<String> {
        let most = self.plan.settings.stop_timeout;
        let asked = self.shared.lock().stopping?;
        let (who, silent) = self.silent().filter(|_| self.is_active())?;
        (silent.min(asked.elapsed()) >= most).then(|| {
            format!("{who} has not answered for {} s ('stopTimeout'): the query ends without the epoch in flight, which the next start on its checkpoint reads again", silent.as_secs())
        })
    }

    /// For how long it has been doing that.
    pub(super) fn in_status_for(&self) -> Duration {
        self.shared.lock().status_since.elapsed()
    }

    /// Whether it has read the state that it begins with, and processes epochs.
    pub fn is_ready(&self) -> bool {
        self.shared.lock().ready
    }

    /// Whether it has not ended.
    pub fn is_active(&self) -> bool {
        self.shared.lock().ended.is_none()
    }

    /// How long records took since it was started, from their arrival to the sink's acknowledgement; `None`
    /// where it is not continuous, or nothing came.
    pub fn latency(&self) -> Option<LatencySummary> {
        self.shared.latencies.summary()
    }

    /// The progress of the last epoch.
    pub fn last_progress(&self) -> Option<Progress> {
        self.shared.lock().recent.back().cloned()
    }

    /// The progress of the last hundred epochs, oldest first.
    pub fn recent_progress(&self) -> Vec<Progress> {
        self.shared.lock().recent.iter().cloned().collect()
    }

    /// How things stood after the last epoch, or when it began to run on a checkpoint; `None` before the
    /// first epoch.
    pub fn standing(&self) -> Option<Arc<CommitEntry>> {
        self.shared.lock().standing.clone()
    }

    /// Why it ended, if it failed.
    pub fn exception(&self) -> Option<String> {
        self.shared.lock().ended.clone().and_then(|ended| ended.0)
    }

    /// Asks it to end once the epoch in flight is committed. Does not wait.
    pub fn request_stop(&self) {
        self.shared.ask_to_stop();
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
