//! Plans for tests: a few tables that know only their schema, and the functions that queries of
//! the engine arrive with, by name.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result as DataFusionResult, exec_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, create_udaf,
};
use datafusion::prelude::{SessionConfig, SessionContext};
use tidemark_connectors::{Options, OutputMode};

use super::super::catalog::{
    CatalogTable, EngineOptions, OnError, Position, QuerySource, QueryStatement,
};
use super::super::{
    Intake, Plan, QuerySettings, Retry, SinkTable, Trigger, Watermark, WatermarkPolicy,
};
use super::{Result, plan_query};

/// A function that has a type and cannot be called.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Typed {
    name: &'static str,
    result: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Typed {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.result.clone())
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        exec_err!("{} is there for its type", self.name)
    }
}

fn typed(name: &'static str, result: DataType, volatility: Volatility) -> ScalarUDF {
    let signature = match volatility {
        Volatility::Volatile => Signature::nullary(volatility),
        _ => Signature::variadic_any(volatility),
    };
    ScalarUDF::new_from_impl(Typed {
        name,
        result,
        signature,
    })
}

pub(in super::super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn window() -> DataType {
    let field = |name| Field::new(name, timestamp(), true);
    DataType::Struct(vec![field("start"), field("end")].into())
}

fn approx_count_distinct() -> AggregateUDF {
    create_udaf(
        "approx_count_distinct",
        vec![DataType::Utf8, DataType::Float64],
        Arc::new(DataType::Int64),
        Volatility::Immutable,
        Arc::new(|_| exec_err!("approx_count_distinct is there for its type")),
        Arc::new(vec![DataType::Int64]),
    )
}

/// `events` and `other` have a watermark, `logs` has none; `fixed` is static.
pub(in super::super) fn tables() -> Vec<CatalogTable> {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Utf8, true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("ts", timestamp(), true),
        Field::new(
            "tags",
            DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
            true,
        ),
    ]));
    let options = |path: &str| -> Options {
        [("path", path), ("format", "json"), ("api.token", "hunter2")]
            .into_iter()
            .collect()
    };
    let table = |name: &str, watermark: bool, streaming: bool| CatalogTable {
        name: name.into(),
        connector: "file".into(),
        options: options(name),
        schema: Some(Arc::clone(&schema)),
        declared: true,
        metadata: Arc::new(Schema::empty()),
        watermark: watermark.then(|| Watermark {
            column: 4,
            delay: Duration::from_mins(10),
            idle_timeout: None,
        }),
        primary_key: Vec::new(),
        streaming,
        refresh: None,
        engine: EngineOptions::default(),
        position: Position::default(),
    };
    vec![
        table("events", true, true),
        table("other", true, true),
        table("logs", false, true),
        table("fixed", true, false),
    ]
}

/// The optimised plan of a query over [`tables`].
pub(in super::super) async fn logical(sql: &str) -> LogicalPlan {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let context = SessionContext::new_with_config(config);
    context.remove_optimizer_rule("single_distinct_aggregation_to_group_by");
    for table in tables() {
        let schema = table.schema.clone().expect("test tables have one");
        let provider = Arc::new(EmptyTable::new(schema));
        context
            .register_table(&table.name, provider)
            .expect("a new name");
    }
    let windows = DataType::List(Arc::new(Field::new_list_field(window(), true)));
    for (name, result) in [
        ("window", window()),
        ("__tumbling_window", window()),
        ("__sliding_windows", windows.clone()),
        ("__cumulate_windows", windows),
        ("window_time", timestamp()),
        ("trunc", DataType::Date32),
    ] {
        context.register_udf(typed(name, result, Volatility::Immutable));
    }
    context.register_udf(typed(
        "current_timestamp",
        timestamp(),
        Volatility::Volatile,
    ));
    context.register_udf(typed(
        "current_date",
        DataType::Date32,
        Volatility::Volatile,
    ));
    context.register_udaf(approx_count_distinct());
    let frame = context
        .sql(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    frame
        .into_optimized_plan()
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The statement that a query over [`tables`] arrives as.
pub(in super::super) fn statement(sql: &str, mode: Option<OutputMode>) -> QueryStatement {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let logical = runtime.block_on(logical(sql));
    QueryStatement {
        name: "result".into(),
        target: Some("result".into()),
        sink: SinkTable {
            name: "result".into(),
            connector: "file".into(),
            options: [("path", "out"), ("secretKey", "hunter2")]
                .into_iter()
                .collect(),
        },
        mode,
        trigger: Trigger::ProcessingTime(Duration::from_secs(30)),
        settings: QuerySettings {
            checkpoint_location: Some("ckpt/result".into()),
            min_batches_to_retain: 100,
            watermark_policy: WatermarkPolicy::Min,
            allowed_lateness: Duration::ZERO,
            time_zone: "UTC".into(),
            intake: Intake::default(),
            retry: Retry::default(),
            stop_timeout: Duration::from_secs(10),
            broadcast_threshold: Some(10 << 20),
        },
        on_error: OnError::Fail,
        dead_letter: None,
        late_rows: None,
        primary_key: Vec::new(),
        sources: sources_of(&logical),
        logical,
        file: String::new(),
        position: Position::default(),
    }
}

/// The tables that a plan scans, in the order of first use.
fn sources_of(plan: &LogicalPlan) -> Vec<QuerySource> {
    let mut found = Vec::new();
    collect(plan, &mut found);
    found
}

fn collect(plan: &LogicalPlan, found: &mut Vec<QuerySource>) {
    if let LogicalPlan::TableScan(scan) = plan {
        let name = scan.table_name.table();
        let table = tables().into_iter().find(|table| table.name == name);
        if let Some(table) = table
            && !found.iter().any(|source| source.name == name)
        {
            found.push(QuerySource {
                name: name.into(),
                table: Arc::new(table),
            });
        }
    }
    for input in plan.inputs() {
        collect(input, found);
    }
}

/// Plans a query over [`tables`].
pub(in super::super) fn plan(sql: &str, mode: Option<OutputMode>) -> Result<Plan> {
    plan_query(&statement(sql, mode))
}

/// The plan of a query that has one.
pub(in super::super) fn planned(sql: &str, mode: OutputMode) -> Plan {
    plan(sql, Some(mode)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Why a query is refused.
pub(in super::super) fn refused(sql: &str, mode: OutputMode) -> String {
    match plan(sql, Some(mode)) {
        Ok(plan) => panic!("{sql} was planned: {}", plan.explain()),
        Err(error) => error.to_string(),
    }
}

/// Compares what `answer` says to each `#### mode: query` of a data file with what stands below
/// it. With `TIDEMARK_COMPLETE=1` the file is written anew: read the difference.
pub(in super::super) fn data_file(name: &str, answer: impl Fn(&str, Option<OutputMode>) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/plan/testdata")
        .join(name);
    let text = std::fs::read_to_string(&path).expect("the data file is there");
    let mut written = String::new();
    for (index, case) in text.split("#### ").enumerate() {
        if index == 0 {
            written.push_str(case);
            continue;
        }
        let head = case.lines().next().unwrap_or_default();
        let (mode, sql) = head.split_once(": ").expect("mode: query");
        let mode = match mode {
            "default" => None,
            mode => Some(mode.parse().expect("a mode")),
        };
        let _ = write!(written, "#### {head}\n{}\n\n", answer(sql, mode).trim_end());
    }
    if std::env::var_os("TIDEMARK_COMPLETE").is_some() {
        std::fs::write(&path, written).expect("the data file is writable");
    } else {
        assert_eq!(text, written, "{name}");
    }
}
