//! Whether the workers of a query are all still there, those of other processes too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is to be done about a lost process.
type Listener = Box<dyn Fn(&str) + Send>;

/// Whole until a worker panics or a process is lost; after that nothing that travels counts.
#[derive(Default)]
pub struct Link {
    broken: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    listener: Option<Listener>,
    /// What was lost before anybody listened.
    early: Option<String>,
}

impl Link {
    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// Breaks it.
    pub fn cut(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// Breaks it, and tells why if it was whole.
    pub(super) fn lose(&self, reason: &str) {
        if self.broken.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match &told.listener {
            Some(listener) => listener(reason),
            None => told.early = Some(reason.to_owned()),
        }
    }

    /// Calls `listener` with what is lost, at once where something is lost already.
    pub fn listen(&self, listener: impl Fn(&str) + Send + 'static) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = told.early.take() {
            listener(&reason);
        }
        told.listener = Some(Box::new(listener));
    }
}
