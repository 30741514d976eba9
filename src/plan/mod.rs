//! From SQL or `DataFrame` to a [`Plan`]: plain data that `compile` turns into a dataflow.
//!
//! The way of a query: text -> [`sql`] (our DDL and settings, `DataFusion`'s SQL for the rest) ->
//! `DataFusion`'s analysed and optimised `LogicalPlan` -> [`convert`] (which operator keeps what,
//! until when) -> [`modes`] (what the output mode asks for, or why it cannot be) -> [`Plan`].
//!
//! Invariants of a `Plan`, which `compile` may rely on:
//!
//! 1. Every expression is resolved against the schema of the node's input, is type-coerced, and
//!    holds no aggregate, window or sub-query. Beside the columns of that schema it may name those
//!    of [`Supplied`]; the position of a row only where its input is [`Node::positioned`].
//! 2. `Node::columns` has one entry for each field of `Node::schema`.
//! 3. An `Aggregate`'s schema is its keys, then its calls, in order.
//! 4. Node ids are dense, in post-order, and the same whenever the same text is planned: state on
//!    disk is named by them.

pub mod batch;
mod batch_floats;
mod batch_joins;
mod batch_nearest;
mod batch_ranks;
mod batch_sessions;
mod batch_unions;
pub mod broadcast;
pub mod catalog;
pub mod coercion;
pub mod context;
pub mod convert;
pub mod deduplicate;
pub mod error;
pub mod event_time;
pub mod explain;
pub mod fingerprint;
pub mod functions;
mod grouping_sets;
mod held_back;
pub mod join;
mod lineage;
mod marks;
mod membership;
pub mod modes;
pub mod nearest;
mod ordering;
pub mod outline;
pub mod panes;
mod ranks;
pub mod reason;
pub mod redact;
mod room;
pub mod sessions;
pub mod sql;
pub mod supplied;
pub mod text;

#[cfg(test)]
mod tests;

pub use convert::plan_query;
pub use error::PlanError;
pub use join::{Join, JoinKind, Nearest};
pub use ordering::{OrderBy, ResultOrder};
pub use outline::Outline;
pub use ranks::{Deduplicate, Known, Over, Rank, RankFunction, Trailing};
pub use supplied::Supplied;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::{Expr, SortExpr};
use serde::{Deserialize, Serialize};
use tidemark_connectors::sources::snapshots::Refresh;
use tidemark_connectors::{Options, OutputMode};

use crate::row::{BitOperation, Statistic};

/// One query, ready to be compiled.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The query's name: `queryName`, or the name of the table that it writes to.
    pub name: String,
    /// The sources, by the index that [`Operator::Source`] names.
    pub sources: Vec<SourceTable>,
    /// The operator that gives the result.
    pub root: Node,
    /// The columns of the result, as the sink sees them.
    pub schema: SchemaRef,
    /// Where the result goes.
    pub sink: SinkTable,
    /// How the rows are put in order; only in complete mode.
    pub order: Option<ResultOrder>,
    /// What the sink is told.
    pub mode: OutputMode,
    /// Why that mode is allowed, in a sentence for `EXPLAIN`.
    pub mode_reason: String,
    /// When epochs start.
    pub trigger: Trigger,
    /// The columns of the result that identify a row, where they are known.
    pub key: Option<Vec<usize>>,
    /// All rows of one key come from one worker: it is what the result is grouped by.
    pub key_is_group: bool,
    /// The query's own settings (`checkpointLocation` and the like), defaults filled in.
    pub settings: QuerySettings,
    /// What becomes of a row whose expression fails.
    pub on_error: catalog::OnError,
    /// Where such rows go, if anywhere.
    pub dead_letter: Option<SinkTable>,
    /// Where rows go that come too late; `None`: nowhere, they are counted.
    pub late_rows: Option<SinkTable>,
    /// What `DataFusion` answers as a batch: the same query over the same tables.
    pub logical: datafusion::logical_expr::LogicalPlan,
}

/// A table that a query reads.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// As SQL calls it.
    pub name: String,
    /// `'connector'`.
    pub connector: String,
    /// The rest of the options, the source's own.
    pub options: Options,
    /// The columns of a row, without the metadata column.
    pub schema: SchemaRef,
    /// Its event time, if it has one.
    pub watermark: Option<Watermark>,
    /// `false`: a static table, read as a whole at the start. It has no event time.
    pub streaming: bool,
    /// When a static table is read again; `None`: never. Its rows can change then.
    pub refresh: Option<Refresh>,
    /// About how many bytes a static table had when the query was planned, where that was asked and is known.
    pub bytes: Option<u64>,
}

/// `WATERMARK FOR column AS column - delay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Index of the column in the table's schema. TIMESTAMP, microseconds, UTC.
    pub column: usize,
    /// How far behind the greatest event time the watermark stays.
    pub delay: Duration,
    /// After how long without data a partition stops holding the watermark back.
    pub idle_timeout: Option<Duration>,
}

/// The table that a query writes.
#[derive(Clone, Debug)]
pub struct SinkTable {
    /// As SQL calls it.
    pub name: String,
    /// `'connector'`.
    pub connector: String,
    /// The rest of the options, the sink's own.
    pub options: Options,
}

/// When an epoch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At multiples of the interval; zero: as soon as the one before is done.
    ProcessingTime(Duration),
    /// All that is there at the start, in as many epochs as the limits ask for; then the end.
    AvailableNow,
    /// All that is there at the start, in one epoch; then the end.
    Once,
    /// Short ticks; a commit each interval.
    Continuous(Duration),
}

/// What `SET` and the sink's options say about the query itself.
#[derive(Clone, Debug)]
pub struct QuerySettings {
    /// Where the query's progress and state are kept; `None`: nowhere, a restart begins anew.
    pub checkpoint_location: Option<String>,
    /// How many committed epochs stay restorable.
    pub min_batches_to_retain: u64,
    /// How several watermarks make one.
    pub watermark_policy: WatermarkPolicy,
    /// How far beyond the watermark rows are still taken in, and what was given is corrected.
    pub allowed_lateness: Duration,
    /// The session's time zone, which decides what a clock on the wall shows at an instant.
    pub time_zone: String,
    /// How much an epoch takes in, beside what its tables say.
    pub intake: Intake,
    /// What becomes of it when it fails in a way that may pass.
    pub retry: Retry,
    /// How long a query that is to end waits for a sink or source that does not answer.
    pub stop_timeout: Duration,
    /// Static tables up to so many bytes are given to every worker whole; `None`: none is.
    pub broadcast_threshold: Option<u64>,
}

/// How much an epoch takes in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intake {
    /// At most so many bytes of all sources; `None`: a share of the memory that there is.
    pub max_bytes: Option<u64>,
    /// Rows a second follow what the query gets done; `None`: all that is there.
    pub backpressure: Option<Backpressure>,
}

/// How rows a second follow what the query gets done: the terms of a PID controller, by Spark's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backpressure {
    /// Rows a second of each source until the first epoch has shown what gets done.
    pub initial_rate: Option<f64>,
    /// The weight of the difference between the last rate and what got done.
    pub proportional: f64,
    /// The weight of what epochs took longer than their interval.
    pub integral: f64,
    /// The weight of how the difference changes.
    pub derived: f64,
    /// The rate does not fall below it.
    pub least: f64,
}

/// Trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// How many failures may follow each other without a committed epoch between them.
    pub most: u32,
    /// How long to wait before each new try.
    pub interval: Duration,
}

/// `spark.sql.streaming.multipleWatermarkPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatermarkPolicy {
    /// The slowest source decides.
    Min,
    /// The fastest source decides.
    Max,
}

/// One operator with all that feeds it.
#[derive(Clone, Debug)]
pub struct Node {
    /// See invariant 4.
    pub id: usize,
    /// What it does.
    pub operator: Operator,
    /// What feeds it.
    pub inputs: Vec<Node>,
    /// What it gives.
    pub schema: DFSchemaRef,
    /// What is known of each column's event time.
    pub columns: Vec<Option<EventTimeColumn>>,
    /// Its output never retracts a row.
    pub append_only: bool,
}

impl Node {
    /// Whether each row that it gives still is one row that was read, or an element of one: such
    /// rows have a position ([`Supplied::Position`]), and none is ever retracted.
    pub fn positioned(&self) -> bool {
        match &self.operator {
            Operator::Source { .. } => self.append_only,
            Operator::FilterProject { .. } | Operator::Unnest { .. } | Operator::Union => {
                self.inputs.iter().all(Self::positioned)
            }
            Operator::Aggregate(_)
            | Operator::SessionWindow(_)
            | Operator::Join(_)
            | Operator::Nearest(_)
            | Operator::Deduplicate(_)
            | Operator::Rank(_)
            | Operator::Over(_)
            | Operator::Values { .. } => false,
        }
    }
}

/// A column that carries event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTimeColumn {
    /// What the column is.
    pub kind: EventTimeKind,
    /// How far this edge may run behind the watermark, in microseconds.
    pub lag: i64,
}

/// What a column says about event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventTimeKind {
    /// A moment: the row is late when it lies at or below the watermark.
    Instant,
    /// The end of a window.
    WindowEnd,
    /// The start of a window of this length in microseconds.
    WindowStart(i64),
    /// A struct with `start` and `end`, the end at most this many microseconds after the start.
    Window(i64),
    /// A list of such windows, before its `Unnest`.
    Windows(i64),
    /// A struct with `start` and `end`, of any length.
    Session,
}

/// What an operator does.
#[derive(Clone, Debug)]
pub enum Operator {
    /// Reads a table.
    Source {
        /// Index into [`Plan::sources`].
        source: usize,
        /// The columns in use, ascending; the number of the table's columns is `_metadata`.
        projection: Vec<usize>,
    },
    /// Keeps the rows that pass, then computes columns.
    FilterProject {
        /// Rows for which this is not true are left out. Over the input.
        filter: Option<Expr>,
        /// The columns to give; `None`: the input's. Over the input.
        project: Option<Vec<Expr>>,
    },
    /// A row for each element of a list column.
    Unnest {
        /// Index of the list column; it is replaced by its element.
        column: usize,
        /// A row with an empty or null list stays, with a null element.
        keep_empty: bool,
    },
    /// All rows of all inputs.
    Union,
    /// Rows grouped by keys, with aggregates of each group. No keys: one group, always there.
    Aggregate(Aggregate),
    /// The session of each row, or aggregates of each session. Rows in no session are left out.
    SessionWindow(SessionWindow),
    /// Rows of the first input and of the second that belong together.
    Join(Box<Join>),
    /// Each row of the first input with the nearest row of the second.
    Nearest(Box<Nearest>),
    /// The first row of each key to arrive, at once. Over input that never retracts.
    Deduplicate(Deduplicate),
    /// The first rows of each partition by an order.
    Rank(Rank),
    /// Results of window functions behind the columns of each row.
    Over(Over),
    /// Constant rows, given once in the first epoch.
    Values {
        /// The rows, in this node's schema.
        rows: Vec<Vec<Expr>>,
    },
}

/// See [`Operator::Aggregate`].
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// The grouping expressions over the input.
    pub keys: Vec<Expr>,
    /// The aggregates. None: the distinct keys.
    pub calls: Vec<AggregateCall>,
    /// What says when a group is complete; `None`: never.
    pub bound: Option<Bound>,
    /// When results are given.
    pub emit: Emit,
}

/// See [`Operator::SessionWindow`].
#[derive(Clone, Debug)]
pub struct SessionWindow {
    /// Each row's own window over the input, before those that overlap or touch become one.
    pub window: Expr,
    /// What rows of one session have in common, over the input.
    pub partition: Vec<Expr>,
    /// `None`: each row is given, its session behind its columns. Aggregates over the input, which
    /// never retracts: one row is given for each session, the partition, the session, the results.
    pub calls: Option<Vec<AggregateCall>>,
    /// What the session says about event time: it is complete once its end, plus the lag, is at or
    /// below the watermark. `None`: never.
    pub bound: Option<EventTimeColumn>,
    /// When rows are given.
    pub emit: Emit,
}

/// When a group is complete, and so may be emitted and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Index of the key that carries the event time.
    pub key: usize,
    /// What that key is. A group is complete once its instant or window end, plus `lag`, is at or
    /// below the watermark.
    pub column: EventTimeColumn,
}

/// When a stateful operator gives results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Each epoch: the old row retracted, the new one inserted.
    Changes,
    /// Once, when the bound has passed.
    OnClose,
}

/// One aggregate of an [`Aggregate`].
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// What to compute.
    pub function: AggregateFunction,
    /// Over the input; `count(*)` has none.
    pub args: Vec<Expr>,
    /// The order of the group's rows, for functions that ask for one. Over the input.
    pub order: Vec<SortExpr>,
    /// Each value once.
    pub distinct: bool,
    /// `first`, `last` and `any_value` pass over nulls.
    pub ignore_nulls: bool,
    /// `FILTER (WHERE ...)` over the input.
    pub filter: Option<Expr>,
}

impl AggregateCall {
    /// Whether both count distinct values, and the same ones: those of other rows, if their filters differ. What is
    /// to be computed is computed only where the filter holds, so then it is not the same.
    pub fn counts_same_values(&self, other: &Self) -> bool {
        let is_given = |value: &Expr| matches!(value, Expr::Column(_) | Expr::Literal(..));
        let both = [self, other];
        both.iter()
            .all(|call| call.function == AggregateFunction::CountDistinct)
            && self.args == other.args
            && (self.filter == other.filter || self.args.iter().all(is_given))
    }
}

/// The aggregates that state can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// Rows, or rows where no argument is null.
    Count,
    /// Exact for integers, decimals and doubles, whatever the order.
    Sum,
    /// The exact sum divided by the count.
    Avg,
    /// [`AggregateFunction::Sum`], null where that overflows.
    TrySum,
    /// [`AggregateFunction::Avg`], null where that overflows.
    TryAvg,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Distinct combinations of non-null arguments.
    CountDistinct,
    /// `HyperLogLog`, with 2^`precision` registers.
    ApproxCountDistinct {
        /// From 4 to 16.
        precision: u8,
    },
    /// From exact power sums.
    Statistic(Statistic),
    /// From counts of set bits.
    Bits(BitOperation),
    /// The value of the first row by the call's order, then by the value.
    First,
    /// The value of the last row by the call's order, then by the value.
    Last,
    /// The first argument where the second is least; of several the least.
    MinBy,
    /// The first argument where the second is greatest; of several the greatest.
    MaxBy,
    /// All values by the call's order, then by value.
    CollectList,
    /// The distinct values, ascending.
    CollectSet,
    /// All values by the call's order, then by value, with a delimiter between.
    ListAgg,
    /// Between the values at a share of the way through all of them.
    Percentile,
    /// The value at a share of the way through all of them, as a double.
    PercentileDisc,
    /// The value at a share of the way through all of them: exact here.
    ApproxPercentile,
    /// `percentile(x, 0.5)`.
    Median,
    /// The value that comes most often; of several the first by the call's order.
    Mode,
    /// At most so many bins, merged from the values in their order.
    HistogramNumeric,
    /// The values that come most often with how often that is, the most frequent first.
    TopK,
    /// The distinct elements of all arrays, ascending.
    CollectUnion,
    /// A bitmap of the numbers that come.
    BitmapOf,
    /// The bits that all bitmaps have.
    BitmapAnd,
    /// The bits that any bitmap has.
    BitmapOr,
    /// Spark's Count-Min sketch.
    CountMinSketch,
}

impl AggregateFunction {
    /// Whether its state is all the values of a group: accumulators of two groups do not make those of
    /// both.
    pub const fn keeps_values(self) -> bool {
        matches!(
            self,
            Self::CollectList
                | Self::CollectSet
                | Self::ListAgg
                | Self::Percentile
                | Self::PercentileDisc
                | Self::ApproxPercentile
                | Self::Median
                | Self::Mode
                | Self::HistogramNumeric
                | Self::TopK
                | Self::CollectUnion
                | Self::BitmapOf
                | Self::BitmapAnd
                | Self::BitmapOr
                | Self::CountMinSketch
        )
    }
}

impl Aggregate {
    /// Only keys, no calls: `SELECT DISTINCT`.
    pub fn is_distinct(&self) -> bool {
        self.calls.is_empty() && !self.keys.is_empty()
    }
}

impl fmt::Display for AggregateCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::aggregate_call(self, &text::expression))
    }
}

/// A shared pointer, as `DataFusion` hands them around.
pub type PlanRef = Arc<Plan>;
