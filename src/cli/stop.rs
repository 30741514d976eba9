//! SIGINT and SIGTERM: the first asks, the second ends at once.
//!
//! In the shell the first asks the statement that runs, and the count begins again with the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::{Failure, say};
use crate::session::Session;

/// Set once the user has asked to stop; queries of `session` then wait for no other process.
pub(super) fn on_signal(session: &Session) -> Result<Arc<AtomicBool>, Failure> {
    let asked = Arc::new(AtomicBool::new(false));
    let (seen, session) = (Arc::clone(&asked), session.clone());
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            // As a shell reports a process that a signal has ended.
            std::process::exit(130);
        }
        say("stopping after the epoch in flight; a second signal ends at once");
        session.stop_waiting();
    })
    .map_err(|error| Failure::query(format!("cannot listen for signals: {error}")))?;
    Ok(asked)
}

/// What signals mean in the shell.
#[derive(Default)]
pub(super) struct Interrupt {
    /// The user has asked the running statement to end.
    asked: AtomicBool,
    /// Nothing runs but queries in the background.
    at_prompt: AtomicBool,
}

impl Interrupt {
    /// Listens. At the prompt a signal ends the queries of `session` and then the process: the
    /// terminal's own Ctrl-C is a key there, not a signal.
    pub(super) fn listen(session: &Session) -> Result<Arc<Self>, Failure> {
        let interrupt = Arc::new(Self::default());
        let (seen, session) = (Arc::clone(&interrupt), session.clone());
        ctrlc::set_handler(move || {
            if seen.at_prompt.load(Ordering::SeqCst) {
                let running = session.streams().active();
                running.iter().for_each(|query| query.request_stop());
                running.iter().for_each(|query| drop(query.stop()));
                std::process::exit(0);
            }
            if seen.asked.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .map_err(|error| Failure::query(format!("cannot listen for signals: {error}")))?;
        Ok(interrupt)
    }

    /// Whether the user has asked the running statement to end.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// What was asked is done.
    pub(super) fn forget(&self) {
        self.asked.store(false, Ordering::SeqCst);
    }

    /// The prompt waits, or no longer.
    pub(super) fn set_at_prompt(&self, waits: bool) {
        self.at_prompt.store(waits, Ordering::SeqCst);
    }
}
