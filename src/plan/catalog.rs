//! The tables that a script declares, and the statements that become queries.
//!
//! [`QueryStatement`] is what [`super::sql`] hands to `convert`: the analysed and optimised
//! `LogicalPlan` and all that options and settings say about the query, already parsed.
//!
//! What `convert` may rely on in [`QueryStatement::logical`]:
//!
//! - Every `TableScan`'s `table_name` is the `name` of one of [`QueryStatement::sources`], bare and
//!   in lower case; its columns are the table's by position ([`CatalogTable::schema`]), then
//!   `_metadata` where the query names it. `projection` is always filled in. The names inside the
//!   plan are in lower case (names resolve without case); the result's fields are spelt as the
//!   user wrote them.
//! - `SELECT DISTINCT` and `UNION` without `ALL` are an `Aggregate` without calls.
//! - `count(DISTINCT x)` stays one aggregate call with `distinct` set.
//! - `current_timestamp()`, `now()` and `current_date()` are the volatile functions of
//!   [`super::functions::clock`]: [`super::functions::clock::is_current_timestamp`] knows them.
//!   `current_date()` is written `__local_date(current_timestamp(), zone)`.
//! - `approx_count_distinct(x, precision)` has its precision (4 to 16) as a literal second argument
//!   of type INT, put there from `relativeSD`.
//! - A sliding window is `Unnest` over a projection that computes `__sliding_windows(ts, size,
//!   slide, start)`; a tumbling one the scalar `__tumbling_window(ts, size, start)`: sizes are
//!   literals in microseconds. HOP and CUMULATE use the same `Unnest`. `window_start` and
//!   `window_end` of a table function are `get_field` of the struct.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use tidemark_connectors::sources::snapshots::Refresh;
use tidemark_connectors::{Options, OutputMode};

use super::{QuerySettings, SinkTable, Trigger, Watermark};

/// A place in a script: line and column count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// A table as `CREATE TABLE` declares it, with its options resolved.
#[derive(Clone, Debug)]
pub struct CatalogTable {
    /// As the script spells it.
    pub name: String,
    /// `'connector'`.
    pub connector: String,
    /// The connector's own options: the engine's are taken out, `${ENV:NAME}` is filled in.
    pub options: Options,
    /// The columns: declared, or learnt from the source. `None`: a sink that takes its query's.
    pub schema: Option<SchemaRef>,
    /// Whether the script declares the columns.
    pub declared: bool,
    /// The fields of `_metadata`; empty where the source has none or was not opened.
    pub metadata: SchemaRef,
    /// Its event time.
    pub watermark: Option<Watermark>,
    /// The columns of `PRIMARY KEY`, by index.
    pub primary_key: Vec<usize>,
    /// `'streaming' = 'false'` makes it a static table.
    pub streaming: bool,
    /// When a static table is read again; `None`: it is read once.
    pub refresh: Option<Refresh>,
    /// The engine's own options of the table.
    pub engine: EngineOptions,
    /// Where it was declared.
    pub position: Position,
}

/// What a table's options say to the engine rather than to the connector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineOptions {
    /// `outputMode`.
    pub mode: Option<OutputMode>,
    /// `trigger`.
    pub trigger: Option<Trigger>,
    /// `checkpointLocation`.
    pub checkpoint_location: Option<String>,
    /// `queryName`.
    pub query_name: Option<String>,
    /// `onError`: what becomes of a row whose expression fails.
    pub on_error: OnError,
    /// `deadLetter`: the table that such rows go to.
    pub dead_letter: Option<String>,
    /// The query's own settings while it runs, by name in lower case.
    pub settings: BTreeMap<String, String>,
    /// `lateRows`: what becomes of a row that comes too late.
    pub late_rows: Option<LateRows>,
    /// `allowedLateness`: how late a row may be and is still taken in.
    pub allowed_lateness: Option<Duration>,
}

/// `'lateRows'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LateRows {
    /// They are counted.
    Drop,
    /// They go to this table.
    Table(String),
    /// What was given is corrected, as long as `allowedLateness` says; later ones are counted.
    Correct,
}

/// `'onError'`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The query ends and says which row it was.
    #[default]
    Fail,
    /// The row goes to the dead-letter table.
    DeadLetter,
}

/// A table that a query reads.
#[derive(Clone, Debug)]
pub struct QuerySource {
    /// As the plan's scans call it.
    pub name: String,
    /// What it is. Its schema is always known, and its watermark is the one that this query uses.
    pub table: Arc<CatalogTable>,
}

/// One query of a script, planned.
#[derive(Clone, Debug)]
pub struct QueryStatement {
    /// `queryName`, or the table that it writes to, or `query1` and so on for a bare `SELECT`.
    pub name: String,
    /// The table that it writes to; `None`: the console.
    pub target: Option<String>,
    /// Where the rows go.
    pub sink: SinkTable,
    /// `outputMode` where it was said.
    pub mode: Option<OutputMode>,
    /// When epochs start.
    pub trigger: Trigger,
    /// The query's own settings, defaults filled in.
    pub settings: QuerySettings,
    /// What becomes of a row whose expression fails.
    pub on_error: OnError,
    /// The dead-letter table.
    pub dead_letter: Option<Arc<CatalogTable>>,
    /// The table of rows that come too late.
    pub late_rows: Option<Arc<CatalogTable>>,
    /// The sink's `PRIMARY KEY`, by index into the result.
    pub primary_key: Vec<usize>,
    /// Analysed and optimised; see the module's header.
    pub logical: LogicalPlan,
    /// What it reads, in the order of first use.
    pub sources: Vec<QuerySource>,
    /// The script's file, as errors call it.
    pub file: String,
    /// Where it begins.
    pub position: Position,
}

/// One statement of a script.
#[derive(Clone, Debug)]
pub enum Statement {
    /// `INSERT INTO t SELECT ...` or a bare `SELECT`.
    Query(Box<QueryStatement>),
    /// `EXPLAIN` of a query.
    Explain(Box<QueryStatement>),
    /// `CREATE TABLE`.
    CreateTable(Arc<CatalogTable>),
    /// `CREATE VIEW`.
    CreateView {
        /// Its name.
        name: String,
    },
    /// `SET`.
    Set {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
    },
    /// `DROP TABLE` or `DROP VIEW`.
    Drop {
        /// What was dropped.
        name: String,
    },
    /// `SHOW`, `DESCRIBE`, or `SET` without a value: answered as things stood at this statement.
    Answer(Answer),
    /// `SHOW QUERIES`.
    ShowQueries(QueriesAt),
    /// `STOP QUERY`.
    StopQuery {
        /// Which.
        name: String,
        /// Where it is said.
        at: QueriesAt,
    },
}

/// What a statement answers without running a query.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Rows of text columns.
    Rows(RecordBatch),
    /// Text of one or more lines.
    Text(String),
}

/// The place of a statement about running queries: a script that starts its queries side by side
/// has none to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueriesAt {
    /// The script's file, as errors call it.
    pub file: String,
    /// Where the statement begins.
    pub position: Position,
}

/// All statements of a script, in order.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The statements.
    pub statements: Vec<Statement>,
}

impl Script {
    /// The queries that are to run, without those that are only explained.
    pub fn queries(&self) -> impl Iterator<Item = &QueryStatement> {
        self.statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::Query(query) => Some(&**query),
                _ => None,
            })
    }
}
