//! The end of a dataflow: tells the sink what its mode asks for.
//!
//! A result that never retracts is written as it comes. Any other is consolidated once the epoch
//! is complete, so that a sink sees the net change: rows are sorted by their key (where it is
//! known) and content, and what came and went within the epoch is not shown. In complete mode
//! [`whole`](super::whole) stands before it, and its rows are written as they come, or by the first
//! worker in the order that the query asks for.

mod sorted;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use tidemark_connectors::{
    Acknowledged, ChangeType, Distribution, Output, OutputMode, SinkWriter, Staged, Staging,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, ParallelizationContract, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::probe::{Handle, Probe};

use crate::operators::calls::Calls;
use crate::operators::container::BatchRoute;
use crate::operators::expression::record_batch;
use crate::operators::{Context, DeltaStream, Deltas, EpochCursor, EpochInfo, OperatorError};
use crate::plan::ResultOrder;
use crate::row::{Bytes, Delta, KeyCodec};
use crate::time::{Epoch, Time};
use sorted::Sorted;

/// Rows are written in batches of this size.
const BATCH: usize = 8192;

/// What the end of a dataflow is made from.
pub struct OutputSpec {
    /// The id of the operator that gives the result, for messages.
    pub operator: usize,
    /// What the sink is told.
    pub mode: OutputMode,
    /// The columns that identify a row, where they are known.
    pub key: Option<Vec<usize>>,
    /// All rows of one key come from one worker.
    pub key_is_group: bool,
    /// Nothing is ever retracted from what comes: it is written as it comes.
    pub direct: bool,
    /// How what comes, the whole result, is put in order.
    pub order: Option<ResultOrder>,
    /// The columns of what comes: those of the result, and what it is ordered by.
    pub schema: SchemaRef,
    /// Where the writers stand.
    pub distribution: Distribution,
    /// The writer of this worker, where it has one.
    pub writer: Option<Box<dyn SinkWriter>>,
}

/// The writer of a worker, shared between the dataflow and the commit.
#[derive(Clone)]
pub struct OutputHandle {
    writer: Rc<RefCell<Option<Box<dyn SinkWriter>>>>,
    probe: Handle<Time>,
    calls: Arc<Calls>,
}

impl OutputHandle {
    /// All workers are done with `epoch`.
    pub fn is_complete(&self, epoch: Epoch) -> bool {
        !self.probe.less_than(&Time::opening(epoch + 1))
    }

    /// Makes what this worker wrote durable; `None` where it writes nothing.
    pub fn stage(&self, epoch: Epoch) -> Result<Option<Staged>, OperatorError> {
        let _call = self.calls.begin();
        match self.writer.borrow_mut().as_mut() {
            Some(writer) => Ok(Some(writer.stage(epoch)?)),
            None => Ok(None),
        }
    }

    /// The same, where what takes long is left to do.
    pub fn stage_apart(&self, epoch: Epoch) -> Result<Option<Staging>, OperatorError> {
        let _call = self.calls.begin();
        match self.writer.borrow_mut().as_mut() {
            Some(writer) => Ok(Some(writer.stage_apart(epoch)?)),
            None => Ok(None),
        }
    }

    /// Calls `then` once the target has what this worker wrote in `epoch`.
    pub fn when_acknowledged(&self, epoch: Epoch, then: Acknowledged) {
        match self.writer.borrow_mut().as_mut() {
            Some(writer) => writer.when_acknowledged(epoch, then),
            None => then(),
        }
    }
}

/// Attaches the end to a stream.
pub fn output(
    input: DeltaStream<'_>,
    context: &Context,
    spec: OutputSpec,
) -> Result<OutputHandle, OperatorError> {
    let failed = |source| OperatorError::Row {
        operator: spec.operator,
        source,
    };
    let types: Vec<DataType> = spec
        .schema
        .fields()
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    if let Some(order) = spec.order {
        let writing = Sorted::new(spec.operator, order, &spec.schema)?;
        let first = DistributorPact(|_| BatchRoute::First);
        return Ok(attach(input, context, first, spec.writer, writing));
    }
    if spec.direct {
        let writing = Direct {
            waiting: Waiting::default(),
        };
        return Ok(match spec.distribution {
            Distribution::Single => attach(
                input,
                context,
                DistributorPact(|_| BatchRoute::First),
                spec.writer,
                writing,
            ),
            Distribution::PerWorker => attach(input, context, Pipeline, spec.writer, writing),
        });
    }
    let rows = KeyCodec::new(&types).map_err(failed)?;
    let key = match &spec.key {
        Some(columns) => {
            let types: Vec<_> = columns
                .iter()
                .map(|column| types[*column].clone())
                .collect();
            Some((columns.clone(), KeyCodec::new(&types).map_err(failed)?))
        }
        None => None,
    };
    let writing = Consolidated {
        operator: spec.operator,
        mode: spec.mode,
        schema: spec.schema,
        rows,
        key,
        waiting: Waiting::default(),
    };
    // What the sink is told of a key is told by one writer, and so is what is told of a row.
    let routed = match &spec.key {
        Some(_) if spec.key_is_group => None,
        Some(columns) => Some(columns.clone()),
        None => Some((0..types.len()).collect()),
    };
    let handle = match (spec.distribution, routed) {
        (Distribution::Single, _) => attach(
            input,
            context,
            DistributorPact(|_| BatchRoute::First),
            spec.writer,
            writing,
        ),
        (Distribution::PerWorker, Some(columns)) => {
            let types: Vec<_> = columns.iter().map(|c| types[*c].clone()).collect();
            let codec = KeyCodec::new(&types).map_err(failed)?;
            attach(
                input,
                context,
                DistributorPact(|_| BatchRoute::By(columns, codec)),
                spec.writer,
                writing,
            )
        }
        (Distribution::PerWorker, None) => attach(input, context, Pipeline, spec.writer, writing),
    };
    Ok(handle)
}

/// Rows whose epoch is not complete.
#[derive(Default)]
struct Waiting(BTreeMap<Epoch, Vec<Delta>>);

impl Waiting {
    fn push(&mut self, delta: Delta) {
        self.0.entry(delta.time.epoch).or_default().push(delta);
    }

    /// Those of an epoch.
    fn take(&mut self, epoch: Epoch) -> Vec<Delta> {
        self.0.remove(&epoch).unwrap_or_default()
    }
}

/// How rows become what a sink is told.
trait Writing: 'static {
    /// Rows came for an epoch; `current` is the first that is not complete.
    fn take(
        &mut self,
        delta: Delta,
        current: Epoch,
        writer: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError>;
    /// An epoch has become the first that is not complete.
    fn begin(
        &mut self,
        _current: Epoch,
        _writer: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError> {
        Ok(())
    }
    /// An epoch is complete.
    fn finish(
        &mut self,
        epoch: &EpochInfo,
        writer: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError>;
}

fn attach<P, W>(
    input: DeltaStream<'_>,
    context: &Context,
    pact: P,
    writer: Option<Box<dyn SinkWriter>>,
    mut writing: W,
) -> OutputHandle
where
    P: ParallelizationContract<Time, Deltas>,
    W: Writing,
{
    let handle = OutputHandle {
        writer: Rc::new(RefCell::new(writer)),
        probe: Handle::new(),
        calls: context.outside().sink,
    };
    let calls = Arc::clone(&handle.calls);
    let writer = Rc::clone(&handle.writer);
    let context = context.clone();
    input
        .unary_frontier::<CapacityContainerBuilder<Deltas>, _, _, _>(
            pact,
            "output",
            move |capability, _| {
                let mut epochs = EpochCursor::new(capability, &context);
                move |(input, frontier), _output| {
                    let mut writer = writer.borrow_mut();
                    input.for_each_stamp(|_, batches| {
                        let Some(writer) = writer.as_mut() else {
                            return;
                        };
                        for delta in batches.flat_map(Deltas::take) {
                            if context.failed() {
                                return;
                            }
                            let _call = calls.begin();
                            if let Err(error) =
                                writing.take(delta, epochs.current(), writer.as_mut())
                            {
                                return context.fail(error);
                            }
                        }
                    });
                    while !context.failed()
                        && let Some((epoch, _capability)) = epochs.complete(frontier)
                    {
                        let _call = calls.begin();
                        if let Some(writer) = writer.as_mut() {
                            let next = epoch.epoch + 1;
                            let turned = writing
                                .finish(&epoch, writer.as_mut())
                                .and_then(|()| writing.begin(next, writer.as_mut()));
                            if let Err(error) = turned {
                                return context.fail(error);
                            }
                        }
                        epochs.done();
                    }
                }
            },
        )
        .probe_with(&handle.probe);
    handle
}

/// Writes rows as they come; those of later epochs wait for their turn.
struct Direct {
    waiting: Waiting,
}

impl Direct {
    fn write(delta: &Delta, writer: &mut dyn SinkWriter) -> Result<(), OperatorError> {
        let batch = match &delta.diffs {
            None => delta.batch.clone(),
            Some(diffs) => {
                let rows: Vec<(usize, usize)> = diffs
                    .iter()
                    .enumerate()
                    .flat_map(|(row, diff)| {
                        std::iter::repeat_n((0, row), usize::try_from(*diff).unwrap_or(0))
                    })
                    .collect();
                interleave(&[&delta.batch], &rows)?
            }
        };
        writer.write(
            delta.time.epoch,
            &Output {
                batch,
                changes: None,
            },
        )?;
        Ok(())
    }
}

impl Writing for Direct {
    fn take(
        &mut self,
        delta: Delta,
        current: Epoch,
        writer: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError> {
        if delta.time.epoch == current {
            return Self::write(&delta, writer);
        }
        self.waiting.push(delta);
        Ok(())
    }

    /// What waited for its turn goes now, not only when its own epoch ends.
    fn begin(&mut self, current: Epoch, writer: &mut dyn SinkWriter) -> Result<(), OperatorError> {
        for delta in self.waiting.take(current) {
            Self::write(&delta, writer)?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &EpochInfo, _: &mut dyn SinkWriter) -> Result<(), OperatorError> {
        Ok(())
    }
}

/// Writes the net change of each epoch, or the whole result.
struct Consolidated {
    operator: usize,
    mode: OutputMode,
    schema: SchemaRef,
    rows: KeyCodec,
    key: Option<(Vec<usize>, KeyCodec)>,
    waiting: Waiting,
}

/// A row of the net change: which batch, which row of it, how often.
struct Change {
    batch: usize,
    row: usize,
    diff: i64,
}

impl Writing for Consolidated {
    fn take(
        &mut self,
        delta: Delta,
        _: Epoch,
        _: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError> {
        self.waiting.push(delta);
        Ok(())
    }

    fn finish(
        &mut self,
        epoch: &EpochInfo,
        writer: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError> {
        let deltas = self.waiting.take(epoch.epoch);
        let encoded = deltas
            .iter()
            .map(|delta| self.encode(delta))
            .collect::<Result<Vec<_>, _>>()?;
        let (rows, changes) = self.net(&deltas, &encoded);
        let batches: Vec<&RecordBatch> = deltas.iter().map(|delta| &delta.batch).collect();
        for (rows, changes) in rows.chunks(BATCH).zip(changes.chunks(BATCH)) {
            let batch = record_batch(
                &self.schema,
                interleave(&batches, rows)?.columns().to_vec(),
                rows.len(),
            )?;
            let changes = changes
                .iter()
                .any(|c| *c != ChangeType::Insert)
                .then(|| changes.to_vec());
            writer.write(epoch.epoch, &Output { batch, changes })?;
        }
        Ok(())
    }
}

/// The rows of one batch as bytes: all columns, and the key's.
struct Encoded {
    rows: Bytes,
    keys: Option<Bytes>,
}

impl Consolidated {
    fn encode(&self, delta: &Delta) -> Result<Encoded, OperatorError> {
        let failed = |source| OperatorError::Row {
            operator: self.operator,
            source,
        };
        let rows = self.rows.encode(delta.batch.columns()).map_err(failed)?;
        let keys = match &self.key {
            Some((columns, codec)) if !columns.is_empty() => {
                let columns: Vec<_> = columns
                    .iter()
                    .map(|column| delta.batch.column(*column).clone())
                    .collect();
                Some(codec.encode(&columns).map_err(failed)?)
            }
            _ => None,
        };
        Ok(Encoded { rows, keys })
    }

    /// The net change in the order of keys and rows, spelled out for the sink.
    fn net(&self, deltas: &[Delta], encoded: &[Encoded]) -> (Vec<(usize, usize)>, Vec<ChangeType>) {
        let row = |c: &Change| encoded[c.batch].rows.get(c.row);
        let key = |c: &Change| {
            encoded[c.batch]
                .keys
                .as_ref()
                .map_or(&[][..], |keys| keys.get(c.row))
        };
        let mut all: Vec<Change> = deltas
            .iter()
            .enumerate()
            .flat_map(|(batch, delta)| {
                (0..delta.rows()).map(move |row| Change {
                    batch,
                    row,
                    diff: delta.diff(row),
                })
            })
            .collect();
        all.sort_unstable_by(|a, b| key(a).cmp(key(b)).then_with(|| row(a).cmp(row(b))));
        all.dedup_by(|next, kept| {
            let same = row(next) == row(kept);
            if same {
                kept.diff += next.diff;
            }
            same
        });
        all.retain(|change| change.diff != 0);

        let mut rows = vec![];
        let mut changes = vec![];
        let mut tell = |change: &Change, what: ChangeType| {
            for _ in 0..change.diff.unsigned_abs() {
                rows.push((change.batch, change.row));
                changes.push(what);
            }
        };
        let by_key = self.key.is_some();
        for group in all.chunk_by(|a, b| by_key && key(a) == key(b)) {
            let (gone, come): (Vec<&Change>, Vec<&Change>) =
                group.iter().partition(|change| change.diff < 0);
            let replaced = by_key && !gone.is_empty() && !come.is_empty();
            let update = replaced && gone.len() == 1 && come.len() == 1;
            if self.mode == OutputMode::Changelog {
                let before = if update {
                    ChangeType::UpdatePreimage
                } else {
                    ChangeType::Delete
                };
                let after = if update {
                    ChangeType::UpdatePostimage
                } else {
                    ChangeType::Insert
                };
                gone.iter().for_each(|change| tell(change, before));
                come.iter().for_each(|change| tell(change, after));
            } else {
                // Without a key nobody can tell a row that vanished from one that was replaced.
                if by_key && !replaced {
                    gone.iter()
                        .for_each(|change| tell(change, ChangeType::Delete));
                }
                let what = if replaced {
                    ChangeType::UpdatePostimage
                } else {
                    ChangeType::Insert
                };
                come.iter().for_each(|change| tell(change, what));
            }
        }
        (rows, changes)
    }
}

fn interleave(
    batches: &[&RecordBatch],
    rows: &[(usize, usize)],
) -> Result<RecordBatch, OperatorError> {
    interleave_record_batch(batches, rows).map_err(|error| OperatorError::Unsupported {
        expression: "the result".into(),
        reason: error.to_string(),
    })
}
