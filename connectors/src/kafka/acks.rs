//! Which records have arrived.
//!
//! A record is sent under the number of its epoch; an epoch has arrived when all of its records and those of
//! earlier ones have. One that the brokers refuse counts as arrived here: it is told of as an error.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sink::Acknowledged;

/// The opaque number of records that are not counted.
pub(crate) const UNCOUNTED: usize = 0;

/// See the module.
#[derive(Default)]
pub(crate) struct Acks(Mutex<Pending>);

#[derive(Default)]
struct Pending {
    /// How many records of an epoch are under way.
    records: BTreeMap<usize, u64>,
    /// Whom to tell that an epoch has arrived.
    waiting: Vec<(usize, Acknowledged)>,
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = &self.lock().records;
        f.debug_struct("Acks")
            .field("records", records)
            .finish_non_exhaustive()
    }
}

impl Acks {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record of an epoch is about to be sent: what it is sent with.
    pub(crate) fn send(&self, epoch: u64) -> usize {
        let number = number(epoch);
        *self.lock().records.entry(number).or_default() += 1;
        number
    }

    /// What was sent with this number is over, or was not sent after all.
    pub(crate) fn arrived(&self, number: usize) {
        if number == UNCOUNTED {
            return;
        }
        let mut pending = self.lock();
        if let Some(records) = pending.records.get_mut(&number) {
            *records -= 1;
            if *records == 0 {
                pending.records.remove(&number);
            }
        }
        let first = pending.records.keys().next().copied();
        let done: Vec<(usize, Acknowledged)> = pending
            .waiting
            .extract_if(.., |(upto, _)| first.is_none_or(|first| *upto < first))
            .collect();
        drop(pending);
        done.into_iter().for_each(|(_, then)| then());
    }

    /// Whether an epoch has arrived, and all before it.
    pub(crate) fn has_arrived(&self, epoch: u64) -> bool {
        let first = self.lock().records.keys().next().copied();
        first.is_none_or(|first| number(epoch) < first)
    }

    /// Calls `then` once an epoch has arrived, and all before it.
    pub(crate) fn when_arrived(&self, epoch: u64, then: Acknowledged) {
        let mut pending = self.lock();
        let first = pending.records.keys().next().copied();
        if first.is_none_or(|first| number(epoch) < first) {
            drop(pending);
            then();
        } else {
            pending.waiting.push((number(epoch), then));
        }
    }
}

fn number(epoch: u64) -> usize {
    usize::try_from(epoch).map_or(usize::MAX, |epoch| epoch.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn an_epoch_has_arrived_with_all_before_it() {
        let acks = Acks::default();
        let (old, new) = (acks.send(3), acks.send(4));
        let told = Arc::new(AtomicU64::new(0));
        for epoch in [3, 4] {
            let told = Arc::clone(&told);
            acks.when_arrived(
                epoch,
                Box::new(move || _ = told.fetch_add(epoch, Ordering::SeqCst)),
            );
        }
        acks.arrived(new);
        acks.arrived(UNCOUNTED);
        assert!(!acks.has_arrived(3) && !acks.has_arrived(4) && acks.has_arrived(2));
        assert_eq!(told.load(Ordering::SeqCst), 0);
        acks.arrived(old);
        assert!(acks.has_arrived(4));
        assert_eq!(told.load(Ordering::SeqCst), 7);
    }
}
