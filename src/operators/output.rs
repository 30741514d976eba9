//! The end of a dataflow: tells the sink what its mode asks for.
//!
//! A result that never retracts is written as it comes. Any other is consolidated once the epoch
//! is complete, so that a sink sees the net change: rows are sorted by their key (where it is
//! known) and content, and what came and went within the epoch is not shown. In complete mode the
//! result itself is kept as state and given whole.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use tidemark_connectors::{ChangeType, Distribution, Output, OutputMode, SinkWriter, Staged};
use timely::dataflow::channels::pact::{DistributorPact, ParallelizationContract, Pipeline};
use timely::dataflow::operators::generic::{Operator, OperatorInfo};
use timely::dataflow::operators::probe::{Handle, Probe};
use timely::container::CapacityContainerBuilder;

use crate::operators::container::BatchRoute;
use crate::operators::expression::record_batch;
use crate::operators::{
    Context, DeltaStream, Deltas, EpochCursor, EpochInfo, OperatorError, OperatorStats, Restored,
};
use crate::row::{Bytes, Delta, KeyCodec};
use crate::state::{Multiset, Recorder, RestoredSections, Rows};
use crate::time::{Epoch, NEVER, Time};

/// Rows are written in batches of this size.
const BATCH: usize = 8192;

/// What the end of a dataflow is made from.
pub struct OutputSpec {
    /// The id under which state is kept in complete mode.
    pub operator: usize,
    /// What the sink is told.
    pub mode: OutputMode,
    /// The columns that identify a row, where they are known.
    pub key: Option<Vec<usize>>,
    /// The result never retracts.
    pub append_only: bool,
    /// The columns of the result.
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
}

impl OutputHandle {
    /// All workers are done with `epoch`.
    pub fn is_complete(&self, epoch: Epoch) -> bool {
        !self.probe.less_than(&Time::opening(epoch + 1))
    }

    /// Makes what this worker wrote durable; `None` where it writes nothing.
    pub fn stage(&self, epoch: Epoch) -> Result<Option<Staged>, OperatorError> {
        match self.writer.borrow_mut().as_mut() {
            Some(writer) => Ok(Some(writer.stage(epoch)?)),
            None => Ok(None),
        }
    }
}

/// Attaches the end to a stream.
pub fn output(
    input: DeltaStream<'_>,
    context: &Context,
    spec: OutputSpec,
    recorder: &Recorder,
    restored: &mut Restored,
) -> Result<OutputHandle, OperatorError> {
    let failed = |source| OperatorError::Row { operator: spec.operator, source };
    let types: Vec<DataType> =
        spec.schema.fields().iter().map(|field| field.data_type().clone()).collect();
    // A result that only grows is never compared, so its columns need no order.
    let direct = spec.append_only && spec.mode != OutputMode::Complete;
    let by_row = !direct && spec.key.is_none();
    if direct {
        let writing = Direct { waiting: BTreeMap::new() };
        return Ok(match spec.distribution {
            Distribution::Single => attach(input, context, DistributorPact(|_| BatchRoute::First), spec.writer, writing),
            Distribution::PerWorker => attach(input, context, Pipeline, spec.writer, writing),
        });
    }
    let rows = KeyCodec::new(&types).map_err(failed)?;
    let key = match &spec.key {
        Some(columns) => {
            let types: Vec<_> = columns.iter().map(|column| types[*column].clone()).collect();
            Some((columns.clone(), KeyCodec::new(&types).map_err(failed)?))
        }
        None => None,
    };
    let whole = match spec.mode {
        OutputMode::Complete => {
            let id = spec.operator as u32;
            let sections = restored
                .take(id, 0)
                .map_err(|source| OperatorError::State { operator: spec.operator, source })?;
            Some((recorder.for_trace(id, 0), sections))
        }
        _ => None,
    };
    let writing = Consolidated {
        operator: spec.operator,
        mode: spec.mode,
        schema: spec.schema,
        rows,
        key,
        begin: whole,
        whole: None,
        waiting: BTreeMap::new(),
    };
    let handle = match (spec.distribution, by_row) {
        (Distribution::Single, _) => {
            attach(input, context, DistributorPact(|_| BatchRoute::First), spec.writer, writing)
        }
        (Distribution::PerWorker, true) => {
            let codec = KeyCodec::new(&types).map_err(failed)?;
            attach(input, context, DistributorPact(|_| BatchRoute::ByRow(codec)), spec.writer, writing)
        }
        (Distribution::PerWorker, false) => attach(input, context, Pipeline, spec.writer, writing),
    };
    Ok(handle)
}

/// How rows become what a sink is told.
trait Writing: 'static {
    /// The operator is being built.
    fn begin(&mut self, _info: &OperatorInfo) -> Result<(), OperatorError> {
        Ok(())
    }
    /// Rows came for an epoch; `current` is the first that is not complete.
    fn take(&mut self, delta: Delta, current: Epoch, writer: &mut dyn SinkWriter) -> Result<(), OperatorError>;
    /// An epoch is complete.
    fn finish(
        &mut self,
        epoch: &EpochInfo,
        context: &Context,
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
    let handle = OutputHandle { writer: Rc::new(RefCell::new(writer)), probe: Handle::new() };
    let writer = Rc::clone(&handle.writer);
    let context = context.clone();
    input
        .unary_frontier::<CapacityContainerBuilder<Deltas>, _, _, _>(pact, "output", move |capability, info| {
            if let Err(error) = writing.begin(&info) {
                context.fail(error);
            }
            let mut epochs = EpochCursor::new(capability, &context);
            move |(input, frontier), _output| {
                let mut writer = writer.borrow_mut();
                input.for_each_stamp(|_, batches| {
                    let Some(writer) = writer.as_mut() else { return };
                    for delta in batches.flat_map(|deltas| std::mem::take(&mut deltas.0)) {
                        if context.failed() {
                            return;
                        }
                        if let Err(error) = writing.take(delta, epochs.current(), writer.as_mut()) {
                            return context.fail(error);
                        }
                    }
                });
                while !context.failed()
                    && let Some((epoch, _capability)) = epochs.complete(frontier)
                {
                    if let Some(writer) = writer.as_mut()
                        && let Err(error) = writing.finish(&epoch, &context, writer.as_mut())
                    {
                        return context.fail(error);
                    }
                    epochs.done();
                }
            }
        })
        .probe_with(&handle.probe);
    handle
}

/// Writes rows as they come; those of later epochs wait for their turn.
struct Direct {
    waiting: BTreeMap<Epoch, Vec<Delta>>,
}

impl Direct {
    fn write(delta: &Delta, writer: &mut dyn SinkWriter) -> Result<(), OperatorError> {
        let batch = match &delta.diffs {
            None => delta.batch.clone(),
            Some(diffs) => {
                let rows: Vec<(usize, usize)> = diffs
                    .iter()
                    .enumerate()
                    .flat_map(|(row, diff)| std::iter::repeat_n((0, row), usize::try_from(*diff).unwrap_or(0)))
                    .collect();
                interleave(&[&delta.batch], &rows)?
            }
        };
        writer.write(delta.time.epoch, &Output { batch, changes: None })?;
        Ok(())
    }
}

impl Writing for Direct {
    fn take(&mut self, delta: Delta, current: Epoch, writer: &mut dyn SinkWriter) -> Result<(), OperatorError> {
        if delta.time.epoch == current {
            return Self::write(&delta, writer);
        }
        self.waiting.entry(delta.time.epoch).or_default().push(delta);
        Ok(())
    }

    fn finish(&mut self, epoch: &EpochInfo, _: &Context, writer: &mut dyn SinkWriter) -> Result<(), OperatorError> {
        // What waited for this epoch goes now; later rows of it cannot come any more.
        for delta in self.waiting.remove(&epoch.epoch).unwrap_or_default() {
            Self::write(&delta, writer)?;
        }
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
    /// In complete mode: what the state is made from, once the operator is built.
    begin: Option<(Recorder, Option<RestoredSections>)>,
    whole: Option<Multiset>,
    waiting: BTreeMap<Epoch, Vec<Delta>>,
}

/// A row of the net change: which batch, which row of it, how often.
struct Change {
    batch: usize,
    row: usize,
    diff: i64,
}

impl Writing for Consolidated {
    fn begin(&mut self, info: &OperatorInfo) -> Result<(), OperatorError> {
        if let Some((recorder, restored)) = self.begin.take() {
            let whole = Multiset::new(info.clone(), recorder, restored)
                .map_err(|source| OperatorError::State { operator: self.operator, source })?;
            self.whole = Some(whole);
        }
        Ok(())
    }

    fn take(&mut self, delta: Delta, _: Epoch, _: &mut dyn SinkWriter) -> Result<(), OperatorError> {
        self.waiting.entry(delta.time.epoch).or_default().push(delta);
        Ok(())
    }

    fn finish(
        &mut self,
        epoch: &EpochInfo,
        context: &Context,
        writer: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError> {
        let deltas = self.waiting.remove(&epoch.epoch).unwrap_or_default();
        let encoded = deltas.iter().map(|delta| self.encode(delta)).collect::<Result<Vec<_>, _>>()?;
        if self.whole.is_some() {
            return self.give_whole(epoch, context, &deltas, &encoded, writer);
        }
        let (rows, changes) = self.net(&deltas, &encoded);
        let batches: Vec<&RecordBatch> = deltas.iter().map(|delta| &delta.batch).collect();
        for (rows, changes) in rows.chunks(BATCH).zip(changes.chunks(BATCH)) {
            let batch = record_batch(&self.schema, interleave(&batches, rows)?.columns().to_vec(), rows.len())?;
            let changes = changes.iter().any(|c| *c != ChangeType::Insert).then(|| changes.to_vec());
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
        let failed = |source| OperatorError::Row { operator: self.operator, source };
        let rows = self.rows.encode(delta.batch.columns()).map_err(failed)?;
        let keys = match &self.key {
            Some((columns, codec)) if !columns.is_empty() => {
                let columns: Vec<_> =
                    columns.iter().map(|column| delta.batch.column(*column).clone()).collect();
                Some(codec.encode(&columns).map_err(failed)?)
            }
            _ => None,
        };
        Ok(Encoded { rows, keys })
    }

    /// The net change in the order of keys and rows, spelled out for the sink.
    fn net(&self, deltas: &[Delta], encoded: &[Encoded]) -> (Vec<(usize, usize)>, Vec<ChangeType>) {
        let row = |c: &Change| encoded[c.batch].rows.get(c.row);
        let key = |c: &Change| encoded[c.batch].keys.as_ref().map_or(&[][..], |keys| keys.get(c.row));
        let mut all: Vec<Change> = deltas
            .iter()
            .enumerate()
            .flat_map(|(batch, delta)| {
                (0..delta.rows()).map(move |row| Change { batch, row, diff: delta.diff(row) })
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
            match self.mode {
                OutputMode::Changelog => {
                    let before = if update { ChangeType::UpdatePreimage } else { ChangeType::Delete };
                    let after = if update { ChangeType::UpdatePostimage } else { ChangeType::Insert };
                    gone.iter().for_each(|change| tell(change, before));
                    come.iter().for_each(|change| tell(change, after));
                }
                _ => {
                    // Without a key nobody can tell a row that vanished from one that was replaced.
                    if by_key && !replaced {
                        gone.iter().for_each(|change| tell(change, ChangeType::Delete));
                    }
                    let what = if replaced { ChangeType::UpdatePostimage } else { ChangeType::Insert };
                    come.iter().for_each(|change| tell(change, what));
                }
            }
        }
        (rows, changes)
    }

    fn give_whole(
        &mut self,
        epoch: &EpochInfo,
        context: &Context,
        deltas: &[Delta],
        encoded: &[Encoded],
        writer: &mut dyn SinkWriter,
    ) -> Result<(), OperatorError> {
        let Some(whole) = &mut self.whole else { return Ok(()) };
        let operator = self.operator;
        let mut rows = Rows { time: epoch.time(), ..Rows::default() };
        for (delta, encoded) in deltas.iter().zip(encoded) {
            for row in 0..delta.rows() {
                rows.push(encoded.rows.get(row), &[], delta.diff(row), NEVER);
            }
        }
        let updated = rows.len() as u64;
        whole.apply(epoch.time(), &rows).map_err(|source| OperatorError::State { operator, source })?;
        whole.forget(epoch.time());

        let mut failure: Option<OperatorError> = None;
        let mut pending = Bytes::default();
        let mut flush = |pending: &mut Bytes| -> Result<(), OperatorError> {
            let columns = self
                .rows
                .decode(pending.iter())
                .map_err(|source| OperatorError::Row { operator, source })?;
            let batch = record_batch(&self.schema, columns, pending.len())?;
            pending.clear();
            writer.write(epoch.epoch, &Output { batch, changes: None })?;
            Ok(())
        };
        whole.scan(&mut |row, _, count| {
            for _ in 0..count {
                if failure.is_none() {
                    pending.push(row);
                    if pending.len() == BATCH {
                        failure = flush(&mut pending).err();
                    }
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        flush(&mut pending)?;
        let mut stats = OperatorStats { name: "complete".into(), rows_updated: updated, ..OperatorStats::default() };
        stats.add_size(whole.size());
        context.report(epoch.epoch, operator, &stats);
        Ok(())
    }
}

fn interleave(batches: &[&RecordBatch], rows: &[(usize, usize)]) -> Result<RecordBatch, OperatorError> {
    interleave_record_batch(batches, rows).map_err(|error| OperatorError::Unsupported {
        expression: "the result".into(),
        reason: error.to_string(),
    })
}
