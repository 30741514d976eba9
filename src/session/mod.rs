//! What users hold: a [`Session`] that plans scripts, starts their queries and knows what runs.
//!
//! ```no_run
//! use tidemark::session::Session;
//!
//! let session = Session::builder().workers(2).build()?;
//! let queries = session.sql(
//!     "CREATE TABLE events (user STRING, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
//!        WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json');
//!      SELECT window.start, user, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), user;",
//! )?;
//! for query in queries {
//!     query.await_termination()?;
//! }
//! # Ok::<(), tidemark::session::SessionError>(())
//! ```

mod dataframe;
mod look;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemark_connectors::sinks::memory::{MemorySink, MemoryTable};
use tidemark_connectors::sources::is_always_static;
use tidemark_connectors::sources::memory::MemorySource;
use tidemark_connectors::sources::snapshots::SnapshotSource;
use tidemark_connectors::storage::{Disk, Storage};
use tidemark_connectors::{
    ConnectorError, Options, Sink, SinkConfig, Source, open_sink, open_source,
};

use crate::plan::broadcast::tables_looked_up;
use crate::plan::catalog::{QueryStatement, Script, Statement};
use crate::plan::error::{Excerpt, PlanErrorKind};
use crate::plan::sql::{OpenSource, ScriptOptions, SourceSchema, SqlSession};
use crate::plan::{Plan, PlanError, SinkTable, batch, plan_query};
use crate::runtime::cluster::{Cluster, ClusterConfig};
use crate::runtime::dead_letters;
use crate::runtime::http::{Board, ServeError, Server, pages};
use crate::runtime::late_rows;
use crate::runtime::metrics::Metrics;
use crate::runtime::query::Listener;
use crate::runtime::{QueryConfig, QueryError, Sources, StreamingQuery, clock, start_from};

pub use look::Selected;

pub use dataframe::{Column, DataFrame, DataStreamReader, DataStreamWriter, GroupedData};
pub use dataframe::{
    approx_count_distinct, avg, col, count, count_distinct, expr, lit, max, min, session_window,
    session_window_by, sum, window, window_with,
};

/// The label `app_id` of metrics where nobody sets `spark.app.id` or `spark.app.name`.
const APP_ID: &str = "tidemark";

/// What can go wrong between a user and a running query.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The text or the plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The query.
    #[error("query '{name}': {source}")]
    Query {
        /// Its name.
        name: String,
        /// Why.
        source: QueryError,
    },
    /// A query ended with an error.
    #[error(transparent)]
    Ended(#[from] QueryError),
    /// A connector.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// Metrics, or what else is asked for over HTTP, cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A setting of the session.
    #[error("{0}")]
    Setting(String),
}

/// Builds a [`Session`].
#[derive(Clone, Debug)]
pub struct SessionBuilder {
    workers: usize,
    cluster: Option<ClusterConfig>,
    storage: Arc<dyn Storage>,
    metrics: Option<String>,
    http: Option<String>,
    settings: Vec<(String, String)>,
}

impl SessionBuilder {
    /// Worker threads of each query; 1 unless told otherwise.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The processes that run each query together; this one alone unless told otherwise. All run
    /// the same script, with the same number of workers each.
    #[must_use]
    pub fn cluster(mut self, config: ClusterConfig) -> Self {
        self.cluster = Some(config);
        self
    }

    /// Where checkpoints and sinks write their files; the file system unless told otherwise.
    #[must_use]
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = storage;
        self
    }

    /// Serves metrics of the session's queries for Prometheus, at `/metrics` on this address,
    /// `HOST:PORT`; with port 0 on any that is free ([`Session::metrics_address`]). Of several
    /// processes the first serves, which has the progress of all.
    #[must_use]
    pub fn metrics(mut self, address: impl Into<String>) -> Self {
        self.metrics = Some(address.into());
        self
    }

    /// Serves the session's queries over HTTP on this address, `HOST:PORT` or a port on the loopback
    /// interface; with port 0 on any that is free ([`Session::http_address`]): their progress and plans,
    /// what probes ask, and `/metrics`. Of several processes the first serves.
    #[must_use]
    pub fn http(mut self, address: impl Into<String>) -> Self {
        self.http = Some(address.into());
        self
    }

    /// A setting, as `SET 'key' = 'value'` in a script; it holds against the script's own.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// The session.
    pub fn build(self) -> Result<Session, SessionError> {
        if self.workers == 0 || self.workers > 256 {
            return Err(SessionError::Setting(format!(
                "a query runs on 1 to 256 workers, not on {}",
                self.workers
            )));
        }
        let known = Arc::new(Known::default());
        let setting = |key: &str| {
            let mut settings = self.settings.iter().rev();
            let found = settings.find(|(name, _)| name.eq_ignore_ascii_case(key));
            found.map(|(_, value)| value.clone())
        };
        let app_id = setting("spark.app.id").or_else(|| setting("spark.app.name"));
        let options = ScriptOptions {
            settings: self.settings,
        };
        let sql = SqlSession::new(&options)?.with_opener(opener(&known));
        let follows = self.cluster.as_ref().is_some_and(|c| c.process > 0);
        let cluster = self.cluster.map(Cluster::open).transpose()?;
        let (metrics_at, http_at) = if follows {
            (None, None)
        } else {
            (self.metrics, self.http)
        };
        let metrics = (metrics_at.is_some() || http_at.is_some()).then(|| {
            let app_id = app_id.unwrap_or_else(|| APP_ID.into());
            Arc::new(Metrics::new(app_id))
        });
        let mut served = Served::default();
        if let (Some(address), Some(metrics)) = (&metrics_at, &metrics) {
            served.metrics = Some(pages::serve_metrics(address, metrics)?);
        }
        if let (Some(address), Some(metrics)) = (&http_at, &metrics) {
            served.http = Some(pages::serve(address, &served.board, metrics)?);
        }
        Ok(Session {
            config: QueryConfig {
                workers: self.workers,
                cluster: cluster.map(Arc::new),
                storage: self.storage,
                metrics,
            },
            served: Arc::new(served),
            sql: Arc::new(Mutex::new(sql)),
            known,
        })
    }
}

/// Tables and queries that live in this process.
#[derive(Debug, Default)]
struct Known {
    /// What `memory` sinks hold, by query name.
    results: Mutex<BTreeMap<String, MemoryTable>>,
    /// In-memory sources, by the name that `'connector' = 'memory'` gives as `'name'`.
    sources: Mutex<BTreeMap<String, MemorySource>>,
    queries: Mutex<Vec<Arc<StreamingQuery>>>,
    /// The script parsed last, for the line that an error is about: its file and its text.
    script: Mutex<(String, String)>,
}

/// What is served over HTTP, until it is dropped.
#[derive(Debug, Default)]
struct Served {
    metrics: Option<Server>,
    http: Option<Server>,
    /// The queries that are told of where there is an HTTP server.
    board: Arc<Board>,
}

impl Served {
    /// Who is told of queries, if anybody is.
    fn board(&self) -> Option<&Board> {
        self.http.as_ref().map(|_| &*self.board)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn open_sink(
        &self,
        sink: &SinkTable,
        config: SinkConfig,
    ) -> Result<Box<dyn Sink>, ConnectorError> {
        let table = MemoryTable::new();
        if sink.connector.eq_ignore_ascii_case("memory") {
            lock(&self.results).insert(config.query_name.to_lowercase(), table.clone());
        }
        open_sink_of(sink, table, config)
    }

    fn open(
        &self,
        connector: &str,
        options: &Options,
        schema: Option<SchemaRef>,
    ) -> Result<Box<dyn Source>, ConnectorError> {
        if !connector.eq_ignore_ascii_case("memory") {
            return open_source(connector, options, schema);
        }
        let name = options.require("memory", "name", "the name given to Session::add_source")?;
        match lock(&self.sources).get(name) {
            Some(source) => Ok(Box::new(source.clone())),
            None => Err(ConnectorError::OptionValue {
                key: "name".into(),
                value: name.into(),
                expected: "the name of a source given to Session::add_source".into(),
            }),
        }
    }
}

fn opener(known: &Arc<Known>) -> OpenSource {
    let known = Arc::clone(known);
    Arc::new(move |connector, options, schema| {
        let source = known.open(connector, options, schema)?;
        Ok(SourceSchema {
            columns: source.schema(),
            metadata: source.metadata_schema(),
        })
    })
}

/// Plans scripts, starts their queries, and knows what runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    config: QueryConfig,
    served: Arc<Served>,
    sql: Arc<Mutex<SqlSession>>,
    known: Arc<Known>,
}

impl Session {
    /// Starts to build a session.
    pub fn builder() -> SessionBuilder {
        SessionBuilder {
            workers: 1,
            cluster: None,
            storage: Arc::new(Disk),
            metrics: None,
            http: None,
            settings: vec![],
        }
    }

    /// Plans a script without running it. Tables and views stay declared in the session.
    pub fn parse(&self, text: &str, file: &str) -> Result<Script, SessionError> {
        let script = lock(&self.sql).run(text, file)?;
        *lock(&self.known.script) = (file.to_owned(), text.to_owned());
        refuse_twins(&script).map_err(|(query, kind)| self.error_at(query, *kind))?;
        Ok(script)
    }

    /// An error at the beginning of a query, with its line.
    fn error_at(&self, query: &QueryStatement, kind: PlanErrorKind) -> SessionError {
        let mut error = kind.at(&query.file, query.position);
        let script = lock(&self.known.script);
        if script.0 == query.file {
            error.excerpt = Excerpt::word(&script.1, query.position);
        }
        error.into()
    }

    /// The plan of one of a script's queries.
    pub fn plan(&self, statement: &QueryStatement) -> Result<Arc<Plan>, SessionError> {
        let refuse = |kind: PlanErrorKind| self.error_at(statement, kind);
        let mut planned = plan_query(statement).map_err(|error| refuse(error.into()))?;
        for source in tables_looked_up(&planned) {
            let table = &planned.sources[source];
            let schema = Some(Arc::clone(&table.schema));
            let opened = self.known.open(&table.connector, &table.options, schema);
            // Why it cannot be opened is said when it is read.
            planned.sources[source].bytes = opened.ok().and_then(|source| source.size());
        }
        if let Some((what, instead)) = not_there(&planned) {
            return Err(refuse(PlanErrorKind::Unsupported {
                what,
                instead: Some(instead),
            }));
        }
        self.check_sink(&planned).map_err(|source| {
            refuse(PlanErrorKind::Connector {
                table: planned.sink.name.clone(),
                source,
            })
        })?;
        Ok(Arc::new(planned))
    }

    /// Runs a script: declares its tables and starts its queries, side by side.
    ///
    /// All queries are planned before the first is started.
    pub fn sql(&self, text: &str) -> Result<Vec<Arc<StreamingQuery>>, SessionError> {
        let script = self.parse(text, "query")?;
        let plans = script
            .statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::Query(query) => Some(self.plan(query)),
                _ => None,
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.announce(&plans);
        plans.iter().map(|plan| self.start(plan, None)).collect()
    }

    /// Says which queries are about to be started, so that whoever asks over HTTP whether all are
    /// ready waits for them.
    pub fn announce(&self, plans: &[Arc<Plan>]) {
        if let Some(board) = self.served.board() {
            plans.iter().for_each(|plan| board.awaits(&plan.name));
        }
    }

    /// Starts a planned query. `listener` is called with each epoch's progress.
    pub fn start(
        &self,
        plan: &Arc<Plan>,
        listener: Option<Listener>,
    ) -> Result<Arc<StreamingQuery>, SessionError> {
        let known = Arc::clone(&self.known);
        let open = move |table: &SinkTable, config: SinkConfig| known.open_sink(table, config);
        self.start_into(plan, open, listener)
    }

    /// Starts a planned query whose rows and dead letters go to the sinks that `open` gives.
    fn start_into(
        &self,
        plan: &Arc<Plan>,
        open: impl Fn(&SinkTable, SinkConfig) -> Result<Box<dyn Sink>, ConnectorError>
        + Send
        + Sync
        + 'static,
        listener: Option<Listener>,
    ) -> Result<Arc<StreamingQuery>, SessionError> {
        let named = |source: QueryError| SessionError::Query {
            name: plan.name.clone(),
            source,
        };
        let running = lock(&self.known.queries)
            .iter()
            .any(|query| query.is_active() && query.name() == plan.name);
        if running {
            return Err(SessionError::Setting(format!(
                "a query named '{}' is running already; give this one another 'queryName'",
                plan.name
            )));
        }
        let board = self.served.board();
        if let Some(board) = board {
            board.awaits(&plan.name);
        }
        let (known, of_plan) = (Arc::clone(&self.known), Arc::clone(plan));
        let sources = Sources::opened_by(move || {
            let sources = of_plan.sources.iter();
            sources
                .map(|table| {
                    let (known, of) = (Arc::clone(&known), table.clone());
                    let open = move || {
                        let schema = Some(Arc::clone(&of.schema));
                        known.open(&of.connector, &of.options, schema)
                    };
                    if table.refresh.is_none() && !is_always_static(&table.connector) {
                        return open();
                    }
                    let open = Arc::new(open);
                    let source = SnapshotSource::new(&table.connector, open, table.refresh)?;
                    Ok(Box::new(source) as Box<dyn Source>)
                })
                .collect()
        });
        match start_from(plan, sources, open, &self.config, listener) {
            Ok(query) => {
                let query = Arc::new(query);
                lock(&self.known.queries).push(Arc::clone(&query));
                if let Some(board) = board {
                    board.started(&query);
                }
                Ok(query)
            }
            Err(error) => {
                if let Some(board) = board {
                    board.refused(&plan.name, &error.to_string());
                }
                Err(named(error))
            }
        }
    }

    /// Where metrics are served, if they are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.served.metrics.as_ref().map(Server::address)
    }

    /// Where the queries are served over HTTP, if they are.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.served.http.as_ref().map(Server::address)
    }

    /// Has queries that wait for other processes at their start give up, now and from now on; they
    /// end with [`QueryError::Stopped`].
    pub fn stop_waiting(&self) {
        if let Some(cluster) = &self.config.cluster {
            cluster.stop_waiting();
        }
    }

    /// Whether the sink takes its options. Opening one touches nothing; writing does.
    fn check_sink(&self, plan: &Plan) -> Result<(), ConnectorError> {
        let config = SinkConfig {
            query_name: plan.name.clone(),
            query_id: String::new(),
            schema: Arc::clone(&plan.schema),
            mode: plan.mode,
            key: plan.key.clone(),
            storage: Arc::clone(&self.config.storage),
            continuous: false,
        };
        open_sink_of(&plan.sink, MemoryTable::new(), config)?;
        if let Some(table) = &plan.dead_letter {
            let config = dead_letters::sink_config(table, "", &self.config.storage);
            open_sink_of(table, MemoryTable::new(), config)?;
        }
        if let Some(table) = &plan.late_rows {
            let config = late_rows::sink_config(table, "", &self.config.storage)?;
            open_sink_of(table, MemoryTable::new(), config)?;
        }
        Ok(())
    }

    /// Answers a script's query as a batch over all that its sources hold now, on `DataFusion`.
    pub fn batch(
        &self,
        statement: &QueryStatement,
    ) -> Result<(SchemaRef, Vec<RecordBatch>), SessionError> {
        let sources = statement
            .sources
            .iter()
            .map(|source| {
                let table = &source.table;
                self.known
                    .open(&table.connector, &table.options, table.schema.clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let rows = batch::run_batch(statement, sources, clock::now())?;
        Ok((rows[0].schema(), rows))
    }

    /// What the `memory` sink of the query with this name holds: always a whole epoch.
    pub fn table(
        &self,
        query_name: &str,
    ) -> Result<Option<(SchemaRef, Vec<RecordBatch>)>, SessionError> {
        let table = lock(&self.known.results)
            .get(&query_name.to_lowercase())
            .cloned();
        Ok(table.map(|table| table.snapshot()).transpose()?)
    }

    /// Answers SQL over what `memory` sinks hold now; their tables have the queries' names.
    pub fn query_tables(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), SessionError> {
        let tables = lock(&self.known.results)
            .iter()
            .map(|(name, table)| {
                let (schema, batches) = table.snapshot()?;
                Ok((name.clone(), schema, batches))
            })
            .collect::<Result<_, ConnectorError>>()?;
        let zone = lock(&self.sql).time_zone().to_owned();
        Ok(batch::query_tables(sql, tables, &zone)?)
    }

    /// Makes an in-memory source known as `name`: `'connector' = 'memory', 'name' = '...'`.
    pub fn add_source(&self, name: &str, source: MemorySource) {
        lock(&self.known.sources).insert(name.to_owned(), source);
    }

    /// Starts to read a stream.
    pub fn read_stream(&self) -> DataStreamReader {
        DataStreamReader::new(self.clone())
    }

    /// The queries of this session.
    pub fn streams(&self) -> Streams {
        Streams {
            known: Arc::clone(&self.known),
        }
    }
}

/// The table whose directory the query would write into: it would read its own output, or, once the
/// sink's manifest lies there, nothing else.
fn reads_its_output(plan: &Plan) -> Option<&str> {
    fn path<'a>(connector: &str, options: &'a Options) -> Option<&'a str> {
        if connector.eq_ignore_ascii_case("file") {
            options.get("path")
        } else {
            None
        }
    }
    let target = fs::canonicalize(path(&plan.sink.connector, &plan.sink.options)?.trim()).ok()?;
    let source = plan.sources.iter().find(|source| {
        path(&source.connector, &source.options)
            .and_then(|path| fs::canonicalize(path.trim()).ok())
            .is_some_and(|path| path == target)
    })?;
    Some(&source.name)
}

/// Refuses two queries of one name, before the first is started.
fn refuse_twins(script: &Script) -> Result<(), (&QueryStatement, Box<PlanErrorKind>)> {
    let queries: Vec<&QueryStatement> = script
        .statements
        .iter()
        .filter_map(|statement| match statement {
            Statement::Query(query) => Some(&**query),
            _ => None,
        })
        .collect();
    for (index, query) in queries.iter().enumerate() {
        let Some(first) = queries[..index]
            .iter()
            .find(|first| first.name == query.name)
        else {
            continue;
        };
        let same_table = first.target.is_some() && first.target == query.target;
        let kind = PlanErrorKind::Unsupported {
            what: format!(
                "a second query named '{}', as the one at {}:{},",
                query.name, first.position.line, first.position.column
            ),
            instead: Some(if same_table {
                "write both into the table with one INSERT and UNION ALL, or declare a table for each".into()
            } else {
                "give each its own 'queryName'".into()
            }),
        };
        return Err((query, Box::new(kind)));
    }
    Ok(())
}

/// What a plan asks for and cannot get: what it is, and what there is instead.
fn not_there(plan: &Plan) -> Option<(String, String)> {
    reads_its_output(plan).map(|name| {
        (
            format!("writing into the directory that table '{name}' reads"),
            format!("give table '{}' another 'path'", plan.sink.name),
        )
    })
}

/// Opens a sink; a `memory` sink fills `table`.
fn open_sink_of(
    sink: &SinkTable,
    table: MemoryTable,
    config: SinkConfig,
) -> Result<Box<dyn Sink>, ConnectorError> {
    // The name is the query's, and known to every sink by its configuration.
    let mut options = sink.options.clone();
    options.remove("queryName");
    if sink.connector.eq_ignore_ascii_case("memory") {
        return Ok(Box::new(MemorySink::open(table, &options, config)?));
    }
    open_sink(&sink.connector, &options, config)
}

/// The queries of a session (Spark's `StreamingQueryManager`).
#[derive(Clone, Debug)]
pub struct Streams {
    known: Arc<Known>,
}

impl Streams {
    /// Those that have not ended.
    pub fn active(&self) -> Vec<Arc<StreamingQuery>> {
        let mut queries = lock(&self.known.queries);
        queries.retain(|query| query.is_active());
        queries.clone()
    }

    /// The active query with this name.
    pub fn get(&self, name: &str) -> Option<Arc<StreamingQuery>> {
        self.active().into_iter().find(|query| query.name() == name)
    }
}
