//! Reads the splits of each epoch.
//!
//! The splits of an epoch lie in a [`SplitPool`] that the workers of a process share: each takes
//! the next when it has read its last, so that a slow split holds nobody up. Which worker reads a
//! split shows in nothing but speed.
//!
//! In continuous mode partitions are followed (`follow`) beside: their records go into the epoch that is open when
//! they arrive, and it ends when the worker is told so.

mod follow;
mod pool;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use tidemark_connectors::{Read, Rejected, SourceReader, Split, SplitReader};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::source as timely_source;
use timely::scheduling::Activator;

use crate::operators::calls::Call;
use crate::operators::context::ReadSource;
use crate::operators::dead_letter::{DeadLetter, LetterOrigin};
use crate::operators::{Context, DeltaStream, Deltas, EpochInfo, OperatorError, SourceProgress};
use crate::row::{Delta, Origin};
use crate::time::{Epoch, Time};
use follow::Following;
pub use pool::SplitPool;

/// What a source operator is made from.
pub struct SourceSpec {
    /// Its index in the plan.
    pub index: usize,
    /// As SQL calls the table.
    pub name: String,
    /// Opens splits.
    pub reader: Arc<dyn SourceReader>,
    /// The columns to read, ascending.
    pub read: Vec<usize>,
    /// How many of those (the first ones) are handed on. One more may be read for its event time.
    pub keep: Vec<usize>,
    /// The index in `read` of the event-time column.
    pub event_time: Option<usize>,
    /// The splits, shared by the workers of this process.
    pub pool: Arc<SplitPool>,
    /// How many workers this process has.
    pub local_workers: usize,
    /// Tells progress what is read. A table that a query uses twice is told of once.
    pub reports: bool,
}

/// Tells a source operator which epochs to read.
#[derive(Clone)]
pub struct SourceHandle {
    orders: Rc<RefCell<Orders>>,
    pool: Arc<SplitPool>,
    activator: Rc<RefCell<Option<Activator>>>,
}

#[derive(Default)]
struct Orders {
    open: VecDeque<Epoch>,
    /// The partitions that are followed from an epoch on, each with its number.
    follow: VecDeque<(Epoch, u32, Split)>,
    /// The last epoch that may end where partitions are followed.
    ended: Option<Epoch>,
    closed: bool,
}

impl SourceHandle {
    /// Opens an epoch with the splits that this process reads, each with its number among those of
    /// all processes. Epochs come in order.
    pub fn open(&self, epoch: Epoch, splits: &[(u32, Split)]) {
        self.pool.offer(epoch, splits);
        self.orders.borrow_mut().open.push_back(epoch);
        self.activate();
    }

    /// From `epoch` on, which is about to be opened, this worker follows a partition. Epochs stay open then
    /// until they are [ended](Self::end).
    pub fn follow(&self, epoch: Epoch, number: u32, split: Split) {
        self.orders
            .borrow_mut()
            .follow
            .push_back((epoch, number, split));
    }

    /// What arrives from now on belongs to later epochs.
    pub fn end(&self, epoch: Epoch) {
        self.orders.borrow_mut().ended = Some(epoch);
        self.activate();
    }

    /// No further epoch will be opened.
    pub fn close(&self) {
        self.orders.borrow_mut().closed = true;
        self.activate();
    }

    fn activate(&self) {
        if let Some(activator) = self.activator.borrow().as_ref() {
            activator.activate();
        }
    }
}

/// Attaches a source to a scope.
pub fn source<'scope>(
    scope: Scope<'scope, Time>,
    context: &Context,
    spec: SourceSpec,
) -> (DeltaStream<'scope>, SourceHandle) {
    let handle = SourceHandle {
        orders: Rc::default(),
        pool: Arc::clone(&spec.pool),
        activator: Rc::default(),
    };
    context.read_by(
        spec.index,
        ReadSource {
            table: spec.name.clone(),
            reader: Arc::clone(&spec.reader),
            columns: spec.read.clone(),
        },
    );
    let orders = Rc::clone(&handle.orders);
    let slot = Rc::clone(&handle.activator);
    let context = context.clone();
    let name = format!("source {}", spec.name);
    let stream = timely_source::<_, CapacityContainerBuilder<Deltas>, _, _>(
        scope,
        &name,
        move |mut capability: Capability<Time>, info| {
            let activator = scope.activator_for(Rc::clone(&info.address));
            let remote = scope.worker().sync_activator_for(info.address.to_vec());
            *slot.borrow_mut() = Some(scope.activator_for(info.address));
            capability.downgrade(&Time::opening(context.start()));
            let mut capability = Some(capability);
            let mut reading: Option<Reading> = None;
            let mut following = Following::new(remote);
            // All that was planned of the first epoch is read.
            let mut planned = false;
            move |output| {
                let Some(held) = capability.as_mut() else {
                    return;
                };
                let epoch = orders.borrow().open.front().copied();
                let Some(epoch) = epoch else {
                    if orders.borrow().closed {
                        capability = None;
                    }
                    return;
                };
                if context.failed() {
                    return;
                }
                let Some(info) = context.epoch(epoch) else {
                    return;
                };
                let mut send = |delta: Delta| {
                    let time = held.delayed(&info.time());
                    output.session(&time).give_container(&mut delta.into());
                };
                let given = if planned {
                    following.read(&info, &spec, &context, &mut send)
                } else if let Some(split) = reading.as_mut() {
                    split.give(&info, &spec, &context, &mut send)
                } else {
                    let claimed = spec.pool.claim(epoch, spec.local_workers);
                    let begun = if let Some((number, split)) = claimed {
                        let opened = Reading::open(number, &split, &spec, &context);
                        opened.map(|opened| reading = Some(opened))
                    } else {
                        planned = true;
                        following.take_up(&mut orders.borrow_mut().follow, epoch, &spec, &context)
                    };
                    begun.map(|()| Standing::More)
                };
                match given {
                    Ok(Standing::More) => activator.activate(),
                    Ok(Standing::Later(wait)) => activator.activate_after(wait),
                    Ok(Standing::Woken) => {}
                    Ok(Standing::End) => {
                        reading = None;
                        activator.activate();
                    }
                    Err(error) => return context.fail(error),
                }
                let ended = orders.borrow().ended.is_some_and(|ended| epoch <= ended);
                if planned && (ended || following.is_empty()) {
                    let splits = following.cut();
                    if !splits.is_empty() {
                        context.followed(epoch, spec.index, splits);
                    }
                    orders.borrow_mut().open.pop_front();
                    planned = false;
                    held.downgrade(&Time::opening(epoch + 1));
                    activator.activate();
                }
            }
        },
    );
    (stream, handle)
}

/// What is to be expected of something that was read from.
enum Standing {
    /// There is more.
    More,
    /// Ask again after this time.
    Later(Duration),
    /// Somebody tells when there is more.
    Woken,
    /// There is no more.
    End,
}

/// A split that is being read, or a partition that is being followed.
struct Reading<R: ?Sized = dyn SplitReader> {
    partition: Arc<str>,
    number: u32,
    /// How many rows it has given.
    row: u64,
    reader: Box<R>,
    /// What is there to read has not come.
    waits: Option<Call>,
}

impl Reading {
    fn open(
        number: u32,
        split: &Split,
        spec: &SourceSpec,
        context: &Context,
    ) -> Result<Self, OperatorError> {
        let mut reader = spec.reader.open(split, &spec.read)?;
        if context.keeps_dead_letters() {
            reader.keep_rejected();
        }
        Ok(Self {
            partition: Arc::clone(&split.partition),
            number,
            row: 0,
            reader,
            waits: None,
        })
    }

    /// Reads a batch.
    fn give(
        &mut self,
        epoch: &EpochInfo,
        spec: &SourceSpec,
        context: &Context,
        send: &mut impl FnMut(Delta),
    ) -> Result<Standing, OperatorError> {
        let next = self.next(epoch, spec, context)?;
        if matches!(next, Next::Pending) {
            let begin = || context.outside().sources.begin();
            self.waits.get_or_insert_with(begin);
        } else {
            self.waits = None;
        }
        Ok(match next {
            Next::Rows(delta) => {
                if let Some(delta) = delta {
                    send(delta);
                }
                Standing::More
            }
            Next::Pending => Standing::Later(Duration::from_millis(1)),
            Next::End => Standing::End,
        })
    }
}

/// What came of reading.
enum Next {
    /// A batch, unless nothing of it is left.
    Rows(Option<Delta>),
    Pending,
    End,
}

impl<R: SplitReader + ?Sized> Reading<R> {
    /// Reads a batch and tells of it.
    fn next(
        &mut self,
        epoch: &EpochInfo,
        spec: &SourceSpec,
        context: &Context,
    ) -> Result<Next, OperatorError> {
        let read = self.reader.read();
        for rejected in self.reader.rejected() {
            let letter = self.letter(spec.index, rejected);
            context.dead_letter(epoch.epoch, letter)?;
        }
        let (batch, dropped) = match read? {
            Read::Batch { batch, dropped } => (batch, dropped),
            Read::Pending => return Ok(Next::Pending),
            Read::End => return Ok(Next::End),
        };
        if spec.reports {
            let progress = measure(&batch, dropped, spec.event_time);
            context.report_source(epoch.epoch, spec.index, &self.partition, &progress);
        }
        let kept = batch
            .project(&spec.keep)
            .map_err(|error| OperatorError::Internal {
                operator: spec.index,
                reason: error.to_string(),
            })?;
        if kept.num_rows() == 0 {
            return Ok(Next::Rows(None));
        }
        let partition = Arc::clone(&self.partition);
        let row = self.row;
        self.row += kept.num_rows() as u64;
        let rows = kept.num_rows();
        let mut delta = Delta::inserts(kept, epoch.time());
        if self.reader.retracts() {
            delta.diffs = Some(vec![-1; rows].into());
        }
        delta.origin = Some(Origin::contiguous(spec.index, partition, self.number, row));
        Ok(Next::Rows(Some(delta)))
    }

    /// A record that could not be decoded.
    fn letter(&self, source: usize, rejected: Rejected) -> DeadLetter {
        DeadLetter {
            origin: Some(LetterOrigin {
                source,
                partition: self.partition.to_string(),
                split: self.number,
                row: rejected.row,
                place: Some(rejected.place),
            }),
            row: None,
            reason: rejected.reason,
        }
    }
}

fn measure(batch: &RecordBatch, dropped: u64, event_time: Option<usize>) -> SourceProgress {
    let mut progress = SourceProgress {
        rows: batch.num_rows() as u64,
        dropped,
        ..SourceProgress::default()
    };
    let times = event_time.and_then(|column| {
        batch
            .column(column)
            .as_primitive_opt::<TimestampMicrosecondType>()
    });
    if let Some(times) = times {
        progress.timed_rows = (times.len() - times.null_count()) as u64;
        progress.min = min(times);
        progress.max = max(times);
        progress.sum = times.iter().flatten().map(i128::from).sum();
    }
    progress
}
