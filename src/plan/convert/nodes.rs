//! `DataFusion`'s logical operators to ours, one by one.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{DFSchema, DFSchemaRef, NullHandling};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, LogicalPlan, TableScan, Union, Unnest,
    UserDefinedLogicalNodeCore, and,
};

use super::super::catalog::QuerySource;
use super::super::deduplicate::deduplicate_of;
use super::super::event_time::WallClock;
use super::super::functions::collections::holds_map;
use super::super::nearest::nearest_of;
use super::super::sessions::{self, session_window_of};
use super::super::{
    Emit, EventTimeColumn, EventTimeKind, Node, Operator, SessionWindow, event_time, text,
};
use super::aggregate::aggregate;
use super::error::{ConvertError, Result, unsupported};
use super::expr::{resolve, resolve_constant};
use super::fuse::{filter, project, renamed};
use super::join::join;
use super::nearest::nearest;
use super::order::settled;
use super::rank;

/// What a query's operators stand in.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) sources: &'a [QuerySource],
    /// By how much every row may be late, in microseconds.
    pub(super) lateness: i64,
    pub(super) clock: WallClock,
    /// How many calls of random functions there were.
    pub(super) draws: &'a Cell<u64>,
}

impl Scope<'_> {
    /// The number of the next call of a random function.
    pub(super) fn draw(&self) -> u64 {
        self.draws.replace(self.draws.get() + 1)
    }
}

/// The operators of a plan. Ids are left at 0; results are changes everywhere.
pub(super) fn node(plan: &LogicalPlan, scope: Scope<'_>) -> Result<Node> {
    let child = |plan: &LogicalPlan| node(plan, scope);
    match plan {
        LogicalPlan::TableScan(scan) => source(scan, scope),
        LogicalPlan::Projection(projection) => {
            let input = child(&projection.input)?;
            let exprs = resolve_all(&projection.expr, &input, scope)?;
            project(input, exprs, Arc::clone(&projection.schema), scope.clock)
        }
        LogicalPlan::Filter(inner) => {
            if let Some(ranked) = rank::top_n(inner, scope)? {
                return Ok(ranked);
            }
            let input = child(&inner.input)?;
            let predicate = resolve(inner.predicate.clone(), &input, scope)?;
            filter(input, predicate)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            Ok(renamed(child(&alias.input)?, Arc::clone(&alias.schema)))
        }
        LogicalPlan::Repartition(inner) => child(&inner.input),
        LogicalPlan::Union(inner) => union(inner, scope),
        LogicalPlan::Unnest(inner) => unnest(inner, scope),
        LogicalPlan::Join(inner) => join(inner, child(&inner.left)?, child(&inner.right)?, scope),
        LogicalPlan::Aggregate(inner) => {
            let Aggregate {
                input,
                group_expr,
                aggr_expr,
                schema,
                ..
            } = inner;
            let input_schema = input.schema();
            for key in group_expr {
                if key.get_type(input_schema).is_ok_and(|t| holds_map(&t)) {
                    return Err(unsupported(
                        format!("GROUP BY {}", text::expression(key)),
                        "maps with the same entries in another order would be different groups",
                        "group by array_sort(map_entries(...))",
                    ));
                }
            }
            aggregate(
                settled(child(input)?)?,
                group_expr.clone(),
                aggr_expr,
                Arc::clone(schema),
                scope,
            )
        }
        other if let Some(sessions) = session_window_of(other) => {
            session_window(sessions, child(&sessions.input)?, scope)
        }
        other if let Some(asked) = nearest_of(other) => {
            nearest(asked, child(&asked.left)?, child(&asked.right)?, scope)
        }
        other if let Some(asked) = deduplicate_of(other) => rank::deduplicate(asked, scope),
        LogicalPlan::Window(window) => rank::over(window, scope),
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => {
            rank::limited(plan, scope)?.ok_or_else(|| refusal(plan))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let input = child(input)?;
            let keys = input
                .schema
                .columns()
                .into_iter()
                .map(Expr::Column)
                .collect();
            let schema = Arc::clone(&input.schema);
            aggregate(input, keys, &[], schema, scope)
        }
        LogicalPlan::EmptyRelation(empty) => {
            let rows = if empty.produce_one_row {
                vec![Vec::new()]
            } else {
                Vec::new()
            };
            Ok(values(rows, Arc::clone(&empty.schema)))
        }
        LogicalPlan::Values(inner) => {
            let rows = (inner.values.iter())
                .map(|row| {
                    row.iter()
                        .map(|value| resolve_constant(value.clone()))
                        .collect()
                })
                .collect::<Result<Vec<Vec<_>>>>()?;
            Ok(values(rows, Arc::clone(&inner.schema)))
        }
        other => Err(refusal(other)),
    }
}

fn resolve_all(exprs: &[Expr], input: &Node, scope: Scope<'_>) -> Result<Vec<Expr>> {
    exprs
        .iter()
        .map(|expr| resolve(expr.clone(), input, scope))
        .collect()
}

fn session_window(
    sessions: &sessions::SessionWindow,
    input: Node,
    scope: Scope<'_>,
) -> Result<Node> {
    let window = resolve(sessions.window.clone(), &input, scope)?;
    let bound = event_time::of_expression(&window, &input.schema, &input.columns, scope.clock);
    // A row is given again, or only then, when its session changes or is complete: by then its
    // other times may lie behind by any length.
    let mut columns = vec![None; input.columns.len()];
    columns.push(bound);
    Ok(Node {
        id: 0,
        operator: Operator::SessionWindow(SessionWindow {
            window,
            partition: resolve_all(&sessions.partition, &input, scope)?,
            calls: None,
            bound,
            emit: Emit::Changes,
        }),
        schema: Arc::clone(UserDefinedLogicalNodeCore::schema(sessions)),
        columns,
        append_only: false,
        inputs: vec![input],
    })
}

fn values(rows: Vec<Vec<Expr>>, schema: DFSchemaRef) -> Node {
    Node {
        id: 0,
        operator: Operator::Values { rows },
        inputs: Vec::new(),
        columns: vec![None; schema.fields().len()],
        schema,
        append_only: true,
    }
}

fn source(scan: &TableScan, scope: Scope<'_>) -> Result<Node> {
    let name = scan.table_name.table();
    let index = (scope.sources.iter())
        .position(|source| source.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| ConvertError::UnknownTable {
            table: name.into(),
            known: scope
                .sources
                .iter()
                .map(|s| s.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })?;
    if scan.fetch.is_some() {
        return Err(limit());
    }
    let table = &scope.sources[index].table;
    let watermark = table
        .watermark
        .as_ref()
        .filter(|_| table.streaming)
        .map(|w| w.column);
    let all = scan.source.schema();
    let asked: Vec<usize> = scan
        .projection
        .clone()
        .unwrap_or_else(|| (0..all.fields().len()).collect());
    // A pushed filter may need columns that nothing above it does.
    let mut read = asked.clone();
    for filter in &scan.filters {
        for column in filter.column_refs() {
            read.extend(all.index_of(&column.name).ok());
        }
    }
    read.sort_unstable();
    read.dedup();
    let failed = |source| ConvertError::Expression {
        what: format!("the scan of {name}"),
        source,
    };
    let schema = if read == asked {
        Arc::clone(&scan.projected_schema)
    } else {
        let fields: Vec<_> = read
            .iter()
            .map(|&column| Arc::clone(&all.fields()[column]))
            .collect();
        let schema = Schema::new(fields);
        Arc::new(
            DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema)
                .map_err(failed)?,
        )
    };
    let columns = (read.iter())
        .map(|column| {
            (Some(*column) == watermark).then_some(EventTimeColumn {
                kind: EventTimeKind::Instant,
                lag: scope.lateness,
            })
        })
        .collect();
    let mut node = Node {
        id: 0,
        operator: Operator::Source {
            source: index,
            projection: read.clone(),
        },
        inputs: Vec::new(),
        schema,
        columns,
        append_only: table.refresh.is_none(),
    };
    if let Some(predicate) = scan.filters.iter().cloned().reduce(and) {
        let predicate = resolve(predicate, &node, scope)?;
        node = filter(node, predicate)?;
    }
    if read == asked {
        return Ok(node);
    }
    let exprs = scan
        .projected_schema
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    project(node, exprs, Arc::clone(&scan.projected_schema), scope.clock)
}

fn union(union: &Union, scope: Scope<'_>) -> Result<Node> {
    let inputs = (union.inputs.iter())
        .map(|input| {
            let input = node(input, scope)?;
            coerced(input, &union.schema, scope)
        })
        .collect::<Result<Vec<_>>>()?;
    let columns = (0..union.schema.fields().len())
        .map(|column| event_time::of_union(inputs.iter().map(|input| input.columns[column])))
        .collect();
    Ok(Node {
        id: 0,
        operator: Operator::Union,
        schema: Arc::clone(&union.schema),
        columns,
        append_only: inputs.iter().all(|input| input.append_only),
        inputs,
    })
}

/// The input of a union with the union's types. `DataFusion` has usually seen to that.
fn coerced(input: Node, schema: &DFSchemaRef, scope: Scope<'_>) -> Result<Node> {
    let fields = || input.schema.fields().iter().zip(schema.fields().iter());
    if fields().all(|(from, to)| from.data_type() == to.data_type()) {
        return Ok(input);
    }
    let exprs = (fields().zip(input.schema.columns()))
        .map(|((from, to), column)| {
            let column = Expr::Column(column);
            if from.data_type() == to.data_type() {
                column
            } else {
                let cast =
                    datafusion::logical_expr::Cast::new(Box::new(column), to.data_type().clone());
                Expr::Cast(cast)
            }
        })
        .collect();
    project(input, exprs, Arc::clone(schema), scope.clock)
}

fn unnest(unnest: &Unnest, scope: Scope<'_>) -> Result<Node> {
    let [(column, list)] = unnest.list_type_columns.as_slice() else {
        return Err(unsupported(
            "unnest of several lists at once",
            "their elements would have to be paired",
            "unnest one list in a sub-query in FROM and the next one above it",
        ));
    };
    if list.depth != 1 || !unnest.struct_type_columns.is_empty() {
        return Err(unsupported(
            "unnest of nested lists or of a struct",
            "a row can only become a row for each element of one list",
            "unnest level by level in sub-queries; write struct.field for a field",
        ));
    }
    let input = node(&unnest.input, scope)?;
    let keep_empty = match unnest.options.null_handling {
        NullHandling::Drop => false,
        NullHandling::PreserveAndExpandEmpty => true,
        NullHandling::Preserve => {
            return Err(unsupported(
                "unnest that keeps null lists and drops empty ones",
                "a row's list either counts or it does not",
                "use unnest(...), which leaves out both, or the outer form, which keeps both",
            ));
        }
    };
    let mut columns = input.columns.clone();
    columns[*column] = event_time::of_element(columns[*column]);
    Ok(Node {
        id: 0,
        operator: Operator::Unnest {
            column: *column,
            keep_empty,
        },
        schema: Arc::clone(&unnest.schema),
        columns,
        append_only: input.append_only,
        inputs: vec![input],
    })
}

fn limit() -> ConvertError {
    unsupported(
        "LIMIT",
        "a stream has no last row, so the first rows by arrival would depend on timing",
        "say which rows with ORDER BY ... LIMIT, filter by a condition, or limit when the result is read",
    )
}

/// Why there is no such operator, and what there is.
fn refusal(plan: &LogicalPlan) -> ConvertError {
    match plan {
        LogicalPlan::Sort(sort) => unsupported(
            format!(
                "ORDER BY {}",
                text::list(sort.expr.iter().map(|by| &by.expr))
            ),
            "the rows of a sub-query or of a part of a UNION come in any order, all the same",
            "leave it out, or order the whole result in complete mode",
        ),
        LogicalPlan::Limit(_) => limit(),
        LogicalPlan::RecursiveQuery(_) => unsupported(
            "WITH RECURSIVE",
            "the dataflow has no loops",
            "write the levels out with UNION ALL",
        ),
        LogicalPlan::Subquery(_) => unsupported(
            "a correlated sub-query",
            "it is a join of two streams, and joins are not there yet",
            "run it as a second query",
        ),
        LogicalPlan::Extension(extension) => unsupported(
            format!("the operator {}", extension.node.name()),
            "the engine has no such operator",
            "write the query in plain SQL",
        ),
        other => {
            let name = other.display().to_string();
            let name = name
                .split([':', ' '])
                .next()
                .unwrap_or("this statement")
                .to_owned();
            unsupported(
                format!("the statement {name}"),
                "it is no query",
                "write SELECT ... or INSERT INTO table SELECT ...",
            )
        }
    }
}
