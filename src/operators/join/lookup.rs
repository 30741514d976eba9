//! A stream beside a table that is all there from the start: its rows are looked up as they come.
//!
//! Of a small table each worker has all rows in memory, and rows of the stream are looked up where they are. Of a
//! large one (`spread`) each worker has the rows of its keys, and rows of the stream go to the worker that their
//! key's hash names, with their key as a last column. Both give the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::frontier::MutableAntichain;

use crate::operators::container::{BatchRoute, copies};
use crate::operators::dead_letter::sift;
use crate::operators::expression::record_batch;
use crate::operators::join::table::Table;
use crate::operators::join::{BATCH, Prepared};
use crate::operators::{Context, DeltaStream, Deltas, EpochInfo, OperatorError};
use crate::plan::JoinKind;
use crate::plan::join::LEFT;
use crate::row::{Bytes, Delta};
use crate::time::{Epoch, Time};

/// Stands for the row of nulls beside a row without a match.
const NO_ROW: Option<u32> = None;

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
        let theirs = std::mem::take(&mut self.theirs);
        // Where each row met one row there is nothing to move.
        let all = ours.len() == self.delta.rows();
        let mut ours = if all && (0..).zip(ours.values()).all(|(at, row)| at == *row) {
            self.delta.batch.columns().to_vec()
        } else {
            let columns = self.delta.batch.columns().iter();
            let columns = columns.map(|column| take(column, &ours, None));
            columns.collect::<Result<_, _>>().map_err(failed)?
        };
        let mut theirs = self.table.columns(&theirs).map_err(failed)?;
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
                let times = theirs.map_or(1, |row| self.table.count(row));
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

/// Rows of the stream, with what they look for.
struct Sought {
    delta: Delta,
    keys: Keys,
    /// Whether a row matches nothing.
    lone: Vec<bool>,
}

/// The keys of some rows.
enum Keys {
    /// All rows meet.
    None,
    Bytes(Bytes),
    Column(BinaryArray),
}

impl Keys {
    fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Bytes(keys) => keys.get(row),
            Self::Column(keys) => keys.value(row),
        }
    }
}

/// What the rows of a batch of the stream look for.
fn seek(
    prepared: &Prepared,
    side: usize,
    delta: Delta,
    epoch: &EpochInfo,
    context: &Context,
) -> Result<Sought, OperatorError> {
    let of = &prepared.sides[side];
    let (delta, evaluated) = sift(delta, context, |delta| of.evaluate(delta, epoch))?;
    let keys = of.encoded_keys(&evaluated, prepared)?;
    let nulls = evaluated.nulls(prepared);
    let rows = 0..delta.rows();
    Ok(Sought {
        lone: rows.map(|row| evaluated.is_lone(row, &nulls)).collect(),
        keys: keys.map_or(Keys::None, Keys::Bytes),
        delta,
    })
}

impl Sought {
    /// As it travels: the keys are a last column, null where a row matches nothing.
    fn packed(self) -> Result<Delta, ArrowError> {
        let keys: BinaryArray = (self.lone.iter().enumerate())
            .map(|(row, lone)| (!lone).then(|| self.keys.get(row)))
            .collect();
        let schema = self.delta.batch.schema();
        let fields = schema.fields().iter().cloned();
        let key = Arc::new(Field::new("key", DataType::Binary, true));
        let schema = Schema::new(fields.chain([key]).collect::<Vec<_>>());
        let mut columns = self.delta.batch.columns().to_vec();
        columns.push(Arc::new(keys));
        Ok(Delta {
            batch: RecordBatch::try_new(Arc::new(schema), columns)?,
            ..self.delta
        })
    }

    fn unpacked(delta: Delta) -> Result<Self, ArrowError> {
        let columns = delta.batch.num_columns() - 1;
        let keys = delta.batch.column(columns).as_binary().clone();
        let all: Vec<usize> = (0..columns).collect();
        Ok(Self {
            lone: (0..keys.len()).map(|row| keys.is_null(row)).collect(),
            keys: Keys::Column(keys),
            delta: Delta {
                batch: delta.batch.project(&all)?,
                ..delta
            },
        })
    }
}

/// What the rows of a batch of the stream give.
fn probe(
    prepared: &Prepared,
    side: usize,
    sought: &Sought,
    epoch: &EpochInfo,
    table: &Table,
) -> Result<Vec<Delta>, OperatorError> {
    let delta = &sought.delta;
    let mut probe = Probe {
        prepared,
        side,
        delta,
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
        if sought.lone[row] {
            continue;
        }
        let found = table.find(sought.keys.get(row));
        if any_will_do {
            probe.matched[row] = !found.is_empty();
            continue;
        }
        for of_table in found {
            probe.pair(row, Some(*of_table))?;
        }
    }
    probe.flush()?;
    probe.singles()?;
    Ok(probe.given)
}

/// Attaches the look-ups of a stream in a table, whose rows are where the owners of their keys are.
pub(super) fn lookup<'scope>(
    stream: DeltaStream<'scope>,
    table: DeltaStream<'scope>,
    prepared: &Arc<Prepared>,
    (side, spread): (usize, bool),
    context: &Context,
) -> DeltaStream<'scope> {
    if !spread {
        let to_all = DistributorPact(|_| BatchRoute::All);
        let looks = Looks::new(prepared, side, context, seek);
        return looks.attach(stream, for_all(table, context.peers()), (Pipeline, to_all));
    }
    let (of, to, asking) = (Arc::clone(prepared), context.clone(), prepared.operator);
    let keyed = stream.unary::<CapacityContainerBuilder<Deltas>, _, _, _>(
        Pipeline,
        "join, keys",
        move |_, _| {
            move |input, output| {
                input.for_each_stamp(|capability, batches| {
                    for delta in batches.flat_map(Deltas::take) {
                        let time = delta.time;
                        let packed = to
                            .epoch_of(time, asking)
                            .and_then(|epoch| seek(&of, side, delta, &epoch, &to))
                            .and_then(|sought| {
                                sought.packed().map_err(|error| of.arrow_error(&error))
                            });
                        match packed {
                            Ok(delta) => {
                                let capability = capability.delayed(&time, 0);
                                output
                                    .session(&capability)
                                    .give_container(&mut delta.into());
                            }
                            Err(error) => return to.fail(error),
                        }
                    }
                });
            }
        },
    );
    let by_key = DistributorPact(|_| BatchRoute::ByKey);
    let looks = Looks::new(prepared, side, context, |prepared, _, delta, _, _| {
        Sought::unpacked(delta).map_err(|error| prepared.arrow_error(&error))
    });
    looks.attach(keyed, table, (by_key, Pipeline))
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

/// How a batch of the stream says what it looks for.
type Seek = fn(&Prepared, usize, Delta, &EpochInfo, &Context) -> Result<Sought, OperatorError>;

/// What the look-ups need.
struct Looks {
    prepared: Arc<Prepared>,
    side: usize,
    context: Context,
    seek: Seek,
}

impl Looks {
    fn new(prepared: &Arc<Prepared>, side: usize, context: &Context, seek: Seek) -> Self {
        Self {
            prepared: Arc::clone(prepared),
            side,
            context: context.clone(),
            seek,
        }
    }

    fn attach<'scope>(
        self,
        stream: DeltaStream<'scope>,
        table: DeltaStream<'scope>,
        (of_stream, of_table): (
            impl ParallelizationContract<Time, Deltas>,
            impl ParallelizationContract<Time, Deltas>,
        ),
    ) -> DeltaStream<'scope> {
        let Self {
            prepared,
            side,
            context,
            seek,
        } = self;
        stream.binary_frontier::<_, CapacityContainerBuilder<Deltas>, _, _, _, _>(
            table,
            of_stream,
            of_table,
            "join, look-up",
            move |_, _| {
                let mut table = Table::new(&prepared, 1 - side);
                let mut waiting: BTreeMap<Epoch, (Capability<Time>, Vec<Delta>)> = BTreeMap::new();
                let mut changes = Changes::new();
                move |(stream, of_stream), (rows, frontier), output| {
                    rows.for_each_stamp(|_, batches| {
                        for delta in batches.flat_map(Deltas::take) {
                            let keys =
                                context
                                    .epoch_of(delta.time, prepared.operator)
                                    .and_then(|epoch| {
                                        let side = &prepared.sides[1 - side];
                                        side.encoded_keys(
                                            &side.evaluate(&delta, &epoch)?,
                                            &prepared,
                                        )
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
                            let (_, deltas) =
                                (waiting.entry(delta.time.epoch)).or_insert_with(|| {
                                    (capability.delayed(&delta.time, 0), Vec::new())
                                });
                            deltas.push(delta);
                        }
                    });
                    let mut work = || -> Result<(), OperatorError> {
                        // Of the table in an epoch, what changed in it and before.
                        while let Some(first) = waiting.first_entry()
                            && *first.key() < first_epoch(frontier)
                        {
                            let (epoch, (capability, deltas)) = first.remove_entry();
                            take_in(&mut table, &mut changes, epoch)?;
                            for delta in deltas {
                                let epoch = context.epoch_of(delta.time, prepared.operator)?;
                                let sought = seek(&prepared, side, delta, &epoch, &context)?;
                                let given = probe(&prepared, side, &sought, &epoch, &table)?;
                                let mut session = output.session(&capability);
                                for delta in given {
                                    session.give_container(&mut delta.into());
                                }
                            }
                        }
                        // What changes does not gather while the stream is quiet.
                        let complete = first_epoch(frontier).saturating_sub(1);
                        let until = complete.min(first_epoch(of_stream));
                        if (changes.keys().next()).is_some_and(|epoch| *epoch <= until) {
                            take_in(&mut table, &mut changes, until)?;
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
}

/// What changes in the table, by epoch, with the keys of the rows.
type Changes = BTreeMap<Epoch, Vec<(Delta, Option<Bytes>)>>;

/// Takes in what changes in the table up to an epoch.
fn take_in(table: &mut Table, changes: &mut Changes, until: Epoch) -> Result<(), OperatorError> {
    let later = changes.split_off(&(until + 1));
    let due = std::mem::replace(changes, later);
    for (delta, keys) in due.into_values().flatten() {
        table.change(&delta, keys.as_ref())?;
    }
    table.settle()
}

/// The first epoch in which something can still come.
fn first_epoch(frontier: &MutableAntichain<Time>) -> Epoch {
    (frontier.frontier().first()).map_or(Epoch::MAX, |time| time.epoch)
}
