//! Queries in Rust, with the names of Spark's `DataFrame`.
//!
//! A data frame is a SQL query under construction: each step wraps the one before. So both ways of
//! writing a query meet in one planner, and give the same plan, the same state and the same errors.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use tidemark_connectors::{Options, OutputMode};

use crate::plan::Trigger;
use crate::plan::catalog::Statement;
use crate::plan::sql::type_name;
use crate::runtime::StreamingQuery;
use crate::session::{Session, SessionError};

/// A column or an expression over columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    sql: String,
    alias: Option<String>,
}

impl Column {
    /// Names the column.
    #[must_use]
    pub fn alias(mut self, name: &str) -> Self {
        self.alias = Some(name.to_owned());
        self
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.alias {
            Some(alias) => write!(f, "{} AS {}", self.sql, quote(alias)),
            None => f.write_str(&self.sql),
        }
    }
}

impl From<&str> for Column {
    fn from(name: &str) -> Self {
        col(name)
    }
}

/// A column by its name; `a.b` is the field b of a.
pub fn col(name: &str) -> Column {
    let sql = if name == "*" {
        name.to_owned()
    } else {
        name.split('.').map(quote).collect::<Vec<_>>().join(".")
    };
    Column { sql, alias: None }
}

/// An expression as SQL.
pub fn expr(sql: &str) -> Column {
    Column {
        sql: format!("({sql})"),
        alias: None,
    }
}

/// A constant, as SQL writes it.
pub fn lit(value: impl fmt::Display) -> Column {
    Column {
        sql: value.to_string(),
        alias: None,
    }
}

/// Tumbling windows: `window(col("ts"), "5 minutes")`.
pub fn window(time: impl Into<Column>, size: &str) -> Column {
    Column {
        sql: format!("window({}, {})", time.into().sql, text(size)),
        alias: None,
    }
}

/// Sliding windows with a start offset.
pub fn window_with(time: impl Into<Column>, size: &str, slide: &str, start: &str) -> Column {
    let sql = format!(
        "window({}, {}, {}, {})",
        time.into().sql,
        text(size),
        text(slide),
        text(start)
    );
    Column { sql, alias: None }
}

/// Sessions that end `gap` after their last row: `session_window(col("ts"), "5 minutes")`.
pub fn session_window(time: impl Into<Column>, gap: &str) -> Column {
    session_window_by(
        time,
        Column {
            sql: text(gap),
            alias: None,
        },
    )
}

/// Sessions whose gap differs from row to row: an interval, or text such as `5 minutes`.
pub fn session_window_by(time: impl Into<Column>, gap: impl Into<Column>) -> Column {
    Column {
        sql: format!("session_window({}, {})", time.into().sql, gap.into().sql),
        alias: None,
    }
}

fn call(function: &str, argument: &Column) -> Column {
    Column {
        sql: format!("{function}({})", argument.sql),
        alias: None,
    }
}

/// Rows where the argument is not null.
pub fn count(column: impl Into<Column>) -> Column {
    call("count", &column.into())
}

/// Distinct values.
pub fn count_distinct(column: impl Into<Column>) -> Column {
    Column {
        sql: format!("count(DISTINCT {})", column.into().sql),
        alias: None,
    }
}

/// Distinct values, approximately.
pub fn approx_count_distinct(column: impl Into<Column>) -> Column {
    call("approx_count_distinct", &column.into())
}

/// The sum.
pub fn sum(column: impl Into<Column>) -> Column {
    call("sum", &column.into())
}

/// The average.
pub fn avg(column: impl Into<Column>) -> Column {
    call("avg", &column.into())
}

/// The least.
pub fn min(column: impl Into<Column>) -> Column {
    call("min", &column.into())
}

/// The greatest.
pub fn max(column: impl Into<Column>) -> Column {
    call("max", &column.into())
}

fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn names(columns: &[&str]) -> String {
    let quoted: Vec<String> = columns.iter().map(|name| quote(name)).collect();
    quoted.join(", ")
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn list(columns: &[Column]) -> String {
    columns
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn with(options: &Options) -> String {
    options
        .iter()
        .map(|(key, value)| format!("{} = {}", text(key), text(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A connector's name, or a format of the file connector.
fn set_format(options: &mut Options, format: &str) {
    if matches!(format, "json" | "csv" | "parquet") {
        options.set("connector", "file");
        options.set("format", format);
    } else {
        options.set("connector", format);
    }
}

fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("__{prefix}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// See [`Session::read_stream`].
#[derive(Clone, Debug)]
pub struct DataStreamReader {
    session: Session,
    options: Options,
    schema: Option<SchemaRef>,
}

impl DataStreamReader {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            options: Options::new(),
            schema: None,
        }
    }

    /// The source (`file`, `rate`, ...), or a format of the file source (`json`, `csv`, `parquet`).
    #[must_use]
    pub fn format(mut self, format: &str) -> Self {
        set_format(&mut self.options, format);
        self
    }

    /// An option of the source.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.options.set(key, value.to_string());
        self
    }

    /// The columns.
    #[must_use]
    pub fn schema(mut self, schema: SchemaRef) -> Self {
        self.schema = Some(schema);
        self
    }

    /// The stream at a path.
    pub fn load_path(self, path: &str) -> Result<DataFrame, SessionError> {
        self.option("path", path).load()
    }

    /// The stream.
    pub fn load(self) -> Result<DataFrame, SessionError> {
        Ok(DataFrame {
            session: self.session,
            table: Arc::new(Table {
                name: unique("stream"),
                options: self.options,
                schema: self.schema,
                watermark: None,
            }),
            others: vec![],
            query: None,
        })
    }
}

#[derive(Clone, Debug)]
struct Table {
    name: String,
    options: Options,
    schema: Option<SchemaRef>,
    watermark: Option<(String, String)>,
}

impl Table {
    fn declare(&self) -> String {
        let mut columns: Vec<String> = self
            .schema
            .iter()
            .flat_map(|schema| schema.fields())
            .map(|field| format!("{} {}", quote(field.name()), type_name(field.data_type())))
            .collect();
        if let Some((column, delay)) = &self.watermark {
            let column = quote(column);
            columns.push(format!(
                "WATERMARK FOR {column} AS {column} - INTERVAL {}",
                text(delay)
            ));
        }
        let columns = if columns.is_empty() {
            String::new()
        } else {
            format!("({})", columns.join(", "))
        };
        format!(
            "CREATE TABLE {} {columns} WITH ({});\n",
            quote(&self.name),
            with(&self.options)
        )
    }
}

/// A query under construction.
#[derive(Clone, Debug)]
pub struct DataFrame {
    session: Session,
    table: Arc<Table>,
    others: Vec<Arc<Table>>,
    query: Option<String>,
}

impl DataFrame {
    fn from(&self) -> String {
        match &self.query {
            Some(query) => format!("({query})"),
            None => quote(&self.table.name),
        }
    }

    fn then(&self, query: String) -> Self {
        Self {
            query: Some(query),
            ..self.clone()
        }
    }

    /// Declares the event time and how late rows may come. Only on a stream as it was read.
    pub fn with_watermark(&self, column: &str, delay: &str) -> Result<Self, SessionError> {
        if self.query.is_some() {
            return Err(SessionError::Setting(format!(
                "with_watermark(\"{column}\", ..) comes after another step; call it right after load()"
            )));
        }
        let table = Table {
            watermark: Some((column.into(), delay.into())),
            ..(*self.table).clone()
        };
        Ok(Self {
            table: Arc::new(table),
            ..self.clone()
        })
    }

    /// Computes columns.
    #[must_use]
    pub fn select(&self, columns: impl IntoIterator<Item = impl Into<Column>>) -> Self {
        let columns: Vec<Column> = columns.into_iter().map(Into::into).collect();
        self.then(format!("SELECT {} FROM {}", list(&columns), self.from()))
    }

    /// Adds a column.
    #[must_use]
    pub fn with_column(&self, name: &str, column: impl Into<Column>) -> Self {
        self.then(format!(
            "SELECT *, {} FROM {}",
            column.into().alias(name),
            self.from()
        ))
    }

    /// Keeps the rows for which the condition (SQL) is true.
    #[must_use]
    pub fn filter(&self, condition: &str) -> Self {
        self.then(format!("SELECT * FROM {} WHERE {condition}", self.from()))
    }

    /// Each row once.
    #[must_use]
    pub fn distinct(&self) -> Self {
        self.then(format!("SELECT DISTINCT * FROM {}", self.from()))
    }

    /// The first row to arrive of each combination of these columns; of all columns where there are none.
    #[must_use]
    pub fn drop_duplicates(&self, columns: &[&str]) -> Self {
        if columns.is_empty() {
            return self.distinct();
        }
        let (keys, from) = (names(columns), self.from());
        self.then(format!("SELECT DISTINCT ON ({keys}) * FROM {from}"))
    }

    /// The same, but what came is forgotten once the watermark has passed the event time of the first row
    /// by the delay of [`DataFrame::with_watermark`].
    #[must_use]
    pub fn drop_duplicates_within_watermark(&self, columns: &[&str]) -> Self {
        let (keys, from) = (names(columns), self.from());
        self.then(format!(
            "SELECT * FROM DEDUPLICATE_WITHIN_WATERMARK(TABLE {from}, DESCRIPTOR({keys}))"
        ))
    }

    /// All rows of both, by position.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let query = format!(
            "SELECT * FROM {} UNION ALL SELECT * FROM {}",
            self.from(),
            other.from()
        );
        let mut both = self.then(query);
        for table in std::iter::once(&other.table).chain(&other.others) {
            if table.name != both.table.name
                && both.others.iter().all(|known| known.name != table.name)
            {
                both.others.push(Arc::clone(table));
            }
        }
        both
    }

    /// Groups by columns or windows.
    pub fn group_by(
        &self,
        keys: impl IntoIterator<Item = impl Into<Column>>,
    ) -> Result<GroupedData, SessionError> {
        Ok(GroupedData {
            input: self.clone(),
            keys: keys.into_iter().map(Into::into).collect(),
        })
    }

    /// Starts to write the result.
    pub fn write_stream(&self) -> DataStreamWriter {
        DataStreamWriter {
            input: self.clone(),
            options: Options::new(),
        }
    }

    /// The query as SQL.
    pub fn to_sql(&self) -> String {
        self.query
            .clone()
            .unwrap_or_else(|| format!("SELECT * FROM {}", self.from()))
    }
}

/// See [`DataFrame::group_by`].
#[derive(Clone, Debug)]
pub struct GroupedData {
    input: DataFrame,
    keys: Vec<Column>,
}

impl GroupedData {
    /// The aggregates of each group, behind its keys.
    pub fn agg(
        &self,
        aggregates: impl IntoIterator<Item = Column>,
    ) -> Result<DataFrame, SessionError> {
        let mut columns: Vec<Column> = self
            .keys
            .iter()
            .map(|key| {
                let windows = ["window", "session_window"];
                let made_by = |name: &&str| {
                    let arguments = key.sql.strip_prefix(*name);
                    arguments.is_some_and(|rest| rest.starts_with('('))
                };
                match windows.into_iter().find(made_by) {
                    Some(window) => Column {
                        sql: window.into(),
                        alias: key.alias.clone(),
                    },
                    None => key.clone(),
                }
            })
            .collect();
        columns.extend(aggregates);
        let mut query = format!("SELECT {} FROM {}", list(&columns), self.input.from());
        if !self.keys.is_empty() {
            let keys: Vec<&str> = self.keys.iter().map(|key| key.sql.as_str()).collect();
            query.push_str(" GROUP BY ");
            query.push_str(&keys.join(", "));
        }
        Ok(self.input.then(query))
    }

    /// The number of rows of each group, as `count`.
    pub fn count(&self) -> Result<DataFrame, SessionError> {
        self.agg([count(lit(1)).alias("count")])
    }
}

/// See [`DataFrame::write_stream`].
#[derive(Clone, Debug)]
pub struct DataStreamWriter {
    input: DataFrame,
    options: Options,
}

impl DataStreamWriter {
    /// The sink (`console`, `memory`, `noop`, ...), or a format of the file sink.
    #[must_use]
    pub fn format(mut self, format: &str) -> Self {
        set_format(&mut self.options, format);
        self
    }

    /// An option of the sink or of the query.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.options.set(key, value.to_string());
        self
    }

    /// What the sink is told.
    #[must_use]
    pub fn output_mode(self, mode: OutputMode) -> Self {
        self.option("outputMode", mode)
    }

    /// The query's name.
    #[must_use]
    pub fn query_name(self, name: &str) -> Self {
        self.option("queryName", name)
    }

    /// The columns that make directories.
    #[must_use]
    pub fn partition_by(self, columns: &[&str]) -> Self {
        let columns = columns.join(",");
        self.option("partitionBy", columns)
    }

    /// When epochs start.
    #[must_use]
    pub fn trigger(self, trigger: Trigger) -> Self {
        let text = match trigger {
            Trigger::ProcessingTime(interval) => format!("{} ms", interval.as_millis()),
            Trigger::AvailableNow => "available-now".into(),
            Trigger::Once => "once".into(),
            Trigger::Continuous(interval) => format!("continuous {} ms", interval.as_millis()),
        };
        self.option("trigger", text)
    }

    /// Starts the query, writing to a path.
    pub fn start_path(self, path: &str) -> Result<Arc<StreamingQuery>, SessionError> {
        self.option("path", path).start()
    }

    /// Starts the query.
    pub fn start(mut self) -> Result<Arc<StreamingQuery>, SessionError> {
        if self.options.get("connector").is_none() {
            self.options.set("connector", "console");
        }
        let sink = self
            .options
            .get("queryName")
            .map_or_else(|| unique("result"), str::to_owned);
        let mut script = String::new();
        for table in std::iter::once(&self.input.table).chain(&self.input.others) {
            script.push_str(&table.declare().replacen(
                "CREATE TABLE",
                "CREATE OR REPLACE TABLE",
                1,
            ));
        }
        script.push_str(&format!(
            "CREATE OR REPLACE TABLE {} WITH ({});\nINSERT INTO {} {};",
            quote(&sink),
            with(&self.options),
            quote(&sink),
            self.input.to_sql()
        ));
        let session = &self.input.session;
        let parsed = session.parse(&script, &sink)?;
        let query = parsed
            .statements
            .iter()
            .find_map(|statement| match statement {
                Statement::Query(query) => Some(query),
                _ => None,
            });
        match query {
            Some(query) => session.start(&session.plan(query)?, None),
            None => Err(SessionError::Setting(
                "the data frame holds no query".into(),
            )),
        }
    }
}
