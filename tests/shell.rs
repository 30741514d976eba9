//! `tidemark sql` away from a terminal: `-e`, a file, a pipe. What it does on one is tested beside
//! its code, and with eyes.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const EVENTS: &str =
    "CREATE TABLE t (k STRING, v INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json');
SET 'trigger' = 'available-now';
";

/// A directory with rows of [`EVENTS`].
fn place() -> TempDir {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    fs::create_dir(dir.path().join("in")).expect("a directory");
    let rows = r#"{"k":"a","v":1,"ts":"2026-01-01T00:00:01Z"}
{"k":"b","v":2,"ts":"2026-01-01T00:00:02Z"}
{"k":"a","v":3,"ts":"2026-01-01T00:06:00Z"}
"#;
    fs::write(dir.path().join("in/a.json"), rows).expect("a file");
    dir
}

fn command(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command.arg("sql").args(args).current_dir(dir.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[track_caller]
fn answers(dir: &TempDir, sql: &str, expected: &str) {
    let output = command(dir, &["-e", sql])
        .output()
        .expect("the command runs");
    assert_eq!(text(&output), (Some(0), expected.to_owned(), String::new()));
}

#[track_caller]
fn fails(dir: &TempDir, sql: &str, code: i32, message: &str) {
    let output = command(dir, &["-e", sql])
        .output()
        .expect("the command runs");
    assert_eq!(
        text(&output),
        (Some(code), String::new(), message.to_owned())
    );
}

/// Writes `input` to the shell's standard input.
fn piped(dir: &TempDir, input: &str) -> Output {
    let mut child = command(dir, &[])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_value_is_answered_at_once() {
    let dir = place();
    let began = Instant::now();
    answers(
        &dir,
        "SELECT 1 + 1 AS two",
        "+-----+\n| two |\n+-----+\n|   2 |\n+-----+\n",
    );
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_select_prints_its_final_result() {
    let dir = place();
    // Append mode would hold the last window back, update mode would give each group as it grows.
    answers(
        &dir,
        &format!(
            "{EVENTS}SELECT window.start, k, sum(v) AS s FROM t GROUP BY window(ts, '5 minutes'), k"
        ),
        "\
+---------------------+---+---+
| start               | k | s |
+---------------------+---+---+
| 2026-01-01 00:00:00 | a | 1 |
| 2026-01-01 00:00:00 | b | 2 |
| 2026-01-01 00:05:00 | a | 3 |
+---------------------+---+---+
",
    );
    let asked = "SET 'outputMode' = 'append'; SELECT window.start, count(*) AS n FROM t GROUP BY window(ts, '5 minutes')";
    answers(
        &dir,
        &format!("{EVENTS}{asked}"),
        "\
+---------------------+---+
| start               | n |
+---------------------+---+
| 2026-01-01 00:00:00 | 2 |
+---------------------+---+
",
    );
}

#[test]
fn moments_are_shown_in_the_time_zone_of_the_session() {
    let dir = place();
    answers(
        &dir,
        "SET TIME ZONE 'Europe/Paris'; SELECT TIMESTAMP '2026-03-29T01:30:00Z' AS t",
        "\
+---------------------+
| t                   |
+---------------------+
| 2026-03-29 03:30:00 |
+---------------------+
",
    );
}

#[test]
fn rows_taken_back_are_gone_and_twins_stay() {
    let dir = place();
    let nested =
        "SELECT n, count(*) AS ks FROM (SELECT k, count(*) AS n FROM t GROUP BY k) GROUP BY n";
    answers(
        &dir,
        &format!(
            "{EVENTS}{nested}; SELECT 'é' AS twin FROM (SELECT k, count(*) AS n FROM t GROUP BY k)"
        ),
        "\
+---+----+
| n | ks |
+---+----+
| 1 |  1 |
| 2 |  1 |
+---+----+
+------+
| twin |
+------+
| é    |
| é    |
+------+
",
    );
    answers(
        &dir,
        &format!("{EVENTS}SELECT k FROM t WHERE v > 100"),
        "+---+\n| k |\n+---+\n",
    );
}

#[test]
fn statements_run_one_after_the_other_from_a_pipe() {
    let dir = place();
    let output = piped(
        &dir,
        &format!(
            "{EVENTS}CREATE VIEW big AS SELECT k, v\nFROM t WHERE v > 1; -- done\nSHOW VIEWS;\nDESCRIBE big; SELECT count(*) AS n FROM big;\nDROP VIEW big; SHOW VIEWS\n"
        ),
    );
    let expected = "\
+----------+
| viewName |
+----------+
| big      |
+----------+
+----------+-----------+---------+
| col_name | data_type | comment |
+----------+-----------+---------+
| k        | STRING    |         |
| v        | INT       |         |
+----------+-----------+---------+
+---+
| n |
+---+
| 2 |
+---+
+----------+
| viewName |
+----------+
";
    assert_eq!(text(&output), (Some(0), expected.into(), String::new()));
}

#[test]
fn the_first_error_ends_the_script_and_names_its_line() {
    let dir = place();
    let output = piped(&dir, "SELECT 1 AS a;\n\nSELECT\n  a.;\nSELECT 2 AS b;\n");
    let (code, out, err) = text(&output);
    assert_eq!(
        (code, out.as_str()),
        (Some(2), "+---+\n| a |\n+---+\n| 1 |\n+---+\n")
    );
    assert!(
        err.starts_with("error: stdin:4:") && err.contains("\n  4 |   a.;\n"),
        "{err}"
    );
    fails(
        &dir,
        "SELECT 1 AS a; SELECT 'open",
        2,
        "error: -e:1:23: [PARSE_SYNTAX_ERROR] Unterminated string literal\n  1 | SELECT 1 AS a; SELECT 'open\n    |                       ^\n",
    );
    let (code, _, err) = text(
        &command(&dir, &["-e", &format!("{EVENTS}SELECT 1 / (v - 2) FROM t")])
            .output()
            .expect("the command runs"),
    );
    assert_eq!(code, Some(1));
    assert!(
        err.starts_with("error: query 'query1': ") && err.contains("division by zero"),
        "{err}"
    );
}

#[test]
fn exit_ends_a_script() {
    let dir = place();
    for word in ["EXIT", "quit"] {
        answers(
            &dir,
            &format!("SELECT 1 AS a; {word}; SELECT 2 AS b"),
            "+---+\n| a |\n+---+\n| 1 |\n+---+\n",
        );
    }
    let output = piped(&dir, "exit;\nnonsense\n");
    assert_eq!(text(&output), (Some(0), String::new(), String::new()));
}

#[test]
fn inserts_run_in_the_background_and_the_script_waits_for_them() {
    let dir = place();
    let script = format!(
        "{EVENTS}CREATE TABLE o WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json');\nINSERT INTO o SELECT k, v FROM t;\n"
    );
    fs::write(dir.path().join("s.sql"), script).expect("a file");
    let output = command(&dir, &["s.sql"])
        .output()
        .expect("the command runs");
    assert_eq!(text(&output), (Some(0), String::new(), String::new()));
    let lines: usize = fs::read_dir(dir.path().join("out"))
        .expect("a directory")
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .map(|text| text.lines().count())
        .sum();
    assert_eq!(lines, 3);
}

#[test]
fn a_query_that_fails_in_the_background_fails_the_script() {
    let dir = place();
    let declared = format!(
        "{EVENTS}CREATE TABLE o WITH ('connector' = 'noop');\nCREATE TABLE none (x INT) WITH ('connector' = 'file', 'path' = 'none', 'format' = 'json');\n"
    );
    let failing = format!("{declared}INSERT INTO o SELECT 1 / (v - 2) AS x FROM t; SELECT 1 AS a;");
    let output = command(&dir, &["-e", &failing])
        .output()
        .expect("the command runs");
    let (code, out, err) = text(&output);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.contains("| 1 |"), "{out}");
    assert!(
        err.starts_with("error: query 'o': ") && err.contains("division by zero"),
        "{err}"
    );
    // What is declared is known without the data being there.
    answers(
        &dir,
        &format!("{declared}SHOW COLUMNS FROM none"),
        "+----------+\n| col_name |\n+----------+\n| x        |\n+----------+\n",
    );
}

#[test]
fn running_queries_are_listed_and_stopped() {
    let dir = place();
    let declared = "CREATE TABLE r WITH ('connector' = 'rate', 'rowsPerSecond' = '10');
CREATE TABLE o WITH ('connector' = 'noop', 'outputMode' = 'update', 'queryName' = 'Counter');
INSERT INTO o SELECT count(*) AS n FROM r;\n";
    let output = piped(
        &dir,
        &format!("{declared}SHOW QUERIES; STOP QUERY counter; SHOW QUERIES;\n"),
    );
    let (code, out, err) = text(&output);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let rows: Vec<&str> = out.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 3, "{out}");
    assert!(rows[1].starts_with("| Counter | update |"), "{out}");
    fails(
        &dir,
        &format!("{declared}STOP QUERY Countr"),
        2,
        "error: no query named 'Countr' is running; did you mean 'Counter'?\n",
    );
    fails(
        &dir,
        &format!("{declared}{declared}"),
        2,
        "error: -e:4:14: table 'r' is already declared at 1:14; use another name or DROP it first\n  4 | CREATE TABLE r WITH ('connector' = 'rate', 'rowsPerSecond' = '10');\n    |              ^\n",
    );
}

#[test]
fn a_signal_ends_an_endless_select_and_its_result_so_far_is_printed() {
    let dir = place();
    let mut child = command(
        &dir,
        &["-e", "CREATE TABLE r WITH ('connector' = 'rate', 'rowsPerSecond' = '1000'); SHOW TABLES; SELECT count(*) > 0 AS some FROM r"],
    )
    .spawn()
    .expect("the command starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    for _ in 0..5 {
        out.read_line(&mut line).expect("a line");
    }
    // Time for an epoch with rows.
    std::thread::sleep(Duration::from_millis(1500));
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(status.expect("kill runs").success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "+------+\n| some |\n+------+\n| true |\n+------+\n");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let dir = place();
    let many = "SELECT 1 AS a; ".repeat(50);
    let mut child = command(&dir, &["-e", &many])
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(text(&output), (Some(0), String::new(), String::new()));
}

#[test]
fn what_is_declared_can_be_asked_for() {
    let dir = place();
    let declared = "CREATE TABLE `my events` (User STRING, price DECIMAL(10, 2), ts TIMESTAMP, PRIMARY KEY (user),
  WATERMARK FOR ts AS ts - INTERVAL '90' SECOND)
  WITH ('connector' = 'file', 'path' = 'it\\'s', 'format' = 'json', 'idleTimeout' = '5 s', 'apiKey' = 'hunter2');
";
    answers(
        &dir,
        &format!("{declared}SHOW CREATE TABLE `MY EVENTS`"),
        "\
CREATE TABLE `my events` (
  User STRING,
  price DECIMAL(10,2),
  ts TIMESTAMP,
  PRIMARY KEY (User) NOT ENFORCED,
  WATERMARK FOR ts AS ts - INTERVAL '1 minute 30 seconds'
) WITH (
  'connector' = 'file',
  'path' = 'it\\'s',
  'format' = 'json',
  'idleTimeout' = '5 s',
  'apiKey' = '***'
);
",
    );
    answers(
        &dir,
        &format!(
            "{EVENTS}DESCRIBE t; SHOW COLUMNS IN t; DESC SELECT K AS Key, avg(v) FROM t GROUP BY k"
        ),
        "\
+----------+-----------+---------------------------------------+
| col_name | data_type | comment                               |
+----------+-----------+---------------------------------------+
| k        | STRING    |                                       |
| v        | INT       |                                       |
| ts       | TIMESTAMP | event time; watermark 1 minute behind |
+----------+-----------+---------------------------------------+
+----------+
| col_name |
+----------+
| k        |
| v        |
| ts       |
+----------+
+----------+-----------+---------+
| col_name | data_type | comment |
+----------+-----------+---------+
| Key      | STRING    |         |
| avg(v)   | DOUBLE    |         |
+----------+-----------+---------+
",
    );
    answers(
        &dir,
        "SHOW FUNCTIONS LIKE 'UPPER|window'; SHOW TABLES; SET outputMode = update; SET spark.sql.streaming.outputMode; SET spark.sql.shuffle.partitions",
        "\
+----------+
| function |
+----------+
| upper    |
| window   |
+----------+
+-----------+-----------+
| tableName | connector |
+-----------+-----------+
+------------+--------+
| key        | value  |
+------------+--------+
| outputMode | update |
+------------+--------+
+------------------------------+-------------+
| key                          | value       |
+------------------------------+-------------+
| spark.sql.shuffle.partitions | <undefined> |
+------------------------------+-------------+
",
    );
    for (sql, message) in [
        (
            "DESCRIBE nothing",
            "error: -e:1:10: [TABLE_OR_VIEW_NOT_FOUND] unknown table 'nothing'; no table is declared yet: write CREATE TABLE first\n  1 | DESCRIBE nothing\n    |          ^^^^^^^\n",
        ),
        (
            "SHOW FUNCTIONS 'a*' 1",
            "error: -e:1:21: [PARSE_SYNTAX_ERROR] expected ';' or the end of the script, found '1'\n  1 | SHOW FUNCTIONS 'a*' 1\n    |                     ^\n",
        ),
        (
            "SHOW",
            "error: -e:1:5: [PARSE_SYNTAX_ERROR] expected TABLES, VIEWS, FUNCTIONS, COLUMNS, CREATE TABLE or QUERIES, found the end of the statement\n  1 | SHOW\n    |     ^\n",
        ),
        (
            "SET triger",
            "error: -e:1:5: unknown setting 'triger'; did you mean 'trigger'?\n  1 | SET triger\n    |     ^^^^^^\n",
        ),
        (
            "DESCRIBE FUNCTION uper",
            "error: -e:1:19: [UNRESOLVED_ROUTINE] unknown function 'uper'; did you mean 'upper'?\n  1 | DESCRIBE FUNCTION uper\n    |                   ^^^^\n",
        ),
    ] {
        fails(&dir, sql, 2, message);
    }
}

#[test]
fn a_script_of_run_answers_too_but_not_about_running_queries() {
    let dir = place();
    let run = |script: &str| {
        fs::write(dir.path().join("s.sql"), script).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command.args(["run", "s.sql"]).current_dir(dir.path());
        text(
            &command
                .stdin(Stdio::null())
                .output()
                .expect("the command runs"),
        )
    };
    let (code, out, err) = run(&format!("{EVENTS}SHOW TABLES;"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("|t        |file     |"), "{out}");
    let (code, out, err) = run(&format!("{EVENTS}SHOW QUERIES;"));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(
        err,
        "error: s.sql:4:1: a statement about running queries; here all queries of the script run side by side: use `tidemark sql`, which runs one statement after the other\n"
    );
}

#[test]
fn a_console_that_nobody_reads_ends_its_query_well() {
    let dir = place();
    fs::write(
        dir.path().join("s.sql"),
        "CREATE TABLE r WITH ('connector' = 'rate', 'rowsPerSecond' = '1000');\nSET 'trigger' = '20 ms';\nSELECT * FROM r;",
    )
    .expect("a file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidemark"))
        .args(["run", "s.sql"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(text(&output), (Some(0), String::new(), String::new()));
}
