//! Folding gives way: to the epochs that run beside it, and to a query that ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the thread that folds is told meanwhile.
#[derive(Debug, Default)]
pub(in crate::checkpoint) struct Wishes {
    /// Nobody wants what it makes.
    pub(super) stop: AtomicBool,
    /// Somebody waits for it.
    pub(super) hurry: AtomicBool,
}

const REST: u32 = 3;

/// Sleeps [`REST`] times as long as it works, so that folding takes a quarter of a processor at most: the
/// slower it is, the fewer folds there are.
#[derive(Debug)]
pub(in crate::checkpoint) struct Pace {
    wishes: Arc<Wishes>,
    /// When it began to work.
    since: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(wishes: &Arc<Wishes>) -> Self {
        Self {
            wishes: Arc::clone(wishes),
            since: Mutex::new(Instant::now()),
        }
    }

    /// To be called at least every few milliseconds. An error if nobody wants what is made.
    pub(in crate::checkpoint) fn pause(&self) -> io::Result<()> {
        /// Work that is not worth a rest.
        const SHORT: Duration = Duration::from_micros(500);
        /// To sleep, and to see within this time that one should not.
        const NAP: Duration = Duration::from_millis(20);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let worked = since.elapsed();
        if worked < SHORT {
            return Ok(());
        }
        let mut owed = worked * REST;
        while !owed.is_zero() && !self.wishes.hurry.load(Ordering::Relaxed) {
            if self.wishes.stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(owed.min(NAP));
            owed = owed.saturating_sub(NAP);
        }
        *since = Instant::now();
        if self.wishes.stop.load(Ordering::Relaxed) {
            Err(io::Error::other("the query is stopping"))
        } else {
            Ok(())
        }
    }
}
