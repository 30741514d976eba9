//! A crash at every operation on the disk, beside a table that is another one each time it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;

use tidemark::plan::catalog::Statement;
use tidemark::session::Session;
use tidemark_connectors::sinks::file::manifest::committed_files;
use tidemark_connectors::storage::crash::{CrashStorage, Loss, Outcome, Then, memory_directory};

use crate::refresh::{add, orders, sqlite};

/// The ways to stop, and what the crash takes.
const CRASHES: [(Outcome, Then, Loss); 4] = [
    (Outcome::DidNotHappen, Then::Dies, Loss::Unsynced),
    (Outcome::MayHaveHappened, Then::Dies, Loss::Some),
    (Outcome::MayHaveHappened, Then::Dies, Loss::Unsynced),
    (Outcome::DidNotHappen, Then::Dies, Loss::Bytes),
];

#[test]
fn a_table_is_read_once_whatever_stops_the_query() {
    let database = tempfile::tempdir().expect("a directory");
    let path = database.path().join("shop.db");
    sqlite(&path)(1);
    let root = tempfile::tempdir_in(memory_directory()).expect("a directory");
    let orders = orders().one_batch_per_epoch();
    for epoch in 0..3 {
        add(&orders, epoch * 10..epoch * 10 + 10);
    }
    let script = format!(
        "CREATE TABLE orders (id BIGINT, customer BIGINT) WITH ('connector' = 'memory', 'name' = 'orders');
         CREATE TABLE customers (id BIGINT, mark STRING) WITH ('connector' = 'sqlite', 'path' = '{}',
           'query' = 'SELECT id, hex(randomblob(8)) AS mark FROM customers', 'streaming' = 'false');
         CREATE TABLE result WITH ('connector' = 'file', 'path' = '{root}/result', 'format' = 'csv',
           'trigger' = 'available-now', 'checkpointLocation' = '{root}/checkpoint');
         INSERT INTO result SELECT o.id, o.customer, c.mark FROM orders o JOIN customers c ON o.customer = c.id;",
        path.display(),
        root = root.path().display(),
    );
    let run = |storage: &CrashStorage, workers: usize| -> Result<(), String> {
        let builder = Session::builder().workers(workers);
        let session = builder.storage(Arc::new(storage.clone())).build();
        let session = session.map_err(|error| error.to_string())?;
        session.add_source("orders", orders.clone());
        let statements = session
            .parse(&script, "crash")
            .expect("a script")
            .statements;
        for statement in &statements {
            if let Statement::Query(query) = statement {
                let plan = session.plan(query).map_err(|error| error.to_string())?;
                let query = session
                    .start(&plan, None)
                    .map_err(|error| error.to_string())?;
                query
                    .await_termination()
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    };
    // Each order once, and each customer with one mark.
    let check = |whole: bool, when: &str| {
        let files = committed_files(&root.path().join("result")).expect("a manifest");
        let mut ids = BTreeSet::new();
        let mut marks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for file in files.unwrap_or_default() {
            for line in fs::read_to_string(&file).expect("a file").lines() {
                let cells: Vec<&str> = line.split(',').collect();
                assert!(
                    ids.insert(cells[0].to_owned()),
                    "{when}: {line} is there twice"
                );
                let of = marks.entry(cells[1].to_owned()).or_default();
                of.insert(cells[2].to_owned());
            }
        }
        assert!(!whole || ids.len() == 30, "{when}: {} rows", ids.len());
        assert!(marks.values().all(|of| of.len() == 1), "{when}: {marks:?}");
    };
    let fresh = || {
        let storage = CrashStorage::new(root.path());
        for entry in fs::read_dir(root.path()).expect("a directory") {
            fs::remove_dir_all(entry.expect("an entry").path()).expect("removed");
        }
        storage
    };
    let storage = fresh();
    run(&storage, 1).expect("it runs");
    check(true, "uninterrupted");
    let tables = root.path().join("checkpoint/tables");
    assert_eq!(fs::read_dir(&tables).expect("a directory").count(), 0);
    let operations = storage.operations();
    for at in 1..=operations {
        let (outcome, then, loss) = CRASHES[at % CRASHES.len()];
        let storage = fresh();
        let mut when = format!("{outcome:?}, {loss:?}");
        for (at, workers) in [(at, 1), (at * 7 % operations + 1, 1 + at % 2)] {
            storage.stop(at, outcome, then, ErrorKind::Other);
            let ended = run(&storage, workers);
            let stopped = storage.stopped();
            when += &format!("; operation {at} ({stopped:?}): {ended:?}");
            assert!(ended.is_ok() || stopped.is_some(), "{when}");
            storage.restart(loss).expect("a restart");
            check(false, &when);
        }
        assert_eq!(run(&storage, 2), Ok(()), "{when}");
        check(true, &when);
        assert_eq!(
            fs::read_dir(&tables).expect("a directory").count(),
            0,
            "{when}"
        );
    }
}
