//! Folding gives way: to the epochs that run beside it, and to a query that ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    since: Instant,
}

impl Pace {
    pub(super) fn new(wishes: &Arc<Wishes>) -> Self {
        Self {
            wishes: Arc::clone(wishes),
            since: Instant::now(),
        }
    }

    /// To be called every few milliseconds. An error if nobody wants what is made.
    pub(in crate::checkpoint) fn pause(&mut self) -> io::Result<()> {
        /// To sleep, and to see within this time that one should not.
        const NAP: Duration = Duration::from_millis(20);
        let mut owed = self.since.elapsed() * REST;
        while !owed.is_zero() && !self.wishes.hurry.load(Ordering::Relaxed) {
            if self.wishes.stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(owed.min(NAP));
            owed = owed.saturating_sub(NAP);
        }
        self.since = Instant::now();
        if self.wishes.stop.load(Ordering::Relaxed) {
            Err(io::Error::other("the query is stopping"))
        } else {
            Ok(())
        }
    }
}
