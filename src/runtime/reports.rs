//! The sequencer's ear: what the workers report.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::QueryError;
use crate::runtime::control::{Done, Report};
use crate::runtime::query::Shared;
use crate::time::Epoch;

/// A sequencer that waits for its trigger looks for reports this often.
const NAP: Duration = Duration::from_millis(200);

/// Where reports wait until the sequencer hears them.
#[derive(Default)]
pub struct Mailbox {
    state: Mutex<Waiting>,
    called: Condvar,
}

#[derive(Default)]
struct Waiting {
    reports: VecDeque<Report>,
    /// The sequencer's thread is to look.
    called: bool,
}

impl Mailbox {
    /// Adds a report, and wakes the sequencer's thread.
    pub fn send(&self, report: Report) {
        self.leave(report);
        self.call();
    }

    /// Adds a report and wakes nobody: whoever leaves it sees to it that it is heard.
    pub fn leave(&self, report: Report) {
        self.lock().reports.push_back(report);
    }

    /// Wakes the sequencer's thread.
    pub fn call(&self) {
        self.lock().called = true;
        self.called.notify_one();
    }

    /// Waits until the sequencer's thread is called, or `deadline`.
    pub(super) fn wait(&self, deadline: Option<Instant>) {
        let mut state = self.lock();
        while !std::mem::take(&mut state.called) {
            state = match deadline {
                None => self
                    .called
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    let woken = self.called.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn take(&self) -> Option<Report> {
        self.lock().reports.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(crate) struct Reports {
    mailbox: Arc<Mailbox>,
    workers: usize,
    local_workers: usize,
    shared: Arc<Shared>,
}

impl Reports {
    /// Of this many workers, the first of which are this process's.
    pub(super) fn new(
        mailbox: Arc<Mailbox>,
        (workers, local_workers): (usize, usize),
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            mailbox,
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
            if let Some(report) = self.heard()? {
                return Ok(report);
            }
            self.mailbox.wait(None);
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

    /// The next report, if one is there.
    pub(super) fn heard(&self) -> Result<Option<Report>, QueryError> {
        while let Some(report) = self.mailbox.take() {
            if let Some(report) = self.hear(report)? {
                return Ok(Some(report));
            }
        }
        Ok(None)
    }

    /// Where they wait.
    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// What has the sequencer's thread look up.
    pub(super) fn nudge(&self) -> Arc<dyn Fn() + Send + Sync> {
        let mailbox = self.mailbox();
        Arc::new(move || mailbox.send(Report::Nudge))
    }

    /// Hears what has come while nothing is in flight.
    pub(super) fn listen(&self) -> Result<(), QueryError> {
        while self.heard()?.is_some() {}
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
