//! The query in a process that only brings workers: it ends when the first process says so or is lost, and starts
//! again with it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidemark_connectors::Distribution;
use timely::communication::WorkerGuards;
use uuid::Uuid;

use crate::plan::Plan;
use crate::runtime::QueryError;
use crate::runtime::launch::{OpenSink, Sources, farewell, keep_tables, launch, sink_config};
use crate::runtime::query::{QueryConfig, Shared, StreamingQuery};
use crate::runtime::worker::Setup;

/// How often such a process looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What workers are brought with, again and again.
pub(super) struct Follow {
    pub(super) plan: Arc<Plan>,
    pub(super) open_sink: Arc<OpenSink>,
    pub(super) config: QueryConfig,
    pub(super) shared: Arc<Shared>,
}

/// Workers that are connected with those of the others.
struct Attempt {
    workers: WorkerGuards<()>,
    setup: Arc<Setup>,
    ending: Arc<Ending>,
}

impl Follow {
    /// Connects with the other processes, and works until the query ends.
    pub(super) fn start(self, mut sources: Sources) -> Result<StreamingQuery, QueryError> {
        let first = self.attempt(&mut sources, false)?;
        let (plan, shared) = (Arc::clone(&self.plan), Arc::clone(&self.shared));
        let thread = std::thread::Builder::new()
            .name(format!("tidemark-{}", plan.name))
            .spawn(move || {
                let cause = self.run(first, &mut sources);
                self.shared.end(cause);
            })
            .map_err(|error| QueryError::Start(error.to_string()))?;
        let ids = (Uuid::nil(), Uuid::new_v4());
        Ok(StreamingQuery::new(ids, &plan, shared, thread))
    }

    /// Works until the query ends; why, if it failed.
    fn run(&self, first: Attempt, sources: &mut Sources) -> Option<String> {
        let mut attempt = first;
        loop {
            self.shared
                .set_status("Working for the first process", true, true);
            let Attempt {
                workers,
                setup,
                ending,
            } = attempt;
            let ended = loop {
                if let Some(ended) = ending.wait(LOOK) {
                    break ended;
                }
                if self.shared.is_stopping() {
                    setup.stop_asked.store(true, Ordering::SeqCst);
                }
            };
            farewell(workers, true, &setup);
            let (Some(cause), Some(interval)) = (&ended.cause, ended.again) else {
                return ended.cause;
            };
            let status = format!("Waiting for the first process to start again after: {cause}");
            self.shared.set_status(&status, false, false);
            if self.shared.stops_before(Instant::now() + interval) {
                return None;
            }
            let next = self.attempt(sources, true);
            attempt = match next {
                Ok(attempt) => attempt,
                Err(QueryError::Stopped) => return None,
                Err(error) => {
                    let cause = error.to_string();
                    if let Some(cluster) = &self.config.cluster {
                        cluster.refuse(&self.plan.name, &cause);
                    }
                    return Some(cause);
                }
            };
        }
    }

    fn attempt(&self, sources: &mut Sources, again: bool) -> Result<Attempt, QueryError> {
        let (plan, config) = (&self.plan, &self.config);
        let mut sources = sources.open()?;
        keep_tables(plan, config, &mut sources)?;
        // Opening a sink touches nothing; the first process says which query it is.
        let unnamed = sink_config(plan, Uuid::nil(), &config.storage);
        let distribution = (self.open_sink)(&plan.sink, unnamed)?.distribution();
        let ending = Arc::<Ending>::default();
        let (of_workers, of_loss) = (Arc::clone(&ending), Arc::clone(&ending));
        let (opened, storage) = (Arc::clone(plan), Arc::clone(&config.storage));
        let open_sink = Arc::clone(&self.open_sink);
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
            failed: Box::new(move |_, error| of_workers.set(Some(error), None)),
            ended: Box::new(move |cause, again| of_loss.set(cause, again)),
            outside: self.shared.outside.clone(),
            ..Setup::new(plan, config)
        });
        let workers = launch(config, &setup, again)?;
        Ok(Attempt {
            workers,
            setup,
            ending,
        })
    }
}

/// How a run ended; the first word counts.
#[derive(Default)]
struct Ending {
    ended: Mutex<Option<Ended>>,
    changed: Condvar,
}

#[derive(Clone)]
struct Ended {
    /// Why, if it failed.
    cause: Option<String>,
    /// It starts again after this time.
    again: Option<Duration>,
}

impl Ending {
    fn set(&self, cause: Option<String>, again: Option<Duration>) {
        let mut slot = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(Ended { cause, again });
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration) -> Option<Ended> {
        let slot = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (slot, _) = self
            .changed
            .wait_timeout_while(slot, timeout, |slot| slot.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        slot.clone()
    }
}
