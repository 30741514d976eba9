//! Where the sequencer is found: by its own thread, and by the first worker.
//!
//! A tick of a continuous query is a handful of records, and to hand it to another thread and back costs more than
//! to decide it. So the first worker decides ticks on its own thread ([`Seat::attend`]) while the sequencer's has nothing
//! to do. All that may wait for somebody outside is left to the sequencer's: what a source is asked for, a sink that
//! commits, what is told of a commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ticks::{Heard, Ticks};
use super::{Beginning, Sequencer};
use crate::runtime::QueryError;
use crate::runtime::reports::Mailbox;

/// See the module.
pub struct Seat {
    mailbox: Arc<Mailbox>,
    seated: Mutex<Seated>,
}

struct Seated {
    sequencer: Sequencer,
    /// While it runs ticks.
    ticks: Option<Ticks>,
    /// What went wrong on the first worker's thread.
    failed: Option<QueryError>,
}

impl Seat {
    pub(crate) fn new(sequencer: Sequencer) -> Self {
        Self {
            mailbox: sequencer.reports.mailbox(),
            seated: Mutex::new(Seated {
                sequencer,
                ticks: None,
                failed: None,
            }),
        }
    }

    /// Runs to the end of a bounded trigger, a stop or a failure.
    pub(crate) fn run(&self, beginning: Beginning) -> Result<(), QueryError> {
        let interval = self.lock().sequencer.run(beginning)?;
        let Some(interval) = interval else {
            return Ok(());
        };
        self.lock().begin(interval)?;
        let ran = loop {
            // Not in the condition: the seat is free while its thread waits.
            let until = self.lock().turn();
            match until {
                Ok(Some(until)) => self.mailbox.wait(Some(until)),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let ended = self.lock().end();
        ran.and(ended)
    }

    /// Says something with the next epoch.
    pub(crate) fn warn(&self, warning: String) {
        self.lock().sequencer.warn(warning);
    }

    /// Ends the workers, whatever they do. `again`: after what time the query starts again, if it does.
    pub(crate) fn stop_workers(&self, cause: Option<String>, again: Option<Duration>) {
        self.lock().sequencer.stop_workers(cause, again);
    }

    /// Has what was reported heard: on the caller's thread if it can be and the sequencer's is not at it. When the
    /// caller is to ask again.
    pub(crate) fn attend(&self) -> Option<Instant> {
        let heard = match self.seated.try_lock() {
            Ok(mut seated) => seated.attend(),
            Err(_) => Heard::Calls,
        };
        match heard {
            Heard::All(due) => due,
            Heard::Calls => {
                self.mailbox.call();
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seated> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seated {
    fn begin(&mut self, interval: Duration) -> Result<(), QueryError> {
        self.ticks = Some(Ticks::start(&mut self.sequencer, interval)?);
        Ok(())
    }

    /// Does all that is to be done; until when there is no more if nobody says anything, nothing where ticks have ended.
    fn turn(&mut self) -> Result<Option<Instant>, QueryError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        match &mut self.ticks {
            Some(ticks) => ticks.turn(&mut self.sequencer),
            None => Ok(None),
        }
    }

    fn attend(&mut self) -> Heard {
        let Some(ticks) = self.ticks.as_mut().filter(|_| self.failed.is_none()) else {
            return Heard::Calls;
        };
        ticks.attend(&mut self.sequencer).unwrap_or_else(|error| {
            self.failed = Some(error);
            Heard::Calls
        })
    }

    fn end(&mut self) -> Result<(), QueryError> {
        let ticks = self.ticks.take();
        ticks.map_or(Ok(()), |ticks| ticks.end(&mut self.sequencer))
    }
}
