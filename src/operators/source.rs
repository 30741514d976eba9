//! Reads the splits of each epoch.
//!
//! The splits of an epoch lie in a [`SplitPool`] that the workers of a process share: each takes
//! the next when it has read its last, so that a slow split holds nobody up. Which worker reads a
//! split shows in nothing but speed.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use tidemark_connectors::{Read, Rejected, SourceReader, Split, SplitReader};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::source as timely_source;
use timely::scheduling::Activator;

use crate::operators::context::ReadSource;
use crate::operators::dead_letter::{DeadLetter, LetterOrigin};
use crate::operators::{Context, DeltaStream, Deltas, SourceProgress};
use crate::row::{Delta, Origin};
use crate::time::{Epoch, Time};

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
    fn offer(&self, epoch: Epoch, splits: &[(u32, Split)]) {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.entry(epoch).or_insert_with(|| PooledEpoch {
            splits: splits.iter().cloned().collect(),
            finished: 0,
        });
    }

    fn claim(&self, epoch: Epoch, workers: usize) -> Option<(u32, Split)> {
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

/// Reads what the handle is told to.
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
            *slot.borrow_mut() = Some(scope.activator_for(info.address));
            capability.downgrade(&Time::opening(context.start()));
            let mut capability = Some(capability);
            let mut reading: Option<Reading> = None;
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
                if reading.is_none() {
                    let Some((number, split)) = spec.pool.claim(epoch, spec.local_workers) else {
                        orders.borrow_mut().open.pop_front();
                        held.downgrade(&Time::opening(epoch + 1));
                        activator.activate();
                        return;
                    };
                    match spec.reader.open(&split, &spec.read) {
                        Ok(mut reader) => {
                            if context.keeps_dead_letters() {
                                reader.keep_rejected();
                            }
                            reading = Some(Reading {
                                partition: split.partition,
                                number,
                                row: 0,
                                reader,
                            });
                        }
                        Err(error) => return context.fail(error),
                    }
                }
                let Some(split) = reading.as_mut() else {
                    return;
                };
                let read = split.reader.read();
                for rejected in split.reader.rejected() {
                    let letter = split.letter(spec.index, rejected);
                    if let Err(error) = context.dead_letter(epoch, letter) {
                        return context.fail(error);
                    }
                }
                match read {
                    Ok(Read::Batch { batch, dropped }) => {
                        if spec.reports {
                            let progress = measure(&batch, dropped, spec.event_time);
                            context.report_source(epoch, spec.index, &split.partition, &progress);
                        }
                        let kept = match batch.project(&spec.keep) {
                            Ok(kept) => kept,
                            Err(error) => {
                                return context.fail(crate::operators::OperatorError::Internal {
                                    operator: spec.index,
                                    reason: error.to_string(),
                                });
                            }
                        };
                        if kept.num_rows() > 0 {
                            let partition = Arc::clone(&split.partition);
                            let row = split.row;
                            split.row += kept.num_rows() as u64;
                            let mut delta = Delta::inserts(kept, info.time());
                            delta.origin =
                                Some(Origin::contiguous(spec.index, partition, split.number, row));
                            let time = held.delayed(&info.time());
                            output.session(&time).give_container(&mut delta.into());
                        }
                    }
                    Ok(Read::Pending) => {
                        activator.activate_after(std::time::Duration::from_millis(1));
                        return;
                    }
                    Ok(Read::End) => reading = None,
                    Err(error) => return context.fail(error),
                }
                activator.activate();
            }
        },
    );
    (stream, handle)
}

/// A split that is being read.
struct Reading {
    partition: Arc<str>,
    number: u32,
    /// How many rows it has given.
    row: u64,
    reader: Box<dyn SplitReader>,
}

impl Reading {
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
