//! A stream beside a table that is all there from the start: each worker has the whole table in memory, and looks
//! up the rows of the stream where they are, as they come.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take};
use hashbrown::HashTable;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::frontier::MutableAntichain;

use crate::operators::container::{BatchRoute, copies};
use crate::operators::dead_letter::sift;
use crate::operators::expression::record_batch;
use crate::operators::join::{BATCH, Prepared};
use crate::operators::{Context, DeltaStream, Deltas, EpochInfo, OperatorError};
use crate::plan::JoinKind;
use crate::plan::join::LEFT;
use crate::row::{Bytes, Delta, hash};
use crate::time::{Epoch, Time};

/// Stands for the row of nulls beside a row without a match.
const NO_ROW: Option<u32> = None;

/// The table, by key.
struct Table {
    prepared: Arc<Prepared>,
    side: usize,
    /// What has come and is not in `rows` yet.
    parts: Vec<RecordBatch>,
    rows: RecordBatch,
    /// How often each row is there, parts included.
    counts: Vec<i64>,
    /// Each key once, with its rows.
    keys: Bytes,
    of_key: Vec<Vec<u32>>,
    index: HashTable<u32>,
}

impl Table {
    fn new(prepared: &Arc<Prepared>, side: usize) -> Self {
        Self {
            prepared: Arc::clone(prepared),
            side,
            parts: Vec::new(),
            rows: RecordBatch::new_empty(Arc::clone(&prepared.sides[side].schema)),
            counts: Vec::new(),
            keys: Bytes::default(),
            of_key: Vec::new(),
            index: HashTable::new(),
        }
    }

    fn key(&self, key: &[u8]) -> Option<usize> {
        let found = self
            .index
            .find(hash(key), |at| self.keys.get(*at as usize) == key);
        found.map(|at| *at as usize)
    }

    /// Takes in rows that came or went.
    fn change(&mut self, delta: &Delta, keys: Option<&Bytes>) -> Result<(), OperatorError> {
        let first = self.counts.len();
        for row in 0..delta.rows() {
            let key = keys.map_or(&[][..], |keys| keys.get(row));
            let at = if let Some(at) = self.key(key) {
                at
            } else {
                let at = self.keys.len();
                (self.keys.try_push(key)).map_err(|source| self.prepared.row_error(source))?;
                let keys = &self.keys;
                self.index
                    .insert_unique(hash(key), at as u32, |at| hash(keys.get(*at as usize)));
                self.of_key.push(Vec::new());
                at
            };
            self.of_key[at].push((first + row) as u32);
            self.counts.push(delta.diff(row));
        }
        self.parts.push(delta.batch.clone());
        Ok(())
    }

    /// Makes one of what has come, and adds up rows that are equal where some have gone.
    fn settle(&mut self) -> Result<(), OperatorError> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let parts = std::iter::once(&self.rows).chain(&self.parts);
        self.rows = concat_batches(self.rows.schema_ref(), parts)
            .map_err(|error| self.prepared.arrow_error(&error))?;
        self.parts.clear();
        if self.counts.iter().all(|count| *count >= 0) {
            return Ok(());
        }
        let rows = self.prepared.sides[self.side]
            .rows
            .encode(self.rows.columns());
        let rows = rows.map_err(|source| self.prepared.row_error(source))?;
        for of_key in &mut self.of_key {
            of_key.sort_by_key(|row| rows.get(*row as usize));
            for same in of_key.chunk_by(|a, b| rows.get(*a as usize) == rows.get(*b as usize)) {
                let count = same.iter().map(|row| self.counts[*row as usize]).sum();
                for row in same {
                    self.counts[*row as usize] = 0;
                }
                self.counts[same[0] as usize] = count;
            }
            of_key.retain(|row| self.counts[*row as usize] != 0);
        }
        Ok(())
    }
}

/// The rows of a batch of the stream, with what they meet.
struct Probe<'a> {
    prepared: &'a Prepared,
    /// Of the stream.
    side: usize,
    delta: &'a Delta,
    epoch: &'a EpochInfo,
    table: &'a Table,
    /// The condition is asked of pairs; not of rows without a match and the nulls beside them.
    asks: bool,
    matched: Vec<bool>,
    /// Pairs that wait: the row of the batch, and that of the table.
    ours: Vec<u32>,
    theirs: Vec<Option<u32>>,
    given: Vec<Delta>,
}

impl Probe<'_> {
    fn pair(&mut self, row: usize, of_table: Option<u32>) -> Result<(), OperatorError> {
        self.ours.push(row as u32);
        self.theirs.push(of_table);
        if self.ours.len() == BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// The columns of the pairs that wait, the left input's first.
    fn columns(&mut self) -> Result<Vec<ArrayRef>, OperatorError> {
        let failed = |error| self.prepared.arrow_error(&error);
        let ours = UInt32Array::from(std::mem::take(&mut self.ours));
        let theirs = UInt32Array::from(std::mem::take(&mut self.theirs));
        let take_all = |batch: &RecordBatch, rows: &UInt32Array| -> Result<Vec<ArrayRef>, _> {
            (batch.columns().iter())
                .map(|column| take(column, rows, None).map_err(failed))
                .collect()
        };
        // Where each row met one row there is nothing to move.
        let all = ours.len() == self.delta.rows();
        let mut ours = if all && (0..).zip(ours.values()).all(|(at, row)| at == *row) {
            self.delta.batch.columns().to_vec()
        } else {
            take_all(&self.delta.batch, &ours)?
        };
        let mut theirs = if self.table.rows.num_rows() == 0 {
            let types = self.prepared.sides[1 - self.side].rows.types().iter();
            types.map(|of| new_null_array(of, theirs.len())).collect()
        } else {
            take_all(&self.table.rows, &theirs)?
        };
        Ok(if self.side == LEFT {
            ours.append(&mut theirs);
            ours
        } else {
            theirs.append(&mut ours);
            theirs
        })
    }

    fn diffs(&self) -> Vec<i64> {
        (self.ours.iter().zip(&self.theirs))
            .map(|(ours, theirs)| {
                let times = theirs.map_or(1, |row| self.table.counts[row as usize]);
                self.delta.diff(*ours as usize) * times
            })
            .collect()
    }

    /// Gives the pairs that wait and match.
    fn flush(&mut self) -> Result<(), OperatorError> {
        let count = self.ours.len();
        if count == 0 {
            return Ok(());
        }
        let gives = self.prepared.kind.gives_pairs();
        let mut diffs = self.diffs();
        let rows = self.ours.clone();
        let asks = self.asks && self.prepared.filter.is_some();
        let mut columns = if gives || asks {
            self.columns()?
        } else {
            self.ours.clear();
            self.theirs.clear();
            vec![]
        };
        let mut matches = None;
        if asks {
            matches = self.prepared.matches(&columns, count, self.epoch)?;
        }
        let holds = |pair: usize| matches.as_ref().is_none_or(|matches| matches.value(pair));
        if self.asks {
            for (pair, row) in rows.iter().enumerate() {
                self.matched[*row as usize] |= holds(pair);
            }
        }
        if !gives {
            return Ok(());
        }
        if let Some(matches) = &matches {
            self.prepared.keep(&mut columns, &mut diffs, matches)?;
        }
        if diffs.is_empty() {
            return Ok(());
        }
        let batch = record_batch(&self.prepared.schema, columns, diffs.len())?;
        let once = diffs.iter().all(|diff| *diff == 1);
        self.given.push(Delta {
            batch,
            diffs: (!once).then(|| diffs.into()),
            origin: None,
            time: self.delta.time,
        });
        Ok(())
    }

    /// What is given of each row by itself.
    fn singles(&mut self) -> Result<(), OperatorError> {
        let kept = match self.prepared.kind {
            JoinKind::Inner => return Ok(()),
            JoinKind::Outer(preserved) => {
                self.asks = false;
                for row in 0..self.matched.len() {
                    if preserved[self.side] && !self.matched[row] {
                        self.pair(row, NO_ROW)?;
                    }
                }
                return self.flush();
            }
            JoinKind::Semi(_) => BooleanArray::from(self.matched.clone()),
            JoinKind::Anti(_) => self.matched.iter().map(|matched| Some(!matched)).collect(),
            JoinKind::Mark(_) => {
                let mut columns = self.delta.batch.columns().to_vec();
                columns.push(Arc::new(BooleanArray::from(self.matched.clone())));
                let batch = record_batch(&self.prepared.schema, columns, self.delta.rows())?;
                self.given.push(Delta {
                    batch,
                    ..self.delta.clone()
                });
                return Ok(());
            }
        };
        let kept = self
            .delta
            .filter(&kept)
            .map_err(|error| self.prepared.arrow_error(&error))?;
        if kept.rows() > 0 {
            let columns = kept.batch.columns().to_vec();
            let batch = record_batch(&self.prepared.schema, columns, kept.rows())?;
            self.given.push(Delta { batch, ..kept });
        }
        Ok(())
    }
}

/// What the rows of a batch of the stream give.
fn probe(
    prepared: &Prepared,
    side: usize,
    delta: Delta,
    epoch: &EpochInfo,
    table: &Table,
    context: &Context,
) -> Result<Vec<Delta>, OperatorError> {
    let of = &prepared.sides[side];
    let (delta, evaluated) = sift(delta, context, |delta| of.evaluate(delta, epoch))?;
    let keys = of.encoded_keys(&evaluated, prepared)?;
    let nulls = evaluated.nulls(prepared);
    let mut probe = Probe {
        prepared,
        side,
        delta: &delta,
        epoch,
        table,
        asks: true,
        matched: vec![false; delta.rows()],
        ours: Vec::new(),
        theirs: Vec::new(),
        given: Vec::new(),
    };
    // Where no pair is given or asked about, one will do.
    let any_will_do = !prepared.kind.gives_pairs() && prepared.filter.is_none();
    for row in 0..delta.rows() {
        if evaluated.is_lone(row, &nulls) {
            continue;
        }
        let key = keys.as_ref().map_or(&[][..], |keys| keys.get(row));
        let Some(at) = table.key(key) else { continue };
        if any_will_do {
            probe.matched[row] = !table.of_key[at].is_empty();
            continue;
        }
        for of_table in &table.of_key[at] {
            probe.pair(row, Some(*of_table))?;
        }
    }
    probe.flush()?;
    probe.singles()?;
    Ok(probe.given)
}

/// The rows of a table, as many times as there are workers.
fn for_all(table: DeltaStream<'_>, peers: usize) -> DeltaStream<'_> {
    table.unary::<CapacityContainerBuilder<Deltas>, _, _, _>(
        Pipeline,
        "join, for all",
        move |_, _| {
            move |input, output| {
                input.for_each_stamp(|capability, batches| {
                    for delta in batches.flat_map(Deltas::take) {
                        let capability = capability.delayed(&delta.time, 0);
                        let mut all = copies(&delta, peers);
                        output.session(&capability).give_container(&mut all);
                    }
                });
            }
        },
    )
}

/// Attaches the look-ups of a stream in a table.
pub(super) fn lookup<'scope>(
    stream: DeltaStream<'scope>,
    table: DeltaStream<'scope>,
    prepared: &Arc<Prepared>,
    side: usize,
    context: &Context,
) -> DeltaStream<'scope> {
    let prepared = Arc::clone(prepared);
    let context = context.clone();
    stream.binary_frontier::<_, CapacityContainerBuilder<Deltas>, _, _, _, _>(
        for_all(table, context.peers()),
        Pipeline,
        DistributorPact(|_| BatchRoute::All),
        "join, look-up",
        move |_, _| {
            let mut table = Table::new(&prepared, 1 - side);
            let mut waiting: BTreeMap<Epoch, (Capability<Time>, Vec<Delta>)> = BTreeMap::new();
            let mut changes: BTreeMap<Epoch, Vec<(Delta, Option<Bytes>)>> = BTreeMap::new();
            move |(stream, _), (rows, frontier), output| {
                rows.for_each_stamp(|_, batches| {
                    for delta in batches.flat_map(Deltas::take) {
                        let keys =
                            context
                                .epoch_of(delta.time, prepared.operator)
                                .and_then(|epoch| {
                                    let side = &prepared.sides[1 - side];
                                    side.encoded_keys(&side.evaluate(&delta, &epoch)?, &prepared)
                                });
                        match keys {
                            Ok(keys) => {
                                let changes = changes.entry(delta.time.epoch).or_default();
                                changes.push((delta, keys));
                            }
                            Err(error) => return context.fail(error),
                        }
                    }
                });
                stream.for_each_stamp(|capability, batches| {
                    for delta in batches.flat_map(Deltas::take) {
                        let (_, deltas) = (waiting.entry(delta.time.epoch))
                            .or_insert_with(|| (capability.delayed(&delta.time, 0), Vec::new()));
                        deltas.push(delta);
                    }
                });
                let mut work = || -> Result<(), OperatorError> {
                    // Of the table in an epoch, what changed in it and before.
                    while let Some(first) = waiting.first_entry()
                        && is_complete(*first.key(), frontier)
                    {
                        let (epoch, (capability, deltas)) = first.remove_entry();
                        let later = changes.split_off(&(epoch + 1));
                        let due = std::mem::replace(&mut changes, later);
                        for (delta, keys) in due.into_values().flatten() {
                            table.change(&delta, keys.as_ref())?;
                        }
                        table.settle()?;
                        for delta in deltas {
                            let epoch = context.epoch_of(delta.time, prepared.operator)?;
                            let given = probe(&prepared, side, delta, &epoch, &table, &context)?;
                            let mut session = output.session(&capability);
                            for delta in given {
                                session.give_container(&mut delta.into());
                            }
                        }
                    }
                    Ok(())
                };
                if !context.failed()
                    && let Err(error) = work()
                {
                    context.fail(error);
                }
            }
        },
    )
}

/// Whether nothing more comes in an epoch.
fn is_complete(epoch: Epoch, frontier: &MutableAntichain<Time>) -> bool {
    (frontier.frontier().first()).is_none_or(|time| time.epoch > epoch)
}
