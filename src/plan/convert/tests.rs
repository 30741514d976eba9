use std::sync::Arc;

use super::super::catalog::QueryStatement;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableScan};
use datafusion::prelude::{col, lit};
use tidemark_connectors::OutputMode::{Append, Changelog, Complete, Update};

use super::super::event_time::bound_of;
use super::super::{AggregateFunction, Emit, EventTimeColumn, EventTimeKind, Node, Operator, Plan};
use super::testing::{data_file, plan, planned, refused, statement};
use super::{ConvertError, plan_query};

#[test]
fn explanations() {
    data_file("explain.txt", |sql, mode| match plan(sql, mode) {
        Ok(plan) => plan.explain(),
        Err(error) => error.to_string(),
    });
}

#[test]
fn refusals() {
    data_file("refused.txt", |sql, mode| {
        refused(sql, mode.expect("a mode"))
    });
}

fn nodes(node: &Node) -> Vec<&Node> {
    let mut all: Vec<&Node> = node.inputs.iter().flat_map(nodes).collect();
    all.push(node);
    all
}

fn kinds(plan: &Plan) -> Vec<&'static str> {
    nodes(&plan.root)
        .iter()
        .map(|node| match node.operator {
            Operator::Source { .. } => "source",
            Operator::FilterProject { .. } => "filter_project",
            Operator::Unnest { .. } => "unnest",
            Operator::Union => "union",
            Operator::Aggregate(_) => "aggregate",
            Operator::SessionWindow(_) => "sessions",
            Operator::Deduplicate(_) => "deduplicate",
            Operator::Rank(_) => "rank",
            Operator::Over(_) => "over",
            Operator::Nearest(_) => "nearest",
            Operator::Join(_) => "join",
            Operator::Values { .. } => "values",
        })
        .collect()
}

#[test]
fn the_invariants_of_a_plan_hold() {
    for sql in [
        "SELECT kind, count(*) AS n, current_date() AS today FROM events GROUP BY kind",
        "SELECT kind, n FROM events UNION ALL SELECT user_id, 1 FROM other",
        "SELECT a.k, a.t FROM (SELECT kind AS k, unnest(tags) AS t FROM events) a WHERE a.t <> 'x'",
        "SELECT max(m) FROM (SELECT kind, max(n) AS m FROM logs GROUP BY kind)",
        "SELECT count(*) FROM logs",
    ] {
        let plan = planned(sql, Update);
        assert_eq!(plan.schema.fields().len(), plan.root.columns.len(), "{sql}");
        for (index, node) in nodes(&plan.root).into_iter().enumerate() {
            assert_eq!(node.id, index, "ids are dense, in post-order: {sql}");
            assert_eq!(node.columns.len(), node.schema.fields().len(), "{sql}");
            match &node.operator {
                Operator::Aggregate(aggregate) => {
                    assert_eq!(
                        node.columns.len(),
                        aggregate.keys.len() + aggregate.calls.len(),
                        "{sql}"
                    );
                }
                Operator::FilterProject {
                    project: Some(exprs),
                    ..
                } => {
                    assert_eq!(node.columns.len(), exprs.len(), "{sql}");
                }
                Operator::Source { projection, .. } => {
                    assert!(projection.is_sorted(), "{sql}");
                    assert_eq!(node.columns.len(), projection.len(), "{sql}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn filters_and_projections_become_one_operator() {
    let sql =
        "SELECT x + 1 AS y FROM (SELECT n * 2 AS x, kind FROM logs WHERE n > 0) WHERE kind = 'a'";
    assert_eq!(kinds(&planned(sql, Append)), ["source", "filter_project"]);
}

#[test]
fn nothing_is_computed_twice() {
    // The common part stays in a projection of its own.
    let sql = "SELECT upper(kind) || 'a' AS a, upper(kind) || 'b' AS b FROM logs";
    assert_eq!(
        kinds(&planned(sql, Append)),
        ["source", "filter_project", "filter_project"]
    );
}

#[test]
fn having_is_a_filter_over_the_aggregate() {
    let plan = planned(
        "SELECT kind FROM logs GROUP BY kind HAVING sum(n) > 10",
        Update,
    );
    assert_eq!(kinds(&plan), ["source", "aggregate", "filter_project"]);
}

#[test]
fn the_same_text_gives_the_same_plan() {
    let sql = "SELECT kind, count(*) AS n FROM (SELECT kind FROM events UNION ALL SELECT kind FROM other) GROUP BY kind";
    assert_eq!(
        planned(sql, Update).explain(),
        planned(sql, Update).explain()
    );
}

#[test]
fn aggregates_are_known_by_name_and_flags() {
    let plan = planned(
        "SELECT count(*), count(1), count(n), count(DISTINCT n), sum(n), avg(n), mean(n), min(n), max(DISTINCT n), approx_count_distinct(kind, 0.01), count(*) FILTER (WHERE n > 1) FROM logs",
        Update,
    );
    let all = nodes(&plan.root);
    let calls: Vec<_> = (all.iter())
        .filter_map(|node| match &node.operator {
            Operator::Aggregate(aggregate) => Some(aggregate.calls.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let has = |function, args, filter| {
        calls.iter().any(|call| {
            call.function == function && call.args.len() == args && call.filter.is_some() == filter
        })
    };
    assert!(has(AggregateFunction::Count, 0, false));
    assert!(has(AggregateFunction::Count, 1, false));
    assert!(has(AggregateFunction::Count, 0, true));
    assert!(has(AggregateFunction::CountDistinct, 1, false));
    assert!(has(AggregateFunction::Sum, 1, false));
    assert!(has(AggregateFunction::Avg, 1, false));
    assert!(has(AggregateFunction::Min, 1, false));
    assert!(has(AggregateFunction::Max, 1, false));
    assert!(has(
        AggregateFunction::ApproxCountDistinct { precision: 14 },
        1,
        false
    ));
}

/// Of each column of the result.
fn event_times(sql: &str) -> Vec<Option<EventTimeColumn>> {
    planned(sql, Update).root.columns
}

#[expect(clippy::unnecessary_wraps, reason = "a column is known or it is not")]
fn at(kind: EventTimeKind, lag: i64) -> Option<EventTimeColumn> {
    Some(EventTimeColumn { kind, lag })
}

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

#[test]
fn event_time_follows_what_keeps_it() {
    use EventTimeKind::{Instant, Window, WindowEnd, WindowStart, Windows};
    for (expr, expected) in [
        ("ts", at(Instant, 0)),
        ("ts AS t", at(Instant, 0)),
        (
            "arrow_cast(ts, 'Timestamp(Microsecond, Some(\"UTC\"))')",
            at(Instant, 0),
        ),
        (
            "arrow_cast(ts, 'Timestamp(Millisecond, Some(\"UTC\"))')",
            None,
        ),
        ("CAST(ts AS DATE)", at(Instant, 24 * HOUR - 1)),
        (
            "trunc(CAST(ts AS DATE), 'month')",
            at(Instant, 31 * 24 * HOUR - 1),
        ),
        ("trunc(CAST(ts AS DATE), 'day')", None),
        (
            "CAST(get_field(window(ts, '5 minutes'), 'end') AS DATE)",
            None,
        ),
        ("ts - INTERVAL '1 hour'", at(Instant, HOUR)),
        ("ts + INTERVAL '1 hour'", at(Instant, 0)),
        (
            "ts - INTERVAL '1 hour' + INTERVAL '20 minutes'",
            at(Instant, 40 * MINUTE),
        ),
        ("ts - INTERVAL '1 month'", None),
        ("date_trunc('hour', ts)", at(Instant, HOUR - 1)),
        ("coalesce(ts, ts)", None),
        ("CASE WHEN n > 1 THEN ts END", None),
        ("window(ts, '5 minutes')", at(Window(5 * MINUTE), 0)),
        (
            "__tumbling_window(ts, 300000000, 0)",
            at(Window(5 * MINUTE), 0),
        ),
        (
            "window(ts - INTERVAL '1 hour', '5 minutes')",
            at(Window(5 * MINUTE), HOUR),
        ),
        (
            "get_field(window(ts, '5 minutes'), 'end')",
            at(WindowEnd, 0),
        ),
        (
            "get_field(window(ts, '5 minutes'), 'start')",
            at(WindowStart(5 * MINUTE), 0),
        ),
        (
            "get_field(window(ts, '5 minutes'), 'end') - INTERVAL '1 minute'",
            None,
        ),
        ("window_time(window(ts, '5 minutes'))", at(Instant, 0)),
        (
            "window_time(__tumbling_window(ts, 1500, 0))",
            at(Instant, 1),
        ),
        (
            "window(window(ts, '5 minutes'), '1 hour')",
            at(Window(HOUR), 0),
        ),
        (
            "__sliding_windows(ts, 3600000000, 60000000, 0)",
            at(Windows(HOUR), 0),
        ),
        (
            "__cumulate_windows(ts, 60000000, 3600000000, 0)",
            at(Windows(HOUR), 0),
        ),
        (
            "unnest(__sliding_windows(ts, 3600000000, 60000000, 0))",
            at(Window(HOUR), 0),
        ),
        ("n", None),
    ] {
        let sql = format!("SELECT {expr} FROM events");
        assert_eq!(event_times(&sql), [expected], "{expr}");
    }
    assert_eq!(event_times("SELECT ts FROM logs"), [None]);
    assert_eq!(
        event_times("SELECT ts FROM fixed"),
        [None],
        "a static table has no event time"
    );
}

#[test]
fn a_union_keeps_event_time_where_all_inputs_agree() {
    use EventTimeKind::{Instant, Window};
    let union =
        |right: &str| event_times(&format!("SELECT ts FROM events UNION ALL SELECT {right}"));
    assert_eq!(union("ts FROM other"), [at(Instant, 0)]);
    assert_eq!(
        union("ts - INTERVAL '1 minute' FROM other"),
        [at(Instant, MINUTE)]
    );
    assert_eq!(union("ts FROM logs"), [None]);
    let sql = "SELECT window(ts, '5 minutes') AS w FROM events UNION ALL SELECT window(ts, '1 hour') FROM other";
    assert_eq!(event_times(sql), [at(Window(HOUR), 0)]);
}

#[test]
fn keys_keep_their_event_time_and_lag_behind_the_bound() {
    use EventTimeKind::{Instant, Window, WindowEnd, WindowStart};
    let sql = "SELECT w, ts, kind, count(*) FROM (SELECT window(ts, '5 minutes') AS w, ts, kind FROM events) GROUP BY w, ts, kind";
    let [w, ts, kind, n] = event_times(sql).try_into().expect("four columns");
    assert_eq!((w, kind, n), (at(Window(5 * MINUTE), 0), None, None));
    assert_eq!(ts, at(Instant, 5 * MINUTE), "a row waits for its window");

    let sql = "SELECT get_field(w, 'start') AS s, get_field(w, 'end') AS e, count(*) FROM (SELECT window(ts, '5 minutes') AS w FROM events) GROUP BY get_field(w, 'start'), get_field(w, 'end')";
    let columns = event_times(sql);
    assert_eq!(
        columns[..2],
        [at(WindowStart(5 * MINUTE), 0), at(WindowEnd, 0)],
        "one window"
    );
}

/// The bound of the topmost aggregate, its emit, and whether the result is append-only.
fn top(plan: &Plan) -> (Option<usize>, Emit, bool) {
    let aggregate = nodes(&plan.root)
        .into_iter()
        .rev()
        .find_map(|node| match &node.operator {
            Operator::Aggregate(aggregate) => Some(aggregate.clone()),
            _ => None,
        });
    let aggregate = aggregate.expect("an aggregate");
    (
        aggregate.bound.map(|bound| bound.key),
        aggregate.emit,
        plan.root.append_only,
    )
}

#[test]
fn the_bound_is_the_window_before_its_end_before_an_instant_before_its_start() {
    use EventTimeKind::{Instant, Window, WindowEnd, WindowStart, Windows};
    let bound = |kinds: &[Option<EventTimeKind>]| {
        let keys: Vec<_> = kinds
            .iter()
            .map(|kind| kind.and_then(|kind| at(kind, 0)))
            .collect();
        bound_of(&keys).map(|bound| bound.key)
    };
    assert_eq!(
        bound(&[
            None,
            Some(WindowStart(1)),
            Some(Instant),
            Some(WindowEnd),
            Some(Window(1))
        ]),
        Some(4)
    );
    assert_eq!(
        bound(&[None, Some(WindowStart(1)), Some(Instant), Some(WindowEnd)]),
        Some(3)
    );
    assert_eq!(
        bound(&[None, Some(WindowStart(1)), Some(Instant), Some(Instant)]),
        Some(2)
    );
    assert_eq!(bound(&[None, Some(WindowStart(1))]), Some(1));
    assert_eq!(bound(&[None, Some(Windows(1))]), None);
}

#[test]
fn each_mode_says_when_groups_are_given() {
    let sql = "SELECT window(ts, '5 minutes') AS w, count(*) AS n FROM events GROUP BY window(ts, '5 minutes')";
    assert_eq!(top(&planned(sql, Append)), (Some(0), Emit::OnClose, true));
    assert_eq!(top(&planned(sql, Update)), (Some(0), Emit::Changes, false));
    assert_eq!(
        top(&planned(sql, Changelog)),
        (Some(0), Emit::Changes, false)
    );
    assert_eq!(
        top(&planned(sql, Complete)),
        (None, Emit::Changes, false),
        "nothing is forgotten"
    );
    let distinct = "SELECT DISTINCT kind, ts FROM events";
    assert_eq!(
        top(&planned(distinct, Append)),
        (Some(1), Emit::Changes, true),
        "at once"
    );
}

#[test]
fn an_aggregate_of_changes_takes_retractions() {
    let plan = planned(
        "SELECT m, count(*) FROM (SELECT kind, max(n) AS m FROM logs GROUP BY kind) GROUP BY m",
        Update,
    );
    let aggregates: Vec<bool> = (nodes(&plan.root).into_iter())
        .filter(|node| matches!(node.operator, Operator::Aggregate(_)))
        .map(|node| node.inputs[0].append_only)
        .collect();
    assert_eq!(aggregates, [true, false]);
    let distinct = planned(
        "SELECT DISTINCT m FROM (SELECT kind, max(n) AS m FROM logs GROUP BY kind)",
        Update,
    );
    assert!(
        !distinct.root.append_only,
        "a distinct row can go when its last copy goes"
    );
}

#[test]
fn without_a_mode_append_is_taken_where_it_is_possible() {
    let mode = |sql: &str| plan(sql, None).expect("planned").mode;
    assert_eq!(mode("SELECT kind FROM logs"), Append);
    assert_eq!(mode("SELECT DISTINCT kind FROM logs"), Append);
    assert_eq!(
        mode("SELECT count(*) FROM events GROUP BY window(ts, '5 minutes')"),
        Append
    );
    assert_eq!(
        mode("SELECT kind, count(*) FROM events GROUP BY kind"),
        Update
    );
}

#[test]
fn the_key_is_the_groups_as_long_as_they_survive() {
    let key = |sql: &str| planned(sql, Update).key;
    let window = "window(ts, '5 minutes')";
    assert_eq!(key("SELECT n, kind FROM logs"), None);
    assert_eq!(key("SELECT count(*) FROM logs"), Some(vec![]));
    assert_eq!(
        key("SELECT count(*) AS c, kind FROM logs GROUP BY kind"),
        Some(vec![1])
    );
    assert_eq!(
        key("SELECT count(*) AS c, upper(kind) AS k FROM logs GROUP BY kind"),
        None
    );
    assert_eq!(key("SELECT DISTINCT kind, n FROM logs"), Some(vec![0, 1]));
    let by_window = |columns: &str| {
        key(&format!(
            "SELECT {columns} FROM events GROUP BY {window}, kind"
        ))
    };
    assert_eq!(
        by_window(&format!("kind, {window} AS w, count(*)")),
        Some(vec![0, 1])
    );
    assert_eq!(
        by_window(&format!(
            "kind, get_field({window}, 'start') AS s, count(*)"
        )),
        Some(vec![0, 1])
    );
    assert_eq!(by_window("kind, count(*)"), None);
    // The windows of CUMULATE share their starts.
    let sliding = |function: &str, columns: &str| {
        key(&format!(
            "SELECT {columns}, count(*) FROM (SELECT unnest({function}(ts, 60000000, 120000000, 0)) AS w FROM events) GROUP BY w"
        ))
    };
    assert_eq!(
        sliding("__sliding_windows", "get_field(w, 'start') AS s"),
        Some(vec![0])
    );
    assert_eq!(
        sliding("__cumulate_windows", "get_field(w, 'start') AS s"),
        None
    );
    assert_eq!(sliding("__cumulate_windows", "w"), Some(vec![0]));
    let by_parts = "SELECT get_field(w, 'start') AS s, count(*) FROM (SELECT window(ts, '5 minutes') AS w FROM events) GROUP BY get_field(w, 'start'), get_field(w, 'end')";
    assert_eq!(key(by_parts), Some(vec![0]), "the start alone says the end");
}

#[test]
fn the_sinks_primary_key_wins() {
    let mut statement = statement(
        "SELECT kind, count(*) AS n FROM logs GROUP BY kind",
        Some(Update),
    );
    statement.primary_key = vec![1];
    assert_eq!(plan_query(&statement).expect("planned").key, Some(vec![1]));
}

#[test]
fn the_clock_is_a_column_of_its_epoch() {
    let plan = planned(
        "SELECT current_timestamp() AS now, current_date() AS today FROM events",
        Append,
    );
    let Operator::FilterProject {
        project: Some(exprs),
        ..
    } = &plan.root.operator
    else {
        panic!("{}", plan.explain());
    };
    assert_eq!(exprs[0].to_string(), "__current_timestamp");
    assert_eq!(exprs[1].to_string(), "CAST(__current_timestamp AS Date32)");
    // A row with a known key is replaced as a whole: no matter that its times differ.
    planned(
        "SELECT kind, count(*) AS n, current_timestamp() AS at FROM logs GROUP BY kind",
        Update,
    );
}

/// The statement with its one scan changed.
fn with_scan(sql: &str, change: impl Fn(&mut TableScan)) -> QueryStatement {
    let mut statement = statement(sql, Some(Append));
    let changed = statement.logical.transform_up(|plan| match plan {
        LogicalPlan::TableScan(mut scan) => {
            change(&mut scan);
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    });
    statement.logical = changed.expect("the change fits").data;
    statement
}

#[test]
fn a_filter_pushed_into_a_scan_reads_its_columns_and_gives_none_of_them() {
    let statement = with_scan("SELECT kind FROM events", |scan| {
        scan.filters = vec![col("events.n").gt(lit(1_i64)), col("ts").is_not_null()];
    });
    let plan = plan_query(&statement).expect("planned");
    let Operator::Source { projection, .. } = &nodes(&plan.root)[0].operator else {
        panic!("{}", plan.explain());
    };
    assert_eq!(*projection, [1, 3, 4]);
    assert_eq!(kinds(&plan), ["source", "filter_project"]);
    assert_eq!(plan.root.columns.len(), 1);
}

#[test]
fn columns_are_read_in_the_tables_order() {
    let statement = statement("SELECT user_id, kind FROM events", Some(Append));
    let mut scan = scan_of(&statement.logical).expect("one scan").clone();
    let table = Arc::clone(&scan.source);
    scan = TableScanBuilder::new("events", table)
        .with_projection(Some(vec![3, 0]))
        .build()
        .expect("such columns");
    let swapped = QueryStatement {
        logical: LogicalPlan::TableScan(scan),
        ..statement
    };
    let plan = plan_query(&swapped).expect("planned");
    let Operator::Source { projection, .. } = &nodes(&plan.root)[0].operator else {
        panic!("{}", plan.explain());
    };
    assert_eq!(*projection, [0, 3]);
    assert_eq!(plan.root.schema.field(0).name(), "n");
}

fn scan_of(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        other => other.inputs().into_iter().find_map(scan_of),
    }
}

/// The statement with `change` on top of its plan.
fn on_top(
    sql: &str,
    change: impl Fn(LogicalPlanBuilder) -> datafusion::error::Result<LogicalPlanBuilder>,
) -> QueryStatement {
    let mut statement = statement(sql, Some(Append));
    let builder = change(LogicalPlanBuilder::from(statement.logical));
    statement.logical = builder
        .and_then(LogicalPlanBuilder::build)
        .expect("it fits");
    statement
}

#[test]
fn a_distinct_is_an_aggregate_without_calls() {
    let distinct = on_top("SELECT kind, ts FROM events", LogicalPlanBuilder::distinct);
    let plan = plan_query(&distinct).expect("planned");
    assert_eq!(top(&plan), (Some(1), Emit::Changes, true));
    assert_eq!(plan.key, Some(vec![0, 1]));
}

#[test]
fn an_unnest_that_keeps_null_lists_only_is_refused() {
    let kept = on_top("SELECT tags FROM events", |plan| plan.unnest_column("tags"));
    let error = plan_query(&kept)
        .expect_err("neither this nor that")
        .to_string();
    assert!(
        error.starts_with("unnest that keeps null lists and drops empty ones"),
        "{error}"
    );
}

#[test]
fn a_limit_inside_a_scan_is_a_limit() {
    let limited = with_scan("SELECT kind FROM events", |scan| scan.fetch = Some(3));
    let error = plan_query(&limited).expect_err("a limit").to_string();
    assert!(error.starts_with("LIMIT is not supported"), "{error}");
}

#[test]
fn a_table_that_was_not_declared_is_named() {
    let mut statement = statement("SELECT kind FROM logs", Some(Append));
    statement.sources.clear();
    let error = plan_query(&statement).expect_err("no such table");
    assert!(
        matches!(&error, ConvertError::UnknownTable { table, .. } if table == "logs"),
        "{error}"
    );
}

fn part(parts: &[(String, String)], name: &str) -> String {
    parts
        .iter()
        .find(|(part, _)| part == name)
        .map(|(_, text)| text.clone())
        .unwrap_or_default()
}

#[test]
fn a_fingerprint_does_not_depend_on_names_or_limits() {
    let one = planned(
        "SELECT v.k, count(*) AS n FROM (SELECT kind AS k FROM events) v GROUP BY v.k",
        Update,
    );
    let mut two = planned(
        "SELECT w.x AS y, count(*) AS z FROM (SELECT kind AS x FROM events) w GROUP BY w.x",
        Update,
    );
    two.trigger = super::super::Trigger::Once;
    two.sink.options.set("format", "csv");
    two.sources[0].options.set("maxFilesPerTrigger", "3");
    assert_eq!(one.fingerprint(), two.fingerprint());
}

#[test]
fn a_fingerprint_names_what_changed() {
    let one = planned(
        "SELECT kind, count(*) AS n FROM events GROUP BY kind",
        Update,
    )
    .fingerprint();
    let two = planned(
        "SELECT user_id, count(*) AS n FROM events GROUP BY user_id",
        Update,
    )
    .fingerprint();
    let changed: Vec<&str> = (one.iter().zip(&two))
        .filter(|(one, two)| one != two)
        .map(|((name, _), _)| name.as_str())
        .collect();
    assert_eq!(changed, ["source 0", "operator 1"]);
    assert_eq!(
        part(&one, "operator 1"),
        "aggregate [count(*) BIGINT] by [source0.kind STRING], never complete, gives changes, append-only input"
    );
    assert_eq!(
        part(&one, "source 0"),
        "file, path = events; event time ts; reads kind STRING"
    );
    assert_eq!(part(&one, "output mode"), "update");
    assert_eq!(part(&one, "sink"), "file, path = out");
}
