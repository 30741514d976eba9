//! The sequencer's ear: what the workers report.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::runtime::QueryError;
use crate::runtime::control::{Done, Report};
use crate::runtime::query::Shared;
use crate::time::Epoch;

const SILENT: &str =
    "internal error: the workers ended without saying why; please report it with the query";

/// A sequencer that waits for its trigger looks for reports this often.
const NAP: Duration = Duration::from_millis(200);

/// See the module.
pub(crate) struct Reports {
    receiver: Receiver<Report>,
    sender: Sender<Report>,
    workers: usize,
    local_workers: usize,
    shared: Arc<Shared>,
}

impl Reports {
    /// Of this many workers, the first of which are this process's.
    pub(super) fn new(
        (sender, receiver): (Sender<Report>, Receiver<Report>),
        (workers, local_workers): (usize, usize),
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            receiver,
            sender,
            workers,
            local_workers,
            shared,
        }
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    /// How many of them are threads of this process.
    pub(super) fn local_workers(&self) -> usize {
        self.local_workers
    }

    /// What counts of a report whenever it comes: one failed, or a user of another process asks
    /// to stop. The rest is handed on.
    fn hear(&self, report: Report) -> Result<Option<Report>, QueryError> {
        match report {
            Report::Failed {
                error,
                may_pass: true,
                ..
            } => Err(QueryError::Passing(error)),
            Report::Failed { error, .. } => Err(QueryError::Worker(error)),
            Report::StopAsked => {
                self.shared.ask_to_stop();
                Ok(None)
            }
            Report::Ready
            | Report::Done(_)
            | Report::Arrived { .. }
            | Report::Stored(_)
            | Report::Nudge => Ok(Some(report)),
        }
    }

    /// The next report that is awaited.
    fn next(&self) -> Result<Report, QueryError> {
        loop {
            let report = self.receiver.recv();
            let report = report.map_err(|_| QueryError::Worker(SILENT.into()))?;
            if let Some(report) = self.hear(report)? {
                return Ok(report);
            }
        }
    }

    /// Waits until every worker has built its dataflow and restored its state: damage shows at the
    /// start, not with the first data.
    pub(super) fn ready(&self) -> Result<(), QueryError> {
        let mut ready = 0;
        while ready < self.workers {
            if let Report::Ready = self.next()? {
                ready += 1;
            }
        }
        Ok(())
    }

    /// Waits for every worker's report of an epoch; they are in the order of the workers.
    pub(super) fn done(&self, epoch: Epoch) -> Result<Vec<Done>, QueryError> {
        let mut all = vec![];
        while all.len() < self.workers {
            if let Report::Done(done) = self.next()?
                && done.epoch == epoch
            {
                all.push(*done);
            }
        }
        all.sort_by_key(|done| done.worker);
        Ok(all)
    }

    /// The next report, if one comes until `deadline`.
    pub(super) fn next_until(&self, deadline: Instant) -> Result<Option<Report>, QueryError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = match self.receiver.recv_timeout(left) {
                Ok(report) => report,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(QueryError::Worker(SILENT.into()));
                }
            };
            if let Some(report) = self.hear(report)? {
                return Ok(Some(report));
            }
        }
    }

    /// What has whoever waits for reports look up.
    pub(super) fn nudge(&self) -> Arc<dyn Fn() + Send + Sync> {
        let sender = self.sender.clone();
        Arc::new(move || {
            // One that has ended is not waiting.
            let _ = sender.send(Report::Nudge);
        })
    }

    /// Hears what has come while nothing is in flight.
    pub(super) fn listen(&self) -> Result<(), QueryError> {
        while let Ok(report) = self.receiver.try_recv() {
            self.hear(report)?;
        }
        Ok(())
    }

    /// Sleeps until `deadline`, a stop, or somebody who is in a hurry, with an ear for the workers.
    pub(super) fn sleep_until(&self, deadline: Instant) -> Result<(), QueryError> {
        loop {
            self.listen()?;
            let nap = deadline.min(Instant::now() + NAP);
            if self.shared.sleep_until(nap) || nap == deadline {
                return Ok(());
            }
        }
    }
}
