//! Tables of `PostgreSQL`. Without a server there is nothing to see here.
#![cfg(unix)]

use std::fs;

use crate::server::{PASSWORD, server};
use crate::{SHOP, answer, joins, orders, script};

#[test]
fn streams_are_joined_with_tables_of_postgres() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    orders(dir.path());
    server.run(&format!(
        "CREATE SCHEMA shop; SET search_path = shop; {SHOP}"
    ));
    let table = "'dbtable' = 'shop.customers'";
    joins(dir.path(), &format!("{}, {table}", server.local()));
    let query = "'query' = 'SELECT * FROM shop.customers;'";
    joins(dir.path(), &format!("{}, {query}", server.local()));
}

/// The answer of a query over one table, or why there is none.
fn ask(table: &str, query: &str) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().expect("a directory");
    orders(dir.path());
    answer(1, &script(dir.path(), table, query)).map_err(|error| error.to_string())
}

#[test]
fn every_type_is_read() {
    let Some(server) = server() else { return };
    server.run(
        "CREATE TYPE mood AS ENUM ('happy', 'sad');
         CREATE TABLE kinds (a bool, b int2, c int4, d int8, e float4, f float8, g numeric(10, 2), h numeric, i text,
           j varchar(5), k bytea, l date, m timestamp, n timestamptz, o uuid, p jsonb, q mood, r int[], s \"char\", t time);
         INSERT INTO kinds VALUES (true, -1, 2, 9223372036854775807, 1.5, 'NaN', 12.34, 1e-9, 'x''y', 'abc', '\\x00ff', '2026-02-01',
           '2026-01-01 12:00:00.123456', '2026-01-01 12:00:00+02', '00000000-0000-0000-0000-000000000001', '{\"a\": 1}', 'sad',
           '{1,2}', 'z', '01:02:03');
         INSERT INTO kinds DEFAULT VALUES;",
    );
    let table = format!("{}, 'dbtable' = 'kinds'", server.local());
    let found = ask(&table, "SELECT * FROM customers").expect("rows");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], ["NULL"; 20].join(" "));
    assert_eq!(
        found[1],
        "true -1 2 9223372036854775807 1.5 NaN 12.34 0.000000001000000000 x'y abc 00ff 2026-02-01 2026-01-01T12:00:00.123456Z \
         2026-01-01T10:00:00Z 00000000-0000-0000-0000-000000000001 {\"a\": 1} sad {1,2} z 01:02:03"
    );
    let types = ask(
        &table,
        "SELECT typeof(a), typeof(b), typeof(c), typeof(g), typeof(h), typeof(k), typeof(n) FROM customers WHERE a",
    );
    assert_eq!(
        types.expect("types"),
        ["boolean smallint int decimal(10,2) decimal(38,18) binary timestamp"]
    );
}

#[test]
fn many_rows_and_what_does_not_fit() {
    let Some(server) = server() else { return };
    server.run(
        "CREATE TABLE many AS SELECT i, 'name ' || i AS name FROM generate_series(1, 50000) i",
    );
    let table = format!("{}, 'dbtable' = 'many'", server.local());
    let counted = ask(
        &table,
        "SELECT count(*) AS n, sum(i) AS s, max(name) AS m FROM customers",
    );
    assert_eq!(counted.expect("rows"), ["50000 1250025000 name 9999"]);
    let declared = |columns: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        orders(dir.path());
        let script = script(dir.path(), &table, "SELECT max(name) AS m FROM customers");
        answer(
            1,
            &script.replace("customers WITH", &format!("customers ({columns}) WITH")),
        )
    };
    let error = declared("name INT").expect_err("refused").to_string();
    assert!(
        error.contains("row 1: the value 'name 1' of 'name' is no INT"),
        "{error}"
    );
    // A column that nobody reads is not asked for.
    let found = declared("NAME STRING, other INT");
    assert_eq!(found.expect("rows"), ["name 9999"]);
}

#[test]
fn passwords_certificates_and_errors() {
    let Some(server) = server() else { return };
    server.run("CREATE TABLE one AS SELECT 1 AS x");
    let table = |more: &str| {
        format!(
            "'connector' = 'postgres', 'url' = '{}', 'user' = 'ada', {more}, 'dbtable' = 'one'",
            server.url()
        )
    };
    let query = "SELECT x FROM customers";
    let password = format!("'password' = '{PASSWORD}'");
    assert_eq!(ask(&table(&password), query).expect("rows"), ["1"]);
    for mode in ["disable", "prefer"] {
        let found = ask(&table(&format!("{password}, 'sslmode' = '{mode}'")), query);
        assert_eq!(found.expect("rows"), ["1"], "{mode}");
    }
    if let Some(authority) = server.authority() {
        let found = ask(&table(&format!("{password}, 'sslmode' = 'require'")), query);
        assert_eq!(found.expect("rows"), ["1"]);
        let verified = format!(
            "{password}, 'sslmode' = 'verify-full', 'sslrootcert' = '{}'",
            authority.display()
        );
        assert_eq!(ask(&table(&verified), query).expect("rows"), ["1"]);
        let error = ask(
            &table(&format!("{password}, 'sslmode' = 'verify-ca'")),
            query,
        );
        let error = error.expect_err("refused");
        assert!(
            error.contains("TLS: ") && error.contains("certificate"),
            "{error}"
        );
    }
    for (more, said) in [
        (
            "'password' = 'wrong-postgres-secret'",
            "password authentication failed",
        ),
        ("'fetchsize' = '1'", "unknown option 'fetchsize'"),
        ("'sslmode' = 'maybe'", "expected disable, prefer"),
        ("'sslmode' = 'disable'", "the server asks for a password"),
    ] {
        let error = ask(&table(more), query).expect_err("refused");
        assert!(error.contains(said), "{error}");
        assert!(!error.contains("postgres-secret"), "{error}");
    }
    let nowhere = table(&password).replace("'one'", "'nowhere'");
    let error = ask(&nowhere, query).expect_err("refused");
    assert!(
        error.contains("relation \"nowhere\" does not exist"),
        "{error}"
    );
}

#[test]
fn a_password_shows_nowhere() {
    let Some(server) = server() else { return };
    server.run("CREATE TABLE two AS SELECT 2 AS x");
    let dir = tempfile::tempdir().expect("a directory");
    orders(dir.path());
    let url = server.url().replace("jdbc:postgresql://", "postgres://");
    // It holds signs that should have been escaped, in one of the two.
    let escaped = PASSWORD.replace('/', "%2F").replace('@', "%40");
    let table = format!(
        "'connector' = 'postgres', 'url' = '{}', 'dbtable' = 'two'",
        url.replace("://", &format!("://ada:{escaped}@"))
    );
    let script = script(dir.path(), &table, "SELECT x FROM customers").replace(
        "'trigger'",
        &format!(
            "'checkpointLocation' = '{}/ckpt', 'trigger'",
            dir.path().display()
        ),
    );
    assert_eq!(answer(1, &script).expect("rows"), ["2"]);
    let file = dir.path().join("q.sql");
    let broken = script.replace(&escaped, PASSWORD);
    let spoilt = script.replace("SELECT x", "SELECT y");
    let mut said = String::new();
    for (script, command) in [
        (&script, &["explain"][..]),
        (&script, &["run", "--progress", "json"][..]),
        (&broken, &["explain"][..]),
        (&spoilt, &["run"][..]),
    ] {
        fs::write(&file, script).expect("written");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidemark"))
            .args(command)
            .arg(&file)
            .output()
            .expect("the command runs");
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    assert!(
        said.contains("postgres") && !said.contains("postgres-secret"),
        "{said}"
    );
    let mut dirs = vec![dir.path().join("ckpt")];
    let mut files = 0;
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files += 1;
                let bytes = fs::read(&path).expect("a file");
                assert!(
                    !bytes.windows(15).any(|part| part == b"postgres-secret"),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(files > 0);
}
