//! The same query as a batch: `DataFusion` answers it over all the data that its sources have now.
//!
//! It is the oracle that a stream's final result is held against, and `tidemark run --batch`.
//! Watermarks play no part: no row is late. `current_timestamp()` is one instant.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::functions::core::expr_fn::r#struct;
use datafusion::logical_expr::expr::{AggregateFunction, Case};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource, lit};
use datafusion::prelude::SessionContext;
use tidemark_connectors::{Read, ReadLimit, Source};

use super::batch_floats::with_one_zero;
use super::batch_nearest::with_ranked_joins;
use super::batch_ranks::with_places;
use super::batch_sessions::with_islands;
use super::batch_unions::with_unions;
use super::catalog::QueryStatement;
use super::context::{StreamTable, session_state};
use super::error::{PlanErrorKind, Result};
use super::functions::clock::{instant_literal, is_current_timestamp};
use super::functions::random;
use super::reason::reason;
use super::room::with_room;

/// All rows of a query's sources, by the name of the source: with the columns of the table by
/// position, then `_metadata` where `with_metadata` asks for it.
pub type Tables = BTreeMap<String, Vec<RecordBatch>>;

/// Answers `query` over what its sources hold at this moment.
///
/// `now` is `current_timestamp()` in microseconds since 1970 UTC. `sources` are those of the query, in its order.
pub fn run_batch(
    query: &QueryStatement,
    sources: Vec<Box<dyn Source>>,
    now: i64,
) -> Result<Vec<RecordBatch>> {
    let mut tables = Tables::new();
    for (source, mut opened) in query.sources.iter().zip(sources) {
        let table = &source.table;
        let connector = |error| {
            PlanErrorKind::Connector {
                table: table.name.clone(),
                source: error,
            }
            .anywhere()
        };
        let columns = scanned_columns(&query.logical, &source.name);
        let batches = read_all(&mut *opened, &columns).map_err(connector)?;
        tables.insert(source.name.clone(), batches);
    }
    run_over(&query.logical, &tables, &query.settings.time_zone, now)
}

/// Answers a plan over given rows. A table that is missing has none. `time_zone` is the session's.
pub fn run_over(
    logical: &LogicalPlan,
    tables: &Tables,
    time_zone: &str,
    now: i64,
) -> Result<Vec<RecordBatch>> {
    with_room(|| run_here(logical, tables, time_zone, now))
}

fn run_here(
    logical: &LogicalPlan,
    tables: &Tables,
    time_zone: &str,
    now: i64,
) -> Result<Vec<RecordBatch>> {
    let failed = |error: DataFusionError| {
        PlanErrorKind::Batch {
            message: reason(&error),
        }
        .anywhere()
    };
    let plan = with_places(logical.clone())
        .and_then(with_ranked_joins)
        .and_then(with_unions)
        .and_then(|plan| with_instant(plan, now))
        .and_then(|plan| with_data(plan, tables))
        .and_then(with_islands)
        .and_then(with_one_zero)
        .map_err(failed)?;
    let context = SessionContext::new_with_state(session_state(time_zone));
    let schema: SchemaRef = Arc::clone(plan.schema().inner());
    let batches = block_on(async { context.execute_logical_plan(plan).await?.collect().await })?
        .map_err(failed)?;
    // An answer without rows still has its columns.
    Ok(if batches.is_empty() {
        vec![RecordBatch::new_empty(schema)]
    } else {
        batches
    })
}

/// The columns that the scans of `name` have, `_metadata` included where they have it.
fn scanned_columns(plan: &LogicalPlan, name: &str) -> Vec<usize> {
    let mut count = 0;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && stream(&scan.source).is_some_and(|s| s.name == name)
        {
            count = count.max(scan.source.schema().fields().len());
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the visitor never fails");
    (0..count).collect()
}

fn stream(source: &Arc<dyn TableSource>) -> Option<&StreamTable> {
    (&**source as &dyn Any).downcast_ref::<StreamTable>()
}

/// Reads everything that a source has now: its partitions one after the other.
fn read_all(
    source: &mut dyn Source,
    columns: &[usize],
) -> tidemark_connectors::Result<Vec<RecordBatch>> {
    source.restore(&[])?;
    source.freeze()?;
    let reader = source.reader();
    let mut batches: Vec<(Arc<str>, RecordBatch)> = Vec::new();
    while let Some(range) = source.plan(ReadLimit::default())? {
        for split in &range.splits {
            let mut rows = reader.open(split, columns)?;
            loop {
                match rows.read()? {
                    Read::Batch { batch, .. } => {
                        batches.push((Arc::clone(&split.partition), batch));
                    }
                    Read::Pending => std::thread::sleep(source.poll_interval()),
                    Read::End => break,
                }
            }
        }
    }
    // The order of positions, see `crate::row::origin`.
    batches.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(batches.into_iter().map(|(_, batch)| batch).collect())
}

/// The plan with `current_timestamp()` at one instant, and random values of the rows' numbers.
fn with_instant(plan: LogicalPlan, now: i64) -> Result<LogicalPlan, DataFusionError> {
    let draws = Cell::new(0);
    let salt = |now: i64| (lit(now), draws.replace(draws.get() + 1));
    let transformed = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| {
                Ok(match expr {
                    Expr::AggregateFunction(call) => distinct_rows(call),
                    expr if is_current_timestamp(&expr) => Transformed::yes(instant_literal(now)),
                    expr => match random::drawn(&expr, random::running(), || salt(now))? {
                        Some(drawn) => Transformed::yes(drawn),
                        None => Transformed::no(expr),
                    },
                })
            })?;
            Ok(replaced.update_data(|expr: Expr| name.restore(expr)))
        })
    })?;
    Ok(transformed.data)
}

/// `count(DISTINCT a, b)` as a count of structs: `DataFusion` counts one argument only. As in
/// Spark, a row with a null among them does not count.
fn distinct_rows(mut call: AggregateFunction) -> Transformed<Expr> {
    let args = &mut call.params.args;
    let many = call.params.distinct && args.len() > 1 && call.func.name() == "count";
    if many {
        let known = args
            .iter()
            .cloned()
            .map(Expr::is_not_null)
            .reduce(Expr::and);
        let row = r#struct(std::mem::take(args));
        // Without `ELSE` the rest is null.
        let when = known.map(|known| (Box::new(known), Box::new(row)));
        *args = vec![Expr::Case(Case::new(
            None,
            when.into_iter().collect(),
            None,
        ))];
    }
    Transformed::new_transformed(Expr::AggregateFunction(call), many)
}

/// The plan over rows instead of streams.
fn with_data(plan: LogicalPlan, tables: &Tables) -> Result<LogicalPlan, DataFusionError> {
    let transformed = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else {
            return Ok(Transformed::no(node));
        };
        let Some(name) = stream(&scan.source).map(|s| s.name.clone()) else {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        let schema = scan.source.schema();
        let rows = tables.get(&name).map_or(&[][..], |batches| batches);
        let rows: Vec<RecordBatch> = rows
            .iter()
            .map(|b| fitted(b, &schema))
            .collect::<Result<_, _>>()?;
        scan.source = provider_as_source(Arc::new(MemTable::try_new(schema, vec![rows])?));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok(transformed.data)
}

/// The batch under the names and exact types of the scan's schema.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataFusionError> {
    let columns: Vec<ArrayRef> = (batch.columns().iter().zip(schema.fields()))
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        })
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// A table by its name, its columns and its rows.
pub type NamedTable = (String, SchemaRef, Vec<RecordBatch>);

/// Answers SQL over tables that are given whole.
pub fn query_tables(
    sql: &str,
    tables: Vec<NamedTable>,
    time_zone: &str,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let failed = |error: DataFusionError| {
        PlanErrorKind::Batch {
            message: error.strip_backtrace(),
        }
        .anywhere()
    };
    let context = SessionContext::new_with_state(session_state(time_zone));
    for (name, schema, rows) in tables {
        let table = MemTable::try_new(schema, vec![rows]).map_err(failed)?;
        context
            .register_table(name, Arc::new(table))
            .map_err(failed)?;
    }
    block_on(async {
        let answer = context.sql(sql).await?;
        let schema = Arc::clone(answer.schema().inner());
        Ok((schema, answer.collect().await?))
    })?
    .map_err(failed)
}

fn block_on<F: Future>(future: F) -> Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| {
            PlanErrorKind::Batch {
                message: format!("no runtime: {error}"),
            }
            .anywhere()
        })?;
    Ok(runtime.block_on(future))
}
