//! Partitions that are read as their records arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::Array;
use tidemark_connectors::{Follower, Split, Wake};
use timely::scheduling::SyncActivator;

use super::{Next, Reading, SourceSpec, Standing};
use crate::operators::{Context, EpochInfo, OperatorError};
use crate::row::Delta;
use crate::time::Epoch;

/// A worker takes this many bytes into an epoch; the rest waits for the next one. So what is in flight has a
/// bound, whatever waits outside.
const EPOCH_BYTES: usize = 16 << 20;

/// What has nothing to read is looked after this often: clients have events of their own to tell.
const LOOK: Duration = Duration::from_millis(100);

/// The number of the first partition that is followed: no planned split has it.
const FIRST: u32 = 1 << 31;

/// What the rows take, not what there is room for.
fn size(delta: &Delta) -> usize {
    let columns = delta.batch.columns().iter();
    columns
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_default())
        .sum()
}

/// The partitions that a worker follows.
pub(super) struct Following {
    remote: Arc<SyncActivator>,
    partitions: Vec<Reading<dyn Follower>>,
    /// What was read in the open epoch.
    bytes: usize,
    /// When the next look is due; nothing where no partition is followed.
    look: Option<Instant>,
}

impl Following {
    /// None yet. `remote` has the source operator scheduled.
    pub(super) fn new(remote: SyncActivator) -> Self {
        Self {
            remote: Arc::new(remote),
            partitions: vec![],
            bytes: 0,
            look: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Begins to follow what is to be followed from `epoch` on.
    pub(super) fn take_up(
        &mut self,
        orders: &mut VecDeque<(Epoch, u32, Split)>,
        epoch: Epoch,
        spec: &SourceSpec,
        context: &Context,
    ) -> Result<(), OperatorError> {
        while let Some((from, ..)) = orders.front()
            && *from <= epoch
            && let Some((_, number, split)) = orders.pop_front()
        {
            let remote = Arc::clone(&self.remote);
            let wake: Wake = Arc::new(move || {
                // A worker that has ended needs no waking.
                let _ = remote.activate();
            });
            let mut reader = spec.reader.follow(&split, &spec.read, wake)?;
            if context.keeps_dead_letters() {
                reader.keep_rejected();
            }
            self.partitions.push(Reading {
                partition: split.partition,
                number: FIRST + number,
                row: 0,
                reader,
                waits: None,
            });
        }
        Ok(())
    }

    /// Reads a batch of each partition that has one.
    pub(super) fn read(
        &mut self,
        epoch: &EpochInfo,
        spec: &SourceSpec,
        context: &Context,
        send: &mut impl FnMut(Delta),
    ) -> Result<Standing, OperatorError> {
        let mut more = false;
        for partition in &mut self.partitions {
            if self.bytes >= EPOCH_BYTES {
                break;
            }
            let first = partition.row;
            let Next::Rows(delta) = partition.next(epoch, spec, context)? else {
                continue;
            };
            more |= !partition.reader.waits();
            if first == 0 {
                let split = partition.reader.since();
                context.follows(epoch.epoch, spec.index, partition.number, split);
            }
            if let Some(delta) = delta {
                self.bytes += size(&delta);
                let arrived = partition.reader.arrived();
                context.arrived(epoch.epoch, arrived, delta.rows() as u64);
                send(delta);
            }
        }
        if self.bytes >= EPOCH_BYTES {
            context.epoch_full(epoch.epoch);
            return Ok(Standing::Woken);
        }
        if more {
            return Ok(Standing::More);
        }
        let now = Instant::now();
        if self.partitions.is_empty() || self.look.is_some_and(|look| now < look) {
            return Ok(Standing::Woken);
        }
        self.look = Some(now + LOOK);
        Ok(Standing::Later(LOOK))
    }

    /// Ends the epoch: what was read in it.
    pub(super) fn cut(&mut self) -> Vec<Split> {
        self.bytes = 0;
        self.partitions
            .iter_mut()
            .filter_map(|partition| {
                partition.row = 0;
                partition.reader.cut()
            })
            .collect()
    }
}
