//! SIGINT and SIGTERM: the first asks, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::Failure;

/// Set once the user has asked to stop.
pub(super) fn on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            // As a shell reports a process that a signal has ended.
            std::process::exit(130);
        }
        eprintln!("stopping after the epoch in flight; a second signal ends at once");
    })
    .map_err(|error| Failure::query(format!("cannot listen for signals: {error}")))?;
    Ok(asked)
}
