//! Window functions over whole partitions: `sum(x) OVER (...)`, `lag(x) OVER (...)` and the like.
//!
//! A row that comes or goes can change the result of every row of its partition, so the rows of each
//! partition that changed are computed anew, by `DataFusion`'s own window expressions, before and after
//! the epoch; what differs is told. The cost of a change is that of its partition.
//!
//! State (trace 0): rows by partition, in their order, as [`rank`](super::rank) keeps them. With a
//! bound a partition is forgotten once it is complete. Where all functions look back only, in the order of
//! event time, rows are forgotten that none to come looks back on; in append mode each row is given when the
//! watermark has passed it (`trailing`), and trace 1 holds the partitions by the moments of their rows.

mod trailing;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_planner::create_window_expr;
use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::expression::{batch_schema, record_batch};
use crate::operators::keyed::{Change, Keyed, changes_of, encoded, keyed};
use crate::operators::rank::layout::Layout;
use crate::operators::{Context, DeltaStream, EpochInfo, OperatorError, OperatorStats, Restored};
use crate::plan::reason::reason;
use crate::plan::{self, Emit, Trailing, text};
use crate::row::{Bytes, Delta, KeyCodec, RowError, read_bound};
use crate::state::{IDLE_EFFORT, Multiset, Recorder, Rows, StateError};
use crate::time::{EventTime, Time};

use trailing::Passing;

/// What progress calls this operator.
const NAME: &str = "over";

/// Rows are given in batches of this size.
const BATCH: usize = 8192;

/// Window functions ready to be attached to a stream.
pub struct Over {
    prepared: Arc<Prepared>,
}

struct Prepared {
    operator: usize,
    layout: Arc<Layout>,
    /// Each call as SQL, and as it is computed over one partition.
    calls: Vec<(String, Arc<dyn WindowExpr>)>,
    results: KeyCodec,
    emit: Emit,
    trailing: Option<Trailing>,
    schema: SchemaRef,
}

/// The trace whose keys begin with a moment, where there is one.
const MOMENTS: u32 = 1;

/// The part of a key in state that says which worker it lives on.
pub fn routed(trace: u32, key: &[u8]) -> &[u8] {
    if trace == MOMENTS && key.len() >= 8 {
        &key[8..]
    } else {
        key
    }
}

/// The rows of a partition in their order, with how often each is there.
type Partition = Vec<(Box<[u8]>, i64)>;

impl Over {
    /// Prepares the window functions of node `operator`, over rows of `input`, giving rows of `output`:
    /// the columns of `input`, and the results. `options` are what expressions are computed with.
    pub fn new(
        operator: usize,
        plan: &plan::Over,
        input: &DFSchemaRef,
        output: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let partition = (&plan.partition[..], plan.bound);
        let mut layout = Layout::new(
            (operator, NAME),
            partition,
            &plan.order,
            input,
            input,
            options,
        )?;
        if let Some(trailing) = plan.trailing {
            let stays = (trailing.rows == Some(0)).then_some(trailing.range);
            let required = plan.emit == Emit::OnClose;
            layout = layout.timed_by(trailing.column, (stays, required), &plan.order);
        }
        let mut properties = ExecutionProps::new();
        properties.config_options = Some(Arc::clone(options));
        let planning = PhysicalPlanningContext::default();
        let calls = (plan.calls.iter())
            .map(|call| {
                let expression = text::expression(call);
                match create_window_expr(call, input, &properties, &planning) {
                    Ok(physical) => Ok((expression, physical)),
                    Err(error) => Err(OperatorError::Unsupported {
                        expression,
                        reason: error.strip_backtrace(),
                    }),
                }
            })
            .collect::<Result<_, _>>()?;
        let results: Vec<DataType> = (output.fields().iter().skip(input.fields().len()))
            .map(|field| field.data_type().clone())
            .collect();
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                layout: Arc::new(layout),
                calls,
                results: KeyCodec::new(&results)
                    .map_err(|source| OperatorError::Row { operator, source })?,
                emit: plan.emit,
                trailing: plan.trailing,
                schema: batch_schema(output),
            }),
        })
    }

    /// Attaches it to a stream.
    pub fn render<'scope>(
        self,
        input: DeltaStream<'scope>,
        context: &Context,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> DeltaStream<'scope> {
        let prepared = self.prepared;
        let id = prepared.operator as u32;
        let layout = Arc::clone(&prepared.layout);
        let encode =
            move |delta, epoch: &EpochInfo, context: &Context| layout.encode(delta, epoch, context);
        let rows = encoded(input, "over, rows", context, prepared.operator, encode);
        let recorder = recorder.clone();
        let mut restored = restored.part(id);
        keyed(rows, "over", context, move |info: &OperatorInfo| {
            let mut kept = |trace: u32| {
                let (recorder, begins) = (recorder.for_trace(id, trace), restored.take(id, trace));
                Multiset::new(info.clone(), recorder, begins)
                    .map_err(|source| prepared.state_error(source))
            };
            let rows = kept(0)?;
            let passes = prepared.trailing.is_some() && prepared.emit == Emit::OnClose;
            let moments = passes.then(|| kept(MOMENTS)).transpose()?;
            Ok(Partitions {
                prepared,
                rows,
                moments,
            })
        })
    }
}

impl Prepared {
    fn row_error(&self, source: RowError) -> OperatorError {
        OperatorError::Row {
            operator: self.operator,
            source,
        }
    }

    fn state_error(&self, source: StateError) -> OperatorError {
        OperatorError::State {
            operator: self.operator,
            source,
        }
    }

    /// The rows of a partition, each as often as it is there, and their results.
    fn answer(&self, key: &[u8], rows: &Partition) -> Result<(Bytes, Bytes), OperatorError> {
        let (mut keys, mut values) = (Bytes::default(), Bytes::default());
        for (value, count) in rows {
            for _ in 0..*count {
                keys.push(key);
                values.push(value);
            }
        }
        if values.is_empty() {
            return Ok((values, Bytes::default()));
        }
        let batch = self.layout.decode((&keys, &values), None)?;
        let results = (self.calls.iter())
            .map(|(call, window)| {
                (window.evaluate(&batch)).map_err(|error| OperatorError::Expression {
                    expression: call.clone(),
                    row: String::new(),
                    reason: reason(&error),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let results = self.results.encode(&results);
        Ok((values, results.map_err(|source| self.row_error(source))?))
    }
}

/// One worker's rows.
struct Partitions {
    prepared: Arc<Prepared>,
    rows: Multiset,
    /// Where each row is given by itself: the partitions by the moments of rows that are not given yet.
    moments: Option<Multiset>,
}

impl Partitions {
    /// The rows of a partition before the epoch.
    fn partition(&self, key: &[u8]) -> Partition {
        let mut keys = Bytes::default();
        keys.push(key);
        let mut rows = Vec::new();
        self.rows.each(&keys, &mut |_, value, count| {
            rows.push((value.into(), count));
            true
        });
        rows
    }

    /// Gives the partitions whose bound the watermark has passed in this epoch.
    fn close(&self, epoch: &EpochInfo, given: &mut Given<'_>) -> Result<(), OperatorError> {
        let layout = &self.prepared.layout;
        let mut partition: (Vec<u8>, Partition) = Default::default();
        let mut failure = None;
        let (after, upto) = (layout.late(epoch), layout.complete(epoch));
        self.rows.due(after, upto, &mut |key, value, count| {
            if failure.is_some() {
                return;
            }
            if partition.0 != key {
                failure = given.whole(&partition.0, &partition.1).err();
                partition = (key.to_vec(), Vec::new());
            }
            partition.1.push((value.into(), count));
        });
        match failure {
            Some(error) => Err(error),
            None => given.whole(&partition.0, &partition.1),
        }
    }
}

/// The rows of a partition after changes, which are sorted.
fn changed(before: &Partition, changes: &[Change<'_>]) -> Partition {
    let mut changes = changes.iter().peekable();
    let mut after = Partition::new();
    for (value, count) in before {
        while let Some(change) = changes.next_if(|change| *change.value < **value) {
            after.push((change.value.into(), change.diff));
        }
        let same = changes.next_if(|change| *change.value == **value);
        after.push((value.clone(), count + same.map_or(0, |change| change.diff)));
    }
    after.extend(changes.map(|change| (change.value.into(), change.diff)));
    after.retain(|(_, count)| *count != 0);
    after
}

impl Keyed for Partitions {
    fn operator(&self) -> usize {
        self.prepared.operator
    }

    fn epoch(
        &mut self,
        epoch: &EpochInfo,
        rows: &[Rows],
        give: &mut dyn FnMut(Delta),
    ) -> Result<OperatorStats, OperatorError> {
        let mut stats = OperatorStats {
            name: NAME.into(),
            ..OperatorStats::default()
        };
        let time = epoch.time();
        let before = self.rows.size().rows;
        let prepared = Arc::clone(&self.prepared);
        let mut given = Given::new(&prepared, time, give);
        stats.rows_updated = match (&prepared.trailing, &mut self.moments) {
            (Some(trailing), Some(moments)) => {
                let mut passing = Passing {
                    prepared: &prepared,
                    trailing,
                    rows: &mut self.rows,
                    moments,
                };
                let came = passing.advance(epoch, rows, &mut given)?;
                stats.memory_used_bytes += moments.size().bytes;
                moments.forget(time);
                came
            }
            _ => self.change(epoch, rows, &mut given)?,
        };
        given.flush()?;
        self.rows.forget(time);
        let known = before + stats.rows_updated;
        stats.rows_removed = known.saturating_sub(self.rows.size().rows);
        stats.add_size(self.rows.size());
        if self.prepared.emit == Emit::OnClose {
            stats.add_waiting(&self.rows.waiting());
        }
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        let moments = self.moments.as_mut();
        self.rows.work(IDLE_EFFORT) | moments.is_some_and(|moments| moments.work(IDLE_EFFORT))
    }
}

impl Partitions {
    /// Takes in the rows of an epoch, and gives what changes, or the partitions that are complete. How many
    /// rows came.
    fn change(
        &mut self,
        epoch: &EpochInfo,
        rows: &[Rows],
        given: &mut Given<'_>,
    ) -> Result<u64, OperatorError> {
        let prepared = &self.prepared;
        let mut kept = Vec::new();
        let changes = changes_of(rows);
        for changes in changes.chunk_by(|one, other| one.key == other.key) {
            let key = changes[0].key;
            for change in changes {
                let expiry = prepared.layout.expiry_of(key, change.value);
                Rows::push_to(&mut kept, (key, change.value), change.diff, expiry);
            }
            if prepared.emit == Emit::OnClose {
                continue;
            }
            let before = self.partition(key);
            let after = changed(&before, changes);
            if after.iter().any(|(_, count)| *count < 0) {
                return Err(OperatorError::Internal {
                    operator: prepared.operator,
                    reason: "a partition has fewer rows than were taken from it".into(),
                });
            }
            given.difference(key, &before, &after)?;
        }
        let applied = self.rows.apply_parts(epoch.time(), &kept);
        applied.map_err(|source| prepared.state_error(source))?;
        if prepared.emit == Emit::OnClose {
            self.close(epoch, given)?;
        }
        Ok(changes.len() as u64)
    }
}

/// What an epoch gives.
struct Given<'a> {
    prepared: &'a Prepared,
    time: Time,
    keys: Bytes,
    values: Bytes,
    results: Bytes,
    diffs: Vec<i64>,
    give: &'a mut dyn FnMut(Delta),
}

impl<'a> Given<'a> {
    fn new(prepared: &'a Prepared, time: Time, give: &'a mut dyn FnMut(Delta)) -> Self {
        Self {
            prepared,
            time,
            keys: Bytes::default(),
            values: Bytes::default(),
            results: Bytes::default(),
            diffs: Vec::new(),
            give,
        }
    }

    /// What differs in a partition.
    fn difference(
        &mut self,
        key: &[u8],
        before: &Partition,
        after: &Partition,
    ) -> Result<(), OperatorError> {
        let (before, after) = (
            self.prepared.answer(key, before)?,
            self.prepared.answer(key, after)?,
        );
        let mut diffs: BTreeMap<(&[u8], &[u8]), i64> = BTreeMap::new();
        for ((values, results), diff) in [(&before, -1), (&after, 1)] {
            for row in values.iter().zip(results.iter()) {
                *diffs.entry(row).or_default() += diff;
            }
        }
        for ((value, result), diff) in diffs.into_iter().filter(|(_, diff)| *diff != 0) {
            self.push(key, (value, result), diff)?;
        }
        Ok(())
    }

    /// A partition that is complete.
    fn whole(&mut self, key: &[u8], rows: &Partition) -> Result<(), OperatorError> {
        let (values, results) = self.prepared.answer(key, rows)?;
        for row in values.iter().zip(results.iter()) {
            self.push(key, row, 1)?;
        }
        Ok(())
    }

    /// Of a partition the rows behind a moment, with which their values begin.
    fn behind(
        &mut self,
        key: &[u8],
        rows: &Partition,
        moment: EventTime,
    ) -> Result<(), OperatorError> {
        let (values, results) = self.prepared.answer(key, rows)?;
        for row in values.iter().zip(results.iter()) {
            if read_bound(row.0) > moment {
                self.push(key, row, 1)?;
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        key: &[u8],
        (value, result): (&[u8], &[u8]),
        diff: i64,
    ) -> Result<(), OperatorError> {
        self.keys.push(key);
        self.values.push(value);
        self.results.push(result);
        self.diffs.push(diff);
        if self.diffs.len() == BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OperatorError> {
        let prepared = self.prepared;
        let diffs = std::mem::take(&mut self.diffs);
        if diffs.is_empty() {
            return Ok(());
        }
        let rows = (prepared.layout).decode((&self.keys, &self.values), None)?;
        let results = prepared.results.decode(self.results.iter());
        let mut columns = rows.columns().to_vec();
        columns.extend(results.map_err(|source| prepared.row_error(source))?);
        let batch = record_batch(&prepared.schema, columns, diffs.len())?;
        self.keys.clear();
        self.values.clear();
        self.results.clear();
        (self.give)(Delta {
            batch,
            diffs: diffs.iter().any(|diff| *diff != 1).then(|| diffs.into()),
            origin: None,
            time: self.time,
        });
        Ok(())
    }
}
