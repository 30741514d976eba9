//! Static tables of databases beside streams.

mod crash;
mod kill;
mod postgres;
mod refresh;
#[cfg(unix)]
mod server;

use std::fs;
use std::path::Path;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use rusqlite::Connection;
use tidemark::session::{Session, SessionError};

const SHOP: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, tier TEXT);
    INSERT INTO customers VALUES (1, 'ada', 'gold'), (2, 'bob', 'tin'), (3, 'eve', NULL);";

/// Files of orders, some of whose customers are nobody.
fn orders(dir: &Path) {
    fs::create_dir(dir.join("orders")).expect("a directory");
    for file in 0..4 {
        let lines: String = (0..25)
            .map(|line| {
                let order = file * 25 + line;
                format!("{{\"id\": {order}, \"customer\": {}}}\n", order % 5)
            })
            .collect();
        fs::write(dir.join(format!("orders/{file}.json")), lines).expect("written");
    }
}

fn script(dir: &Path, customers: &str, query: &str) -> String {
    format!(
        "CREATE TABLE orders (id BIGINT, customer BIGINT)
           WITH ('connector' = 'file', 'path' = '{}/orders', 'format' = 'json', 'maxFilesPerTrigger' = '1');
         CREATE TABLE customers WITH ({customers}, 'streaming' = 'false');
         CREATE TABLE result WITH ('connector' = 'memory', 'trigger' = 'available-now');
         INSERT INTO result {query};",
        dir.display()
    )
}

/// What a query gives, its rows as sorted text.
fn answer(workers: usize, script: &str) -> Result<Vec<String>, SessionError> {
    let session = Session::builder().workers(workers).build()?;
    for query in session.sql(script)? {
        query.await_termination()?;
    }
    Ok(rows_of(&session, "result"))
}

/// The rows of a table in memory as sorted text.
fn rows_of(session: &Session, table: &str) -> Vec<String> {
    let found = session.table(table).expect("a table can be read");
    let (_, batches) = found.expect("a table");
    let mut rows = Vec::new();
    for batch in &batches {
        let options = FormatOptions::new().with_null("NULL");
        let columns: Vec<_> = (batch.columns().iter())
            .map(|column| ArrayFormatter::try_new(column, &options).expect("text"))
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = (columns.iter())
                .map(|column| column.value(row).to_string())
                .collect();
            rows.push(cells.join(" "));
        }
    }
    rows.sort();
    rows
}

/// Joins of every kind beside `customers` give what they should, on one worker and on three.
fn joins(dir: &Path, customers: &str) {
    for (workers, threshold) in [(1, "10MB"), (3, "10MB"), (3, "-1")] {
        let ask = |query: &str| {
            let set = format!("SET 'spark.sql.autoBroadcastJoinThreshold' = '{threshold}'; ");
            answer(workers, &(set + &script(dir, customers, query))).expect("rows")
        };
        let inner =
            ask("SELECT o.id, name, tier FROM orders o JOIN customers c ON o.customer = c.id");
        assert_eq!(inner.len(), 60);
        assert_eq!(inner[..3], ["1 ada gold", "11 ada gold", "12 bob tin"]);
        let left = ask(
            "SELECT tier, count(*) AS n FROM orders o LEFT JOIN customers c ON o.customer = c.id GROUP BY tier",
        );
        assert_eq!(left, ["NULL 60", "gold 20", "tin 20"]);
        let anti = ask(
            "SELECT DISTINCT customer FROM orders o WHERE NOT EXISTS (SELECT 1 FROM customers c WHERE c.id = o.customer)",
        );
        assert_eq!(anti, ["0", "4"]);
        let of_query = ask(
            "SELECT count(*) AS n FROM orders o LEFT SEMI JOIN customers c ON o.customer > c.id",
        );
        assert_eq!(of_query, ["60"]);
    }
}

#[test]
fn streams_are_joined_with_tables_of_sqlite() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path();
    orders(path);
    let connection = Connection::open(path.join("shop.db")).expect("a database");
    connection.execute_batch(SHOP).expect("a table");
    let shop = format!(
        "'connector' = 'sqlite', 'path' = '{}/shop.db'",
        path.display()
    );
    joins(path, &format!("{shop}, 'dbtable' = 'customers'"));
    let query = "'query' = 'SELECT id, name, tier FROM customers ORDER BY name DESC'";
    joins(path, &format!("{shop}, {query}"));
}

#[test]
fn a_stream_of_a_table_is_refused() {
    let session = Session::builder().build().expect("a session");
    let script = "CREATE TABLE c (id BIGINT) WITH ('connector' = 'sqlite', 'path' = 'none.db', 'dbtable' = 'c');
                  SELECT id FROM c;";
    let error = session.sql(script).expect_err("refused").to_string();
    assert!(
        error.starts_with("query:1:14: a stream of 'c': 'sqlite' says what is there, not what is new is not supported; write 'streaming' = 'false' for a static table"),
        "{error}"
    );
}
