//! Tables that are read again while a query runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use rusqlite::Connection;
use serde_json::json;
use tidemark::runtime::StreamingQuery;
use tidemark::session::Session;
use tidemark_connectors::sources::memory::MemorySource;

use crate::rows_of;
#[cfg(unix)]
use crate::server::server;

/// What has not happened by then does not happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// A stream of orders that a test feeds.
pub(crate) fn orders() -> MemorySource {
    let fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("customer", DataType::Int64, true),
    ];
    MemorySource::new(Arc::new(Schema::new(fields)))
}

/// Orders with these ids, of customers 1, 2 and so on to 5.
pub(crate) fn add(orders: &MemorySource, ids: std::ops::Range<i64>) {
    let customers: Int64Array = ids.clone().map(|id| id % 5 + 1).collect();
    let ids: Int64Array = ids.collect();
    let schema = tidemark_connectors::Source::schema(orders);
    let batch = RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(customers)]);
    orders.add(batch.expect("a batch")).expect("added");
}

fn script(dir: &Path, customers: &str, more: &str, query: &str) -> String {
    format!(
        "CREATE TABLE orders (id BIGINT, customer BIGINT) WITH ('connector' = 'memory', 'name' = 'orders');
         CREATE TABLE customers (id BIGINT, name STRING) WITH ({customers}, 'streaming' = 'false');
         CREATE TABLE result WITH ('connector' = 'memory', {more}, 'checkpointLocation' = '{}/checkpoint');
         INSERT INTO result {query};",
        dir.display()
    )
}

/// Waits until a query has taken in the snapshot with this number.
pub(crate) fn await_snapshot(query: &StreamingQuery, number: u64) {
    let began = Instant::now();
    let seen = || {
        let progress = query.recent_progress();
        progress
            .iter()
            .flat_map(|epoch| &epoch.sources)
            .any(|source| {
                source.description.contains("customers") && source.end_offset == json!(number)
            })
    };
    while !seen() {
        assert!(
            query.is_active() && began.elapsed() < PATIENCE,
            "snapshot {number} did not come: {:?}",
            query.exception()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A table that `set` gives the name `v1`, `v2`, ... of every customer.
fn follows(options: &str, set: &dyn Fn(u64)) {
    let triggers = ["'trigger' = '10 ms'", "'trigger' = 'continuous 20 ms'"];
    for (trigger, workers, threshold) in [
        (triggers[0], 1, "10MB"),
        (triggers[0], 2, "-1"),
        (triggers[1], 2, "10MB"),
        (triggers[1], 1, "-1"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let session = Session::builder()
            .workers(workers)
            .build()
            .expect("a session");
        let orders = orders();
        session.add_source("orders", orders.clone());
        set(1);
        let options = format!("{options}, 'refreshInterval' = '20 ms'");
        let more = format!("{trigger}, 'autoBroadcastJoinThreshold' = '{threshold}'");
        let query = "SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON o.customer = c.id";
        let script = script(dir.path(), &options, &more, query);
        let query = session.sql(&script).expect("a query").swap_remove(0);
        let mut expected = Vec::new();
        for version in 1..=4 {
            if version > 1 {
                set(version);
            }
            await_snapshot(&query, version);
            let first = version as i64 * 10;
            add(&orders, first..first + 10);
            query.process_all_available().expect("it runs");
            expected.extend((first..first + 10).map(|id| format!("{id} v{version}")));
            assert_eq!(rows_of(&session, "result"), expected, "{more}");
        }
        query.stop().expect("it stops");
        // A restart joins with what it had, until it has read the table again.
        let session = Session::builder()
            .workers(3 - workers)
            .build()
            .expect("a session");
        session.add_source("orders", orders.clone());
        let query = session.sql(&script).expect("a query").swap_remove(0);
        set(5);
        await_snapshot(&query, 5);
        add(&orders, 50..60);
        query.process_all_available().expect("it runs");
        query.stop().expect("it stops");
        let found = rows_of(&session, "result");
        assert!(found.contains(&"50 v5".to_owned()), "{found:?}");
    }
}

/// Makes the database file of a test; its customers are renamed by what is given back.
pub(crate) fn sqlite(path: &Path) -> impl Fn(u64) + Send + use<> {
    let connection = Connection::open(path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT);
             INSERT INTO customers VALUES (1, ''), (2, ''), (3, ''), (4, ''), (5, '');",
        )
        .expect("a table");
    move |version| {
        let renamed = connection.execute("UPDATE customers SET name = ?1", [format!("v{version}")]);
        renamed.expect("an update");
    }
}

#[test]
fn a_table_of_sqlite_that_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shop.db");
    let options = format!(
        "'connector' = 'sqlite', 'path' = '{}', 'dbtable' = 'customers'",
        path.display()
    );
    follows(&options, &sqlite(&path));
}

#[test]
fn a_file_that_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("customers");
    fs::create_dir(&path).expect("a directory");
    let set = |version: u64| {
        // One file is replaced, atomically; the other one stays.
        let write = |name: &str, ids: std::ops::RangeInclusive<u64>, of: u64| {
            let line = |id| format!("{{\"id\": {id}, \"name\": \"v{of}\"}}\n");
            let temporary = path.join(".new");
            fs::write(&temporary, ids.map(line).collect::<String>()).expect("written");
            fs::rename(&temporary, path.join(name)).expect("renamed");
        };
        if version == 1 {
            write("b.json", 6..=9, 0);
        }
        write("a.json", 1..=5, version);
    };
    let options = format!(
        "'connector' = 'file', 'path' = '{}', 'format' = 'json'",
        path.display()
    );
    follows(&options, &set);
}

#[cfg(unix)]
#[test]
fn a_table_of_postgres_that_changes() {
    let Some(server) = server() else { return };
    server.run(
        "CREATE SCHEMA again; CREATE TABLE again.customers (id INT PRIMARY KEY, name TEXT);
         INSERT INTO again.customers SELECT i, '' FROM generate_series(1, 5) i;",
    );
    let options = format!("{}, 'dbtable' = 'again.customers'", server.local());
    follows(&options, &|version| {
        server.run(&format!("UPDATE again.customers SET name = 'v{version}'"));
    });
}

#[test]
fn a_table_of_many_rows_that_changes_much() {
    for (workers, threshold) in [(1, "10MB"), (2, "1GB"), (2, "-1")] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("shop.db");
        let connection = Connection::open(&path).expect("a database");
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE customers (id INTEGER, name TEXT);",
            )
            .expect("a table");
        // Of each customer as many rows as the version says, of those whose number it leaves out none.
        let set = |version: i64| {
            let rows = format!(
                "BEGIN; DELETE FROM customers WHERE id % 4 != {version} % 4;
                 INSERT INTO customers WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 12000)
                   SELECT i, 'v{version}' FROM c WHERE i % 3 != {version} % 3; COMMIT;"
            );
            connection.execute_batch(&rows).expect("an update");
        };
        let model = |of: i64| -> Vec<String> {
            let query = "SELECT name FROM customers WHERE id = ?1";
            let mut statement = connection.prepare(query).expect("a statement");
            let names = statement.query_map([of], |row| row.get(0)).expect("rows");
            names.collect::<Result<_, _>>().expect("names")
        };
        let session = Session::builder()
            .workers(workers)
            .build()
            .expect("a session");
        let orders = orders();
        session.add_source("orders", orders.clone());
        let options = format!(
            "'connector' = 'sqlite', 'path' = '{}', 'dbtable' = 'customers', 'refreshInterval' = '20 ms'",
            path.display()
        );
        let more = format!("'trigger' = '10 ms', 'autoBroadcastJoinThreshold' = '{threshold}'");
        let query = "SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON o.id = c.id";
        let script = script(dir.path(), &options, &more, query);
        set(1);
        let query = session.sql(&script).expect("a query").swap_remove(0);
        let layout = if threshold == "-1" {
            "(partitioned)"
        } else {
            "(broadcast)"
        };
        assert!(query.explain().contains(layout), "{}", query.explain());
        let mut expected = Vec::new();
        for version in 1..=8 {
            if version > 1 {
                set(version);
            }
            await_snapshot(&query, version as u64);
            let ids = version * 500..version * 500 + 400;
            add(&orders, ids.clone());
            query.process_all_available().expect("it runs");
            for id in ids {
                let names = model(id);
                if names.is_empty() {
                    expected.push(format!("{id} NULL"));
                }
                expected.extend(names.iter().map(|name| format!("{id} {name}")));
            }
            expected.sort();
            assert_eq!(
                rows_of(&session, "result"),
                expected,
                "version {version}, {more}"
            );
        }
        query.stop().expect("it stops");
    }
}

#[test]
fn a_result_of_the_table_alone_follows_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shop.db");
    let set = sqlite(&path);
    set(1);
    let options = format!(
        "'connector' = 'sqlite', 'path' = '{}', 'dbtable' = 'customers', 'refreshInterval' = '10 ms'",
        path.display()
    );
    for checkpoint in [true, false] {
        let session = Session::builder().workers(2).build().expect("a session");
        session.add_source("orders", orders());
        let query = "SELECT name, count(*) AS n FROM customers GROUP BY name";
        let more = "'outputMode' = 'complete', 'trigger' = '10 ms'";
        let mut script = script(dir.path(), &options, more, query);
        if !checkpoint {
            script = script.replace("'checkpointLocation'", "'queryName' = 'result', 'x'");
            script = script.replace(
                &format!(", 'x' = '{}/checkpoint'", dir.path().display()),
                "",
            );
        }
        let query = session.sql(&script).expect("a query").swap_remove(0);
        let began = Instant::now();
        for version in 1..4 {
            set(version);
            let expected = [format!("v{version} 5")];
            while rows_of(&session, "result") != expected {
                assert!(query.is_active() && began.elapsed() < PATIENCE, "{version}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        query.stop().expect("it stops");
    }
}

#[test]
fn rows_without_columns_are_kept_and_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shop.db");
    sqlite(&path)(1);
    let session = Session::builder().workers(2).build().expect("a session");
    session.add_source("orders", orders());
    let options = format!(
        "'connector' = 'sqlite', 'path' = '{}', 'dbtable' = 'customers'",
        path.display()
    );
    let query = "SELECT count(*) AS n FROM customers";
    let script = script(
        dir.path(),
        &options,
        "'outputMode' = 'complete', 'trigger' = 'once'",
        query,
    );
    let query = session.sql(&script).expect("a query").swap_remove(0);
    query.await_termination().expect("it ends");
    assert_eq!(rows_of(&session, "result"), ["5"]);
}

#[test]
fn a_table_that_is_away_is_told_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shop.db");
    sqlite(&path)(1);
    let session = Session::builder().build().expect("a session");
    let orders = orders();
    session.add_source("orders", orders.clone());
    let options = format!(
        "'connector' = 'sqlite', 'path' = '{}', 'dbtable' = 'customers', 'refreshInterval' = '20 ms', 'maxStaleness' = '2 seconds'",
        path.display()
    );
    let query = "SELECT o.id, c.name FROM orders o JOIN customers c ON o.customer = c.id";
    let script = script(dir.path(), &options, "'trigger' = '10 ms'", query);
    let query = session.sql(&script).expect("a query").swap_remove(0);
    await_snapshot(&query, 1);
    fs::rename(&path, dir.path().join("away.db")).expect("renamed");
    std::thread::sleep(Duration::from_millis(300));
    add(&orders, 0..3);
    query.process_all_available().expect("it runs");
    assert_eq!(rows_of(&session, "result"), ["0 v1", "1 v1", "2 v1"]);
    let warnings: Vec<String> = (query.recent_progress().into_iter())
        .flat_map(|progress| progress.warnings)
        .collect();
    assert!(
        warnings.iter().any(
            |warning| warning.contains("cannot be read again, so its rows of")
                && warning.contains("shop.db")
        ),
        "{warnings:?}"
    );
    let error = query.await_termination().expect_err("too old").to_string();
    assert!(
        error.contains("cannot read again") && error.contains("'maxStaleness'"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_read_again_is_refused() {
    let refused = |customers: &str, more: &str, query: &str| {
        let session = Session::builder().build().expect("a session");
        session.add_source("orders", orders());
        let dir = tempfile::tempdir().expect("a directory");
        let script = script(dir.path(), customers, more, query);
        session.sql(&script).expect_err("refused").to_string()
    };
    let join = "SELECT o.id FROM orders o JOIN customers c ON o.customer = c.id";
    let sqlite = "'connector' = 'sqlite', 'path' = 'none.db', 'dbtable' = 'customers'";
    let every = "'refreshInterval' = '1 second'";
    for (customers, more, query, said) in [
        (
            format!("'connector' = 'memory', 'name' = 'orders', {every}"),
            "'trigger' = 'once'",
            join,
            "a table of the connector file, sqlite or postgres",
        ),
        (
            format!("{sqlite}, 'refreshInterval' = '0 seconds'"),
            "'trigger' = 'once'",
            join,
            "such as '10 seconds'",
        ),
        (
            format!("{sqlite}, 'maxStaleness' = '1 hour'"),
            "'trigger' = 'once'",
            join,
            "a 'refreshInterval' beside it",
        ),
        (
            format!("{sqlite}, {every}"),
            "'outputMode' = 'append'",
            "SELECT name FROM customers",
            "rows of the result are taken back when rows have gone from it",
        ),
    ] {
        let error = refused(&customers, more, query);
        assert!(error.contains(said), "{error}");
    }
}
