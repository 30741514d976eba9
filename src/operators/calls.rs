//! Which calls to the outside have not come back: a sink that stops, or a source that does not answer, is seen
//! while it does so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The calls of a process on behalf of one query.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// To its sink: rows to take, to make durable, to commit.
    pub sink: Arc<Calls>,
    /// To its sources, for rows that are known to be there.
    pub sources: Arc<Calls>,
}

/// Calls of one kind.
#[derive(Debug, Default)]
pub struct Calls(Mutex<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    /// When those began that are under way.
    since: BTreeMap<u64, Instant>,
}

/// A call: it is under way until this is dropped.
#[derive(Debug)]
pub struct Call {
    calls: Arc<Calls>,
    number: u64,
}

impl Calls {
    /// A call begins.
    pub fn begin(self: &Arc<Self>) -> Call {
        let mut calls = self.lock();
        let number = calls.next;
        calls.next += 1;
        calls.since.insert(number, Instant::now());
        Call {
            calls: Arc::clone(self),
            number,
        }
    }

    /// For how long the oldest call has been under way.
    pub fn longest(&self) -> Option<Duration> {
        let calls = self.lock();
        let oldest = calls.since.first_key_value();
        oldest.map(|(_, since)| since.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.lock().since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_call_counts_until_it_comes_back() {
        let calls = Arc::<Calls>::default();
        assert_eq!(calls.longest(), None);
        let first = calls.begin();
        std::thread::sleep(Duration::from_millis(5));
        let second = calls.begin();
        let longest = calls.longest().expect("two are under way");
        assert!(longest >= Duration::from_millis(5));
        drop(first);
        assert!(calls.longest().expect("one is under way") < longest);
        drop(second);
        assert_eq!(calls.longest(), None);
    }
}
