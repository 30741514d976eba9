//! The first row of each key to arrive, over rows that are never taken back.
//!
//! Two stages. Rows are encoded where they are, each behind what says which of an epoch's rows came
//! first, and sent to the worker that owns their key; there, once the epoch is complete, the first row of
//! each key that is not known is given.
//!
//! State (trace 0): each key that has come, without its row. It expires when the watermark passes the
//! event time in the key, or that of its first row by the delay, or never. Rows that come too late by
//! their event time are left out.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::Expr;
use timely::dataflow::operators::generic::OperatorInfo;

use crate::operators::dead_letter::sift;
use crate::operators::expression::{Expressions, batch_schema, record_batch};
use crate::operators::keyed::{Keyed, encoded, keyed};
use crate::operators::late::Late;
use crate::operators::moment::moments;
use crate::operators::{
    Context, DeltaStream, EpochInfo, OperatorError, OperatorStats, Restored, behind, expires,
};
use crate::plan::{self, EventTimeColumn, Known};
use crate::row::{Delta, KeyCodec, RowError, ValueCodec};
use crate::state::{IDLE_EFFORT, Recorder, Rows, StateError, Table, TableKind, places_by_key};
use crate::time::{EventTime, NEVER, Time};

/// Rows are given in batches of this size.
const BATCH: usize = 8192;

/// A deduplication ready to be attached to a stream.
pub struct Deduplicate {
    prepared: Arc<Prepared>,
}

/// What both stages share.
struct Prepared {
    operator: usize,
    /// The keys, the order, and the event time where rows have one.
    expressions: Expressions,
    keys: KeyCodec,
    order: KeyCodec,
    rows: ValueCodec,
    time: Option<EventTimeColumn>,
    known: Known,
    schema: SchemaRef,
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

    /// What progress calls this operator.
    fn name(&self) -> &'static str {
        match self.known {
            Known::Within(_) => "dedupeWithinWatermark",
            Known::Always | Known::UntilPassed => "dedupe",
        }
    }

    /// The event time of each row; [`NEVER`] where it has none.
    fn times(&self, columns: &[ArrayRef], rows: usize) -> Vec<EventTime> {
        match (self.time, columns.last()) {
            (Some(column), Some(time)) => moments(column.kind, time, rows),
            _ => vec![NEVER; rows],
        }
    }

    /// When the key of a row of this time goes, if it is the first.
    fn expiry(&self, time: EventTime) -> EventTime {
        let lag = self.time.map_or(0, |column| column.lag);
        match self.known {
            Known::Always => NEVER,
            Known::UntilPassed => expires(time, lag),
            Known::Within(delay) => expires(time, lag.saturating_add(delay)),
        }
    }

    /// The rows of a batch by their keys: what orders them, the row, and the length of the first.
    fn encode(
        &self,
        delta: Delta,
        epoch: &EpochInfo,
        context: &Context,
    ) -> Result<Rows, OperatorError> {
        let (delta, columns) = sift(delta, context, |delta| {
            self.expressions.evaluate(delta, epoch)
        })?;
        let (keys, rest) = columns.split_at(self.keys.types().len());
        let order = &rest[..self.order.types().len()];
        let times = self.times(&columns, delta.rows());
        let lag = self.time.map_or(0, |column| column.lag);
        let late_at = behind(epoch.previous_watermark, lag);
        let mut late = Late::default();
        let failed = |source| self.row_error(source);
        let keys = self.keys.encode(keys).map_err(failed)?;
        let order = self.order.encode(order).map_err(failed)?;
        let encoded = self.rows.encode(delta.batch.columns()).map_err(failed)?;
        let mut rows = Rows::new(delta.time);
        let mut value = Vec::new();
        for (row, time) in times.into_iter().enumerate() {
            if time <= late_at && time != NEVER {
                late.add(row, time);
                continue;
            }
            value.clear();
            value.extend_from_slice(order.get(row));
            value.extend_from_slice(encoded.get(row));
            value.extend_from_slice(&(order.get(row).len() as u32).to_be_bytes());
            rows.push(keys.get(row), &value, 1, self.expiry(time));
        }
        late.report((self.operator, self.name()), &delta, epoch, context)?;
        Ok(rows)
    }
}

/// The row of what travels.
fn row_of(value: &[u8]) -> &[u8] {
    let (value, length) = value.split_last_chunk().unwrap_or((value, &[0; 4]));
    value
        .get(u32::from_be_bytes(*length) as usize..)
        .unwrap_or_default()
}

impl Deduplicate {
    /// Prepares the deduplication of node `operator` over rows of `input`, which it gives as they are;
    /// `options` are what expressions are computed with.
    pub fn new(
        operator: usize,
        plan: &plan::Deduplicate,
        input: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Row { operator, source };
        let time = plan.time.as_ref().map(|(expr, _)| expr);
        let all: Vec<&Expr> = plan.keys.iter().chain(&plan.order).chain(time).collect();
        let expressions = Expressions::new(all, input, options)?;
        let types = expressions.types(input)?;
        let (keys, rest) = types.split_at(plan.keys.len());
        let row_types: Vec<DataType> = (input.fields().iter())
            .map(|field| field.data_type().clone())
            .collect();
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                keys: KeyCodec::new(keys).map_err(failed)?,
                order: KeyCodec::new(&rest[..plan.order.len()]).map_err(failed)?,
                rows: ValueCodec::new(&row_types).map_err(failed)?,
                expressions,
                time: plan.time.as_ref().map(|(_, column)| *column),
                known: plan.known,
                schema: batch_schema(input),
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
        let encoding = Arc::clone(&prepared);
        let rows = encoded(
            input,
            "deduplicate, rows",
            context,
            prepared.operator,
            move |delta, epoch, context| encoding.encode(delta, epoch, context),
        );
        let (recorder, kept) = (recorder.for_trace(id, 0), restored.take(id, 0));
        keyed(rows, "deduplicate", context, move |info: &OperatorInfo| {
            let keys = Table::new(TableKind::AppendOnly, info.clone(), recorder, kept)
                .map_err(|source| prepared.state_error(source))?;
            Ok(First { prepared, keys })
        })
    }
}

/// One worker's keys.
struct First {
    prepared: Arc<Prepared>,
    keys: Table,
}

impl Keyed for First {
    fn operator(&self) -> usize {
        self.prepared.operator
    }

    fn epoch(
        &mut self,
        epoch: &EpochInfo,
        rows: &[Rows],
        give: &mut dyn FnMut(Delta),
    ) -> Result<OperatorStats, OperatorError> {
        let prepared = &self.prepared;
        // What was forgotten before a restart may still be there.
        let before = Time::new(epoch.epoch, epoch.previous_watermark);
        self.keys.forget(before);
        let place = |at: &(u64, u32, u32)| (&rows[at.1 as usize], at.2 as usize);
        let value = |at: &(u64, u32, u32)| {
            let (rows, row) = place(at);
            rows.vals.get(row)
        };
        let places = places_by_key(rows);
        let mut keys = crate::row::Bytes::default();
        let mut firsts = Vec::new();
        for same in places.chunk_by(|a, b| {
            let ((one, a), (other, b)) = (place(a), place(b));
            one.keys.get(a) == other.keys.get(b)
        }) {
            let Some(first) = same.iter().min_by_key(|at| value(at)) else {
                continue;
            };
            let (rows, row) = place(first);
            keys.push(rows.keys.get(row));
            firsts.push(*first);
        }
        let mut known = vec![false; firsts.len()];
        self.keys.get(&keys, &mut |index, _| known[index] = true);
        let mut changes = self.keys.changes();
        let mut fresh = Vec::new();
        for (index, first) in firsts
            .iter()
            .enumerate()
            .filter(|(index, _)| !known[*index])
        {
            let (rows, row) = place(first);
            changes.push(keys.get(index), None, Some(&[]), rows.expiry.get(row));
            fresh.push(*first);
        }
        for fresh in fresh.chunks(BATCH) {
            let columns = prepared
                .rows
                .decode(fresh.iter().map(|at| row_of(value(at))))
                .map_err(|source| prepared.row_error(source))?;
            let batch = record_batch(&prepared.schema, columns, fresh.len())?;
            give(Delta::inserts(batch, epoch.time()));
        }
        let mut stats = OperatorStats {
            name: prepared.name().into(),
            ..OperatorStats::default()
        };
        stats.rows_updated = fresh.len() as u64;
        let failed = |source| prepared.state_error(source);
        self.keys.apply(epoch.time(), &changes).map_err(failed)?;
        let before = self.keys.size().rows;
        self.keys.forget(epoch.time());
        stats.rows_removed = before.saturating_sub(self.keys.size().rows);
        stats.add_size(self.keys.size());
        Ok(stats)
    }

    fn work(&mut self) -> bool {
        self.keys.work(IDLE_EFFORT)
    }
}
