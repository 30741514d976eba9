//! The query in its first, or only, process: it runs, and starts again after a failure that may pass.
//!
//! Starting again is what a restart of the process would be: everything is opened anew, the checkpoint
//! says what is to be replayed, and the sink what it holds. So nothing is lost and nothing there twice,
//! wherever it failed; and while it waits nothing is read. The other processes of a query are told, and do the same
//! (`follow`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tidemark_connectors::{Distribution, Sink, Source};
use timely::communication::WorkerGuards;
use uuid::Uuid;

use crate::checkpoint::{Checkpoint, Decision, FoldPolicy, Identity, fold_rows};
use crate::plan::Plan;
use crate::runtime::QueryError;
use crate::runtime::control::{Report, SequencerEnd, Waker};
use crate::runtime::dead_letters::{self, DeadLetters};
use crate::runtime::late_rows::{self, LateRows};
use crate::runtime::launch::{
    OpenSink, Sources, farewell, fingerprint, keep_tables, launch, sink_config,
};
use crate::runtime::metrics::Meter;
use crate::runtime::query::{QueryConfig, Shared, StreamingQuery};
use crate::runtime::reports::{Mailbox, Reports};
use crate::runtime::sequencer::{Beginning, Seat, Sequencer, SideTables};
use crate::runtime::worker::{self, Setup};

/// What a query is started with, again and again.
pub(super) struct Lead {
    pub(super) plan: Arc<Plan>,
    pub(super) open_sink: Box<OpenSink>,
    pub(super) config: QueryConfig,
    pub(super) run_id: Uuid,
    pub(super) shared: Arc<Shared>,
    pub(super) meter: Option<Meter>,
}

/// What becomes of a query that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It has ended.
    Ends,
    /// It has ended, as often as it was started again.
    GivesUp,
    /// It starts again.
    Again,
}

/// A query whose workers are there.
struct Attempt {
    id: Uuid,
    seat: Arc<Seat>,
    beginning: Beginning,
    workers: WorkerGuards<()>,
    setup: Arc<Setup>,
}

impl Lead {
    /// Starts the query. What is wrong at the first start is an error, also where it may pass.
    pub(super) fn start(self, mut sources: Sources) -> Result<StreamingQuery, QueryError> {
        let first = self.attempt(sources.open()?)?;
        let ids = (first.id, self.run_id);
        let (plan, shared) = (Arc::clone(&self.plan), Arc::clone(&self.shared));
        let thread = std::thread::Builder::new()
            .name(format!("tidemark-{}", plan.name))
            .spawn(move || {
                let cause = self.run(first, &mut sources);
                if let Some(meter) = &self.meter {
                    meter.ended(cause.is_some());
                }
                self.shared.end(cause);
            })
            .map_err(|error| QueryError::Start(error.to_string()))?;
        Ok(StreamingQuery::new(ids, &plan, shared, thread))
    }

    /// Runs until the query ends; why, if it failed.
    fn run(&self, first: Attempt, sources: &mut Sources) -> Option<String> {
        let retry = self.plan.settings.retry;
        let mut next = Ok(first);
        let mut failures = 0;
        let cause = loop {
            let committed = self.shared.committed();
            let mut verdict = |error: &QueryError| {
                if self.shared.committed() > committed {
                    failures = 0;
                }
                if retry.most == 0 || !error.may_pass() || !self.can_restart(sources) {
                    return Verdict::Ends;
                }
                failures += 1;
                if failures > retry.most {
                    Verdict::GivesUp
                } else {
                    Verdict::Again
                }
            };
            let (error, verdict) = match next {
                Ok(attempt) => self.run_once(attempt, verdict)?,
                Err(error) => {
                    let verdict = verdict(&error);
                    (error, verdict)
                }
            };
            if verdict != Verdict::Again {
                break self.cause(&error, verdict);
            }
            let try_of = format!("retry {failures} of {}", retry.most);
            self.shared.set_ready(false);
            self.shared.set_status(
                &format!("Waiting for {try_of} after: {error}"),
                false,
                false,
            );
            // Somebody who waits for rows does not make the sink work again.
            let until = Instant::now() + retry.interval;
            if self.shared.stops_before(until) {
                break format!("{error}\n  it was stopped before {try_of}");
            }
            self.shared
                .set_status(&format!("Starting, {try_of} after: {error}"), false, false);
            next = sources
                .open()
                .map_err(QueryError::from)
                .and_then(|sources| self.attempt(sources))
                .inspect(|attempt| {
                    let warning = format!("started again, {try_of} after: {error}");
                    attempt.seat.warn(warning);
                });
        };
        if failures > 0
            && let Some(cluster) = &self.config.cluster
        {
            // The others may be waiting for a start that will not come.
            cluster.refuse(&self.plan.name, &cause);
        }
        Some(cause)
    }

    /// Why the query ends, in words.
    fn cause(&self, error: &QueryError, verdict: Verdict) -> String {
        match verdict {
            Verdict::GivesUp => format!(
                "{error}\n  it was started again {} times ('maxRetries') and went no further",
                self.plan.settings.retry.most
            ),
            Verdict::Ends | Verdict::Again => error.to_string(),
        }
    }

    /// Whether all that a run needs can be had again.
    fn can_restart(&self, sources: &Sources) -> bool {
        self.plan.settings.checkpoint_location.is_some() && sources.can_open_again()
    }

    /// Runs once; why it ended if it failed, and what becomes of it.
    fn run_once(
        &self,
        attempt: Attempt,
        verdict: impl FnOnce(&QueryError) -> Verdict,
    ) -> Option<(QueryError, Verdict)> {
        let Attempt {
            seat,
            beginning,
            workers,
            setup,
            ..
        } = attempt;
        let ran = catch_unwind(AssertUnwindSafe(|| seat.run(beginning)));
        let failed = ran
            .unwrap_or_else(|panic| {
                let error = worker::panicked("the sequencer", &*panic);
                Err(QueryError::Worker(error))
            })
            .err()
            .filter(|error| !error.is_reader_gone())
            .map(|error| {
                let verdict = verdict(&error);
                (error, verdict)
            });
        let again = failed.as_ref().and_then(|(_, verdict)| {
            (*verdict == Verdict::Again).then_some(self.plan.settings.retry.interval)
        });
        let cause = failed.as_ref();
        let cause = cause.map(|(error, verdict)| self.cause(error, *verdict));
        seat.stop_workers(cause, again);
        let processes = self.config.cluster.as_ref().map_or(1, |c| c.processes());
        farewell(workers, processes > 1, &setup);
        failed
    }

    /// Opens all that a run needs, and starts its workers.
    fn attempt(&self, mut sources: Vec<Box<dyn Source>>) -> Result<Attempt, QueryError> {
        let Self {
            plan,
            config,
            shared,
            meter,
            ..
        } = self;
        let mut checkpoint = match &plan.settings.checkpoint_location {
            Some(location) => {
                let identity = Identity {
                    name: plan.name.clone(),
                    fingerprint: fingerprint(plan),
                };
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
        let mut sink = (self.open_sink)(&plan.sink, sink_config(plan, id, &config.storage))?;
        let mut side = SideTables::default();
        if let Some(table) = &plan.dead_letter {
            let config = dead_letters::sink_config(table, &id.to_string(), &config.storage);
            let sink = (self.open_sink)(table, config)?;
            side.dead_letters = Some(DeadLetters::new(plan, table, sink)?);
        }
        if let Some(table) = &plan.late_rows {
            let config = late_rows::sink_config(table, &id.to_string(), &config.storage)?;
            let sink = (self.open_sink)(table, config)?;
            side.late_rows = Some(LateRows::new(plan, sink)?);
        }
        for source in &mut sources {
            source.begin(&plan.name, &id.to_string());
        }
        keep_tables(plan, config, &mut sources)?;
        let beginning = match &mut checkpoint {
            Some(checkpoint) => recover(checkpoint, &mut sources, &mut *sink)?,
            None => Beginning::default(),
        };
        sink.discard_uncommitted()?;
        if let Some(checkpoint) = &mut checkpoint {
            let outline = serde_json::to_string(&plan.outline()).expect("an outline is plain data");
            let starts = checkpoint.count_start(&outline)?;
            if let Some(meter) = meter {
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
        let mailbox = Arc::<Mailbox>::default();
        let waker = Waker::default();
        let readers = sources.iter().map(|source| source.reader()).collect();
        let processes = config.cluster.as_ref().map_or(1, |c| c.processes());
        let workers = (config.workers * processes, config.workers);
        let reports = Reports::new(Arc::clone(&mailbox), workers, Arc::clone(shared));
        let seat = Arc::new(Seat::new(Sequencer::new(
            Arc::clone(plan),
            (id, self.run_id),
            sources,
            (sink, side),
            checkpoint,
            (command_sender, reports, waker.clone()),
            (Arc::clone(shared), meter.clone()),
        )));
        // Workers that do not end keep nothing open.
        let ahead = Arc::downgrade(&seat);
        let failures = Arc::clone(&mailbox);
        let setup = Arc::new(Setup {
            readers,
            distribution,
            writer: Box::new(move |worker, _| {
                let mut writer = writers[worker]
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                Ok(writer.take())
            }),
            sequencer: Mutex::new(Some(SequencerEnd {
                commands,
                reports: mailbox,
                attend: Box::new(move || ahead.upgrade()?.attend()),
                waker,
            })),
            failed: Box::new(move |worker, error| {
                failures.send(Report::Failed {
                    worker,
                    error,
                    may_pass: false,
                });
            }),
            outside: shared.outside.clone(),
            ..Setup::new(plan, config)
        });
        // The others come for a new start as soon as they have heard of it.
        let workers = launch(config, &setup, false)?;
        Ok(Attempt {
            id,
            seat,
            beginning,
            workers,
            setup,
        })
    }
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
