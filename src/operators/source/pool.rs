//! Splits that are waiting to be read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tidemark_connectors::Split;

use crate::time::Epoch;

/// The splits of the open epochs of one source, shared by the workers of a process.
#[derive(Debug, Default)]
pub struct SplitPool {
    epochs: Mutex<BTreeMap<Epoch, PooledEpoch>>,
}

#[derive(Debug)]
struct PooledEpoch {
    /// With their numbers among those of the epoch, in all processes.
    splits: VecDeque<(u32, Split)>,
    finished: usize,
}

impl SplitPool {
    pub(super) fn offer(&self, epoch: Epoch, splits: &[(u32, Split)]) {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.entry(epoch).or_insert_with(|| PooledEpoch {
            splits: splits.iter().cloned().collect(),
            finished: 0,
        });
    }

    pub(super) fn claim(&self, epoch: Epoch, workers: usize) -> Option<(u32, Split)> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let pooled = epochs.get_mut(&epoch)?;
        let split = pooled.splits.pop_front();
        if split.is_none() {
            pooled.finished += 1;
            if pooled.finished == workers {
                epochs.remove(&epoch);
            }
        }
        split
    }
}
