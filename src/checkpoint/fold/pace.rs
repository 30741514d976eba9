//! Folding gives way: to the epochs that run beside it, and to a query that ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};

/// What the thread that folds is told meanwhile.
#[derive(Debug, Default)]
pub(in crate::checkpoint) struct Wishes {
    /// Nobody wants what it makes.
    pub(super) stop: AtomicBool,
    /// Somebody waits for it.
    pub(super) hurry: AtomicBool,
}

/// Below that of the workers: they go first wherever they have something to do, and a tenth of a processor is
/// left where they always have. 0 to 99 goes from the lowest to the highest there is: this is a niceness of 10.
const PRIORITY: u8 = 24;

/// Gives the present thread a low priority, where the system lets it, and then sleeps as long as it works; else
/// three times as long, so that it takes half, or a quarter, of a processor at most: the slower it is, the fewer
/// folds there are.
#[derive(Debug)]
pub(in crate::checkpoint) struct Pace {
    wishes: Arc<Wishes>,
    rest: u32,
    /// When it began to work.
    since: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(wishes: &Arc<Wishes>) -> Self {
        let priority = ThreadPriorityValue::try_from(PRIORITY).map(ThreadPriority::Crossplatform);
        let gentle = priority.is_ok_and(|priority| set_current_thread_priority(priority).is_ok());
        Self {
            wishes: Arc::clone(wishes),
            rest: if gentle { 1 } else { 3 },
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
        let mut owed = worked * self.rest;
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
