//! The command as a new user meets it: what it says when something is wrong, and how it ends.
//!
//! Every test runs the built command in a directory of its own and holds whole messages against
//! what is expected; `DIR` stands for that directory.

#![cfg(unix)]

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing here takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// The table that most tests read, on three rows of two keys.
const EVENTS: &str =
    "CREATE TABLE t (k STRING, v INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json');
";
const ROWS: &str = r#"{"k":"a","v":1,"ts":"2026-01-01T00:00:01Z"}
{"k":"b","v":2,"ts":"2026-01-01T00:00:02Z"}
{"k":"a","v":3,"ts":"2026-01-01T00:06:00Z"}
"#;
const AVAILABLE: [&str; 2] = ["--set", "trigger=available-now"];

/// How a command ended.
#[derive(Debug)]
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

/// A directory to run the command in.
struct Place {
    dir: TempDir,
    root: PathBuf,
}

impl Place {
    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let root = dir.path().canonicalize().expect("it has been made");
        Self { dir, root }
    }

    /// With the rows of [`EVENTS`].
    fn new() -> Self {
        let place = Self::empty();
        place.write("in/a.json", ROWS);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a name has a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command.args(args).current_dir(self.dir.path());
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn tidemark(&self, args: &[&str]) -> Outcome {
        self.end(self.command(args).spawn().expect("the command starts"))
    }

    /// Waits for a command; one that hangs is killed and fails the test.
    fn end(&self, mut child: Child) -> Outcome {
        fn reader(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = from.read_to_string(&mut text);
                text
            })
        }
        let out = reader(child.stdout.take().expect("piped"));
        let err = reader(child.stderr.take().expect("piped"));
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break Some(status);
            }
            if began.elapsed() > LIMIT {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            sleep(Duration::from_millis(5));
        };
        let (out, err) = (out.join().expect("a reader"), err.join().expect("a reader"));
        let Some(status) = status else {
            panic!("the command hangs; it said:\n{out}\n{err}")
        };
        let root = self.root.display().to_string();
        Outcome {
            code: status.code().unwrap_or(-1),
            out: out.replace(&root, "DIR"),
            err: err.replace(&root, "DIR"),
        }
    }

    /// Runs a script to the end of what is there now.
    fn run(&self, script: &str, args: &[&str]) -> Outcome {
        self.write("s.sql", script);
        self.tidemark(&[&["run", "s.sql"], args].concat())
    }

    fn available(&self, script: &str) -> Outcome {
        self.run(script, &AVAILABLE)
    }

    /// Starts a script and waits until `there` is true.
    fn start(&self, script: &str, there: impl Fn(&Self) -> bool) -> Child {
        self.write("s.sql", script);
        let mut child = self
            .command(&["run", "s.sql"])
            .spawn()
            .expect("the command starts");
        let began = Instant::now();
        while !there(self) {
            assert!(
                child.try_wait().expect("a child").is_none(),
                "{:?}",
                self.end(child)
            );
            assert!(began.elapsed() < LIMIT, "nothing happened");
            sleep(Duration::from_millis(10));
        }
        child
    }

    /// All lines of the data files under `dir`, sorted.
    fn lines(&self, dir: &str) -> Vec<String> {
        fn walk(dir: &std::path::Path, lines: &mut Vec<String>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(['_', '.']) {
                    continue;
                }
                match fs::read_to_string(entry.path()) {
                    Ok(text) => lines.extend(text.lines().map(str::to_owned)),
                    Err(_) => walk(&entry.path(), lines),
                }
            }
        }
        let mut lines = vec![];
        walk(&self.path(dir), &mut lines);
        lines.sort();
        lines
    }
}

impl Outcome {
    /// It failed with this code and this message, and printed nothing else.
    #[track_caller]
    fn fails(&self, code: i32, message: &str) {
        assert_eq!(self.err.trim_end(), message.trim_end());
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
    }

    /// It ended well, having printed these tables (without their rules) and nothing else.
    #[track_caller]
    fn shows(&self, tables: &[&[&str]]) {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        assert_eq!(self.tables(), tables, "{}", self.out);
    }

    /// The rows of each epoch's table, the header first; epochs without rows are left out.
    fn tables(&self) -> Vec<Vec<String>> {
        let epochs = self.out.split("Batch: ").skip(1);
        let rows = epochs.map(|epoch| {
            epoch
                .lines()
                .filter(|line| line.starts_with('|'))
                .map(|line| line.replace(' ', ""))
                .collect::<Vec<_>>()
        });
        rows.filter(|rows| rows.len() > 1).collect()
    }
}

/// Sends a signal.
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "kill {name}");
}

/// Flips a bit in the middle of a file.
fn flip(path: &std::path::Path) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).expect("a file");
}

// Usage.

#[test]
fn a_call_without_arguments_shows_the_help_and_is_bad_usage() {
    let outcome = Place::empty().tidemark(&[]);
    assert_eq!((outcome.code, outcome.out.as_str()), (2, ""));
    assert!(
        outcome
            .err
            .contains("  checkpoint  Show what a checkpoint directory holds"),
        "{}",
        outcome.err
    );
}

#[test]
fn help_and_version_end_well() {
    for flag in ["--help", "--version"] {
        let outcome = Place::empty().tidemark(&[flag]);
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{flag}");
    }
}

#[test]
fn a_script_that_is_not_there_or_no_text() {
    let place = Place::new();
    place.tidemark(&["run", "no.sql"]).fails(
        2,
        "error: cannot read no.sql: No such file or directory (os error 2); check the path",
    );
    place.tidemark(&["explain", "in"]).fails(
        2,
        "error: cannot read in: Is a directory (os error 21); give the path of a script",
    );
    place.write("s.sql", [0xff, 0xfe, 0x00]);
    place.tidemark(&["run", "s.sql"]).fails(
        2,
        "error: cannot read s.sql: stream did not contain valid UTF-8; a script is text in UTF-8",
    );
}

#[test]
fn a_script_without_a_query() {
    let message = "error: s.sql holds no query; add INSERT INTO a table SELECT ..., or a bare SELECT for the console";
    let place = Place::new();
    place.run(EVENTS, &[]).fails(2, message);
    place.run("", &[]).fails(2, message);
    place.run("-- nothing yet\n", &[]).fails(2, message);
}

#[test]
fn a_setting_without_equals_sign() {
    Place::new().run("SELECT 1", &["--set", "outputMode"]).fails(
        2,
        "error: invalid value 'outputMode' for '--set <KEY=VALUE>': expected KEY=VALUE, such as outputMode=update

For more information, try '--help'.",
    );
}

#[test]
fn settings_that_are_wrong() {
    let place = Place::new();
    place.run("SELECT 1", &["--set", "outputMod=update"]).fails(
        2,
        "error: unknown setting 'outputMod'; did you mean 'outputMode'?",
    );
    place.run("SELECT 1", &["--set", "outputMode=updat"]).fails(
        2,
        "error: 'outputMode' = 'updat': expected append, update, complete or changelog",
    );
    place.run("SELECT 1", &["--set", "trigger=onc"]).fails(
        2,
        "error: 'trigger' = 'onc': expected '30 seconds', 'processing-time 30 seconds', 'available-now', 'once' or 'continuous 1 second'",
    );
}

// Bad SQL: file, line, column, and a caret under the place.

#[test]
fn bad_sql_shows_its_place() {
    let place = Place::new();
    place.run("SELECT 1;\nSELEC 2;", &[]).fails(
        2,
        "error: s.sql:2:1: [PARSE_SYNTAX_ERROR] expected a statement: CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXPLAIN, DROP, SHOW, DESCRIBE or STOP QUERY, found 'SELEC'
  2 | SELEC 2;
    | ^^^^^",
    );
    place.run(&format!("{EVENTS}SELECT kk FROM t"), &[]).fails(
        2,
        "error: s.sql:3:8: [UNRESOLVED_COLUMN.WITH_SUGGESTION] unknown column 'kk'; did you mean 'k'? columns of t: k, v, ts
  3 | SELECT kk FROM t
    |        ^^",
    );
    place.run(&format!("{EVENTS}SELECT k\nFROM tt"), &[]).fails(
        2,
        "error: s.sql:4:6: [TABLE_OR_VIEW_NOT_FOUND] unknown table 'tt'; did you mean 't'? declared are: t
  4 | FROM tt
    |      ^^",
    );
    place
        .run(&format!("{EVENTS}SELECT uper(k) FROM t"), &[])
        .fails(
            2,
            "error: s.sql:3:8: [UNRESOLVED_ROUTINE] unknown function 'uper'; did you mean 'upper'?
  3 | SELECT uper(k) FROM t
    |        ^^^^",
        );
}

#[test]
fn wrong_options_of_a_source() {
    let place = Place::new();
    let table = |options: &str| {
        place.run(
            &format!("CREATE TABLE t (k STRING)\n  WITH ({options});\nSELECT * FROM t;"),
            &[],
        )
    };
    let place_of = "\n  1 | CREATE TABLE t (k STRING)\n    |              ^";
    table("'connector' = 'fil', 'path' = 'in'").fails(
        2,
        &format!("error: s.sql:1:14: table 't': unknown connector 'fil', did you mean 'file'?; there are: file, kafka, rate, datagen, nexmark, sqlite, postgres{place_of}"),
    );
    table("'connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilePerTrigger' = '1'").fails(
        2,
        &format!("error: s.sql:1:14: table 't': unknown option 'maxFilePerTrigger' for connector 'file'; did you mean 'maxFilesPerTrigger'?{place_of}"),
    );
    table("'connector' = 'file', 'pth' = 'in', 'format' = 'json'").fails(
        2,
        &format!("error: s.sql:1:14: table 't': connector 'file' needs the option 'path': write 'path' = 'DIRECTORY', a file or a glob ('pth' is none of its options){place_of}"),
    );
    table("'connector' = 'file', 'path' = 'in', 'format' = 'jsn'").fails(
        2,
        &format!("error: s.sql:1:14: table 't': option 'format' = 'jsn': expected json, csv or parquet{place_of}"),
    );
    table("'connector' = 'file', 'path' = 'nowhere', 'format' = 'json'").fails(
        2,
        &format!("error: s.sql:1:14: table 't': option 'path' = 'nowhere': expected a file, a directory or a glob that is there: DIR/nowhere does not exist. Correct the path, or create the directory first{place_of}"),
    );
}

#[test]
fn wrong_options_of_a_sink_are_found_before_anything_runs() {
    let place = Place::new();
    let sink = |options: &str| {
        place.run(
            &format!("{EVENTS}CREATE TABLE o WITH ({options});\nINSERT INTO o SELECT k, v FROM t"),
            &[],
        )
    };
    let at = |message: &str| {
        format!(
            "error: s.sql:4:1: table 'o': {message}\n  4 | INSERT INTO o SELECT k, v FROM t\n    | ^^^^^^"
        )
    };
    sink("'connector' = 'fle'").fails(
        2,
        &at(
            "unknown connector 'fle', did you mean 'file'?; there are: console, file, kafka, memory, noop",
        ),
    );
    sink("'connector' = 'console', 'numRow' = '5'").fails(
        2,
        &at("unknown option 'numRow' for connector 'console'; did you mean 'numRows'?"),
    );
    sink("'connector' = 'file', 'format' = 'json'").fails(
        2,
        &at("connector 'file' needs the option 'path': the directory to write to"),
    );
    sink("'connector' = 'file', 'path' = 'out', 'format' = 'json', 'partitionBy' = 'kk'").fails(2, &at("option 'partitionBy' = 'kk': expected columns of the result; it has no 'kk', did you mean 'k'?"));
    assert!(!place.path("out").exists());
}

#[test]
fn an_insert_whose_types_do_not_fit() {
    Place::new().run(&format!("{EVENTS}CREATE TABLE o (n INT) WITH ('connector' = 'noop');\nINSERT INTO o SELECT struct(k) FROM t"), &[]).fails(
        2,
        "error: s.sql:4:13: INSERT INTO o: column 'n' is INT, and the query's STRUCT<k: STRING> cannot be cast to it; write a CAST or change the table
  4 | INSERT INTO o SELECT struct(k) FROM t
    |             ^",
    );
}

#[test]
fn output_modes_that_a_query_cannot_honour() {
    let place = Place::new();
    let run = |mode: &str, query: &str| {
        place.run(&format!("{EVENTS}CREATE TABLE o WITH ('connector' = 'console', 'outputMode' = '{mode}');\nINSERT INTO o {query}"), &[])
    };
    run("append", "SELECT k, count(*) AS n FROM t GROUP BY k").fails(
        2,
        "error: s.sql:4:1: output mode 'append' is not possible for SELECT count(*) GROUP BY k: none of its keys carries the event time 'ts' of table t, so no group is ever complete; group by window(ts, '5 minutes') as well, or use 'outputMode' = 'update'
  4 | INSERT INTO o SELECT k, count(*) AS n FROM t GROUP BY k
    | ^^^^^^",
    );
    run("complete", "SELECT k FROM t").fails(
        2,
        "error: s.sql:4:1: output mode 'complete' is not possible for a query without an aggregation: its result grows with every row ever read, and all of it would be written again each epoch; use 'outputMode' = 'append', or aggregate with GROUP BY
  4 | INSERT INTO o SELECT k FROM t
    | ^^^^^^",
    );
}

#[test]
fn two_inserts_into_one_table_are_refused_before_the_first_starts() {
    let place = Place::new();
    let script = format!(
        "{EVENTS}CREATE TABLE o WITH ('connector' = 'console');\nINSERT INTO o SELECT k FROM t;\nINSERT INTO o SELECT k FROM t"
    );
    place.run(&script, &[]).fails(
        2,
        "error: s.sql:5:1: a second query named 'o', as the one at 4:1, is not supported; write both into the table with one INSERT and UNION ALL, or declare a table for each
  5 | INSERT INTO o SELECT k FROM t
    | ^^^^^^",
    );
}

#[test]
fn a_query_that_would_read_its_own_output() {
    let place = Place::new();
    let script = format!(
        "{EVENTS}CREATE TABLE o WITH ('connector' = 'file', 'path' = './in/', 'format' = 'json');\nINSERT INTO o SELECT k FROM t"
    );
    place.run(&script, &[]).fails(
        2,
        "error: s.sql:4:1: writing into the directory that table 't' reads is not supported; give table 'o' another 'path'
  4 | INSERT INTO o SELECT k FROM t
    | ^^^^^^",
    );
}

// Data that is broken.

const HALF: &str = "{\"k\":\"a\",\"v\":1}\n{\"k\":\"b\",\"v\":";

fn half(mode: &str) -> String {
    format!(
        "CREATE TABLE t (k STRING, v INT, _corrupt_record STRING)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'mode' = '{mode}');
SELECT * FROM t"
    )
}

#[test]
fn half_written_json_follows_the_mode() {
    let place = Place::empty();
    place.write("in/a.json", HALF);
    place.available(&half("PERMISSIVE")).shows(&[&[
        "|k|v|_corrupt_record|",
        "|a|1|NULL|",
        "|NULL|NULL|{\"k\":\"b\",\"v\":|",
    ]]);
    place
        .available(&half("DROPMALFORMED"))
        .shows(&[&["|k|v|_corrupt_record|", "|a|1|NULL|"]]);
    place.available(&half("FAILFAST")).fails(
        1,
        "error: query 'query1': malformed record at DIR/in/a.json:2: it ends where a value was expected (at its byte 14); the record: {\"k\":\"b\",\"v\":. Set 'mode' = 'PERMISSIVE' to keep it as nulls or 'DROPMALFORMED' to leave it out",
    );
}

#[test]
fn truncated_and_foreign_files() {
    let place = Place::empty();
    // The first bytes of a gzip stream, and no more of it.
    place.write(
        "gz/a.json.gz",
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56],
    );
    place.write("pq/a.parquet", "PAR1 and then nothing that makes sense");
    let count = |path: &str, format: &str| {
        place.available(&format!("CREATE TABLE t (k STRING) WITH ('connector' = 'file', 'path' = '{path}', 'format' = '{format}');\nSELECT count(*) FROM t"))
    };
    count("gz", "json").fails(
        1,
        "error: query 'query1': cannot read DIR/gz/a.json.gz as gzip: incomplete deflate stream. The file is truncated or damaged: write it again, or move it away",
    );
    count("pq", "parquet").fails(
        1,
        "error: query 'query1': cannot read DIR/pq/a.parquet as parquet: Parquet error: Invalid Parquet file. Corrupt footer. The file is truncated, damaged or of another format: write it again, or move it away",
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    let place = Place::new();
    // Permissions do not bind root, who runs the tests in CI; a link to itself nobody can follow.
    std::os::unix::fs::symlink("b.json", place.path("in/b.json")).expect("a link");
    place.available(&format!("{EVENTS}SELECT k FROM t")).fails(
        1,
        "error: query 'query1': cannot read DIR/in/b.json: Too many levels of symbolic links (os error 40)",
    );
}

#[test]
fn a_file_that_vanishes_between_plan_and_read() {
    let place = Place::empty();
    place.write("in/a.json", HALF);
    let script = half("FAILFAST")
        .replace("SELECT", "CREATE TABLE o WITH ('connector' = 'noop', 'checkpointLocation' = 'ck');\nINSERT INTO o SELECT");
    // The epoch is logged, and not committed: the next run reads the same file again.
    assert_eq!(place.available(&script).code, 1);
    fs::remove_file(place.path("in/a.json")).expect("a file");
    place.available(&script).fails(
        1,
        "error: query 'o': DIR/in/a.json: the file was removed after it was planned to be read. Files must be complete when they appear (write them elsewhere and rename them) and stay until they are committed; put it back as it was, or start over with a new 'checkpointLocation'",
    );
    // Put back, and read as the message for the record says, the same epoch goes through.
    place.write("in/a.json", HALF);
    place
        .available(&script.replace("FAILFAST", "PERMISSIVE"))
        .shows(&[]);
}

// Expressions that fail on a row.

#[test]
fn expressions_that_fail_name_the_row_and_the_remedy() {
    let place = Place::new();
    let select =
        |expression: &str| place.available(&format!("{EVENTS}SELECT {expression} AS x FROM t"));
    select("CAST(k AS INT)").fails(1, "error: query 'query1': CAST(k AS INT) failed on the row k = 'a': [CAST_INVALID_INPUT] the value 'a' of type STRING is no INT; use try_cast where NULL will do, or filter such rows before it\n  read from table 't', DIR/in/a.json:1");
    select("v / (v - 2)").fails(1, "error: query 'query1': CAST(v AS DOUBLE) / CAST(v - 2 AS DOUBLE) failed on the row v = 2: [DIVIDE_BY_ZERO] division by zero; use try_divide or nullif(divisor, 0) where NULL will do\n  read from table 't', DIR/in/a.json:2");
    select("v % (v - 2)").fails(1, "error: query 'query1': v % (v - 2) failed on the row v = 2: [REMAINDER_BY_ZERO] remainder by zero; use try_mod or nullif(divisor, 0) where NULL will do\n  read from table 't', DIR/in/a.json:2");
    select("v + 2147483645").fails(1, "error: query 'query1': v + 2147483645 failed on the row v = 3: [ARITHMETIC_OVERFLOW] overflow of INT in 3 + 2147483645; cast an operand to a wider type, such as BIGINT or DECIMAL(38, 0), use the try_ form where NULL will do, or filter such rows before it\n  read from table 't', DIR/in/a.json:3");
    select("-(v - 2147483647 - 2)").fails(1, "error: query 'query1': -(v - 2147483647 - 2) failed on the row v = 1: [ARITHMETIC_OVERFLOW] overflow of INT in -(-2147483648); cast an operand to a wider type, such as BIGINT or DECIMAL(38, 0), use the try_ form where NULL will do, or filter such rows before it\n  read from table 't', DIR/in/a.json:1");
    select("sum(CAST(v AS BIGINT) * 3000000000000000000)").fails(1, "error: query 'query1': [ARITHMETIC_OVERFLOW] x overflows BIGINT; use a wider type, such as DECIMAL(38, 0) or DOUBLE, or try_sum where NULL will do");
}

#[test]
fn a_guard_keeps_an_expression_from_failing() {
    let place = Place::new();
    let select = |query: &str| place.available(&format!("{EVENTS}SELECT {query}"));
    select("v FROM t WHERE v <> 2 AND 1 / (v - 2) > 0").shows(&[&["|v|", "|3|"]]);
    let long = "v <> 5 AND ".repeat(40);
    select(&format!("v FROM t WHERE v <> 2 AND {long} 1 / (v - 2) > 0")).shows(&[&["|v|", "|3|"]]);
    select("v FROM t WHERE v = 2 OR 1 / (v - 2) > 0").shows(&[&["|v|", "|2|", "|3|"]]);
    select("v, CASE WHEN v <> 2 THEN 1 / (v - 2) END AS x FROM t")
        .shows(&[&["|v|x|", "|1|-1.0|", "|2|NULL|", "|3|1.0|"]]);
    select("sum(1 / (v - 2)) FILTER (WHERE v <> 2) AS x FROM t").shows(&[&["|x|", "|0.0|"]]);
}

#[test]
fn one_query_fails_and_the_other_goes_on() {
    let place = Place::new();
    let script = format!("{EVENTS}CREATE TABLE bad WITH ('connector' = 'noop');
CREATE TABLE good WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json', 'outputMode' = 'complete');
INSERT INTO bad SELECT CAST(k AS INT) AS x FROM t;
INSERT INTO good SELECT k, count(*) AS n FROM t GROUP BY k");
    place.available(&script).fails(
        1,
        "error: query 'bad': CAST(k AS INT) failed on the row k = 'a': [CAST_INVALID_INPUT] the value 'a' of type STRING is no INT; use try_cast where NULL will do, or filter such rows before it\n  read from table 't', DIR/in/a.json:1",
    );
    assert_eq!(
        place.lines("out"),
        [r#"{"k":"a","n":2}"#, r#"{"k":"b","n":1}"#]
    );
}

// Checkpoints.

const COUNTS: &str = "CREATE TABLE o WITH ('connector' = 'console', 'outputMode' = 'update', 'checkpointLocation' = 'ck');
INSERT INTO o SELECT k, count(*) AS n FROM t GROUP BY k";

/// A place with a checkpoint of [`COUNTS`], and the names of its state files.
fn counted() -> (Place, Vec<PathBuf>) {
    let place = Place::new();
    place
        .available(&format!("{EVENTS}{COUNTS}"))
        .shows(&[&["|k|n|", "|a|2|", "|b|1|"]]);
    let mut files: Vec<PathBuf> = fs::read_dir(place.path("ck/state"))
        .expect("state")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    (place, files)
}

#[test]
fn a_restart_goes_on_where_it_ended() {
    let (place, _) = counted();
    place.available(&format!("{EVENTS}{COUNTS}")).shows(&[]);
    place.write("in/b.json", "{\"k\":\"a\",\"v\":9}\n");
    place
        .available(&format!("{EVENTS}{COUNTS}"))
        .shows(&[&["|k|n|", "|a|3|"]]);
    let shown = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""), "{}", shown.out);
    assert!(
        shown.out.contains("  operator  1 aggregate: 2 rows, "),
        "{}",
        shown.out
    );
    assert!(
        shown.out.contains("\n  restart   goes on with epoch 3\n"),
        "{}",
        shown.out
    );
}

#[test]
fn a_checkpoint_of_another_query() {
    let (place, _) = counted();
    let script = format!("{EVENTS}{COUNTS}").replace("count(*)", "max(k)");
    place.available(&script).fails(
        1,
        "error: query 'o': the checkpoint ck was written by another query ('o'): operator 1 was 'aggregate [count(*) BIGINT] by [source0.k STRING], never complete, gives changes, append-only input' and is now 'aggregate [max(source0.k) STRING] by [source0.k STRING], never complete, gives changes, append-only input'; start this query with another 'checkpointLocation', or undo the change",
    );
    let script = format!("{EVENTS}{COUNTS}").replace("'update'", "'complete'");
    place.available(&script).fails(
        1,
        "error: query 'o': the checkpoint ck was written by another query ('o'): output mode was 'update' and is now 'complete'; start this query with another 'checkpointLocation', or undo the change",
    );
}

#[test]
fn a_checkpoint_with_a_deleted_state_file() {
    let (place, files) = counted();
    fs::remove_file(&files[0]).expect("a file");
    let name = files[0].file_name().expect("a name").to_string_lossy();
    let why = format!(
        "the state of epoch 1 cannot be restored: {name} is missing; restore the directory 'state' of the checkpoint from a copy, go back to an epoch that does not need them (`tidemark checkpoint DIR` names it), or start over with a new 'checkpointLocation'"
    );
    place
        .available(&format!("{EVENTS}{COUNTS}"))
        .fails(1, &format!("error: query 'o': {why}"));
    let shown = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!(
        (shown.code, shown.err.as_str()),
        (1, "error: the checkpoint ck is damaged, as shown above\n")
    );
    assert!(
        shown
            .out
            .contains(&format!("  PROBLEM   cannot restart: {why}\n")),
        "{}",
        shown.out
    );
}

#[test]
fn a_checkpoint_with_a_flipped_bit_fails_although_there_is_nothing_to_read() {
    let (place, files) = counted();
    flip(&files[0]);
    let outcome = place.available(&format!("{EVENTS}{COUNTS}"));
    let name = files[0].file_name().expect("a name").to_string_lossy();
    let damaged = format!("the state file ck/state/{name} is damaged: ");
    let why = outcome
        .err
        .strip_prefix(&format!("error: query 'o': {damaged}"));
    assert!(why.is_some_and(|why| why.ends_with("the state that it holds cannot be trusted, so nothing is read from it: restore the file from a copy of the checkpoint, go back to an epoch that does not need it (`tidemark checkpoint DIR` names it), or start over with a new 'checkpointLocation'\n")), "{outcome:?}");
    assert_eq!(outcome.code, 1);
    let shown = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!(shown.code, 1);
    assert!(
        shown.out.contains(&format!("  PROBLEM   {damaged}")),
        "{}",
        shown.out
    );
}

#[test]
fn a_checkpoint_whose_database_is_damaged() {
    let (place, _) = counted();
    place.write("ck/tidemark.sqlite", "no database");
    let why = "cannot read the version in ck/tidemark.sqlite: file is not a database; the file is damaged: restore it from a copy, or start over with a new 'checkpointLocation'";
    place
        .available(&format!("{EVENTS}{COUNTS}"))
        .fails(1, &format!("error: query 'o': {why}"));
    place
        .tidemark(&["checkpoint", "ck"])
        .fails(1, &format!("error: {why}"));
}

#[test]
fn a_directory_that_is_no_checkpoint() {
    let place = Place::new();
    place.tidemark(&["checkpoint", "in"]).fails(
        2,
        "error: there is no checkpoint in in: no tidemark.sqlite; check the path",
    );
    place.tidemark(&["checkpoint", "nowhere"]).fails(
        2,
        "error: there is no checkpoint in nowhere: no tidemark.sqlite; check the path",
    );
    let script = format!("{EVENTS}{COUNTS}").replace("'ck'", "'in'");
    place.available(&script).fails(
        1,
        "error: query 'o': in is not empty and not a checkpoint (it holds 'a.json' and no tidemark.sqlite); give 'checkpointLocation' an empty or new directory",
    );
}

#[test]
fn paths_to_write_to_that_are_files() {
    let place = Place::new();
    place.write("f", "");
    let script = format!("{EVENTS}{COUNTS}").replace("'ck'", "'f'");
    place.available(&script).fails(1, "error: query 'o': cannot list f: Not a directory (os error 20); 'checkpointLocation' must name a directory");
    let script = format!(
        "{EVENTS}CREATE TABLE o WITH ('connector' = 'file', 'path' = 'f', 'format' = 'json');\nINSERT INTO o SELECT k FROM t"
    );
    place.available(&script).fails(
        1,
        "error: query 'o': cannot list f/_tidemark: Not a directory (os error 20); a file lies where a directory is wanted: check the path",
    );
}

#[test]
fn an_output_directory_that_cannot_be_made() {
    let place = Place::new();
    // Permissions do not bind root, who runs the tests in CI; this file system binds everybody.
    if !std::path::Path::new("/proc/self").exists() {
        eprintln!("skipped: there is no /proc to fail on");
        return;
    }
    let script = format!(
        "{EVENTS}CREATE TABLE o WITH ('connector' = 'file', 'path' = '/proc/out', 'format' = 'json');\nINSERT INTO o SELECT k FROM t"
    );
    place.available(&script).fails(1, "error: query 'o': cannot create the directory /proc/out: No such file or directory (os error 2); check the path");
}

// Signals.

const ENDLESS: &str = "CREATE TABLE r WITH ('connector' = 'rate', 'rowsPerSecond' = '1000');
CREATE TABLE o WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json', 'checkpointLocation' = 'ck');
INSERT INTO o SELECT value FROM r";

fn has_rows(place: &Place) -> bool {
    !place.lines("out").is_empty()
}

#[test]
fn a_checkpoint_in_use_names_the_process() {
    let place = Place::empty();
    let child = place.start(ENDLESS, has_rows);
    let pid = child.id();
    place.tidemark(&["run", "s.sql"]).fails(
        1,
        &format!("error: query 'o': the checkpoint ck is in use by the process with pid {pid}; one checkpoint belongs to one running query: stop that one, or give this query another 'checkpointLocation'"),
    );
    let shown = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!(shown.code, 0, "{}{}", shown.out, shown.err);
    assert!(
        shown
            .out
            .contains(&format!("  in use    by the process with pid {pid}\n")),
        "{}",
        shown.out
    );
    signal(&child, "-TERM");
    assert_eq!(place.end(child).code, 0);
}

#[test]
fn the_first_signal_commits_the_epoch_in_flight() {
    for name in ["-INT", "-TERM"] {
        let place = Place::empty();
        let child = place.start(ENDLESS, has_rows);
        signal(&child, name);
        let outcome = place.end(child);
        assert_eq!(outcome.code, 0, "{name}");
        assert_eq!(
            outcome.err,
            "stopping after the epoch in flight; a second signal ends at once\n"
        );
        let shown = place.tidemark(&["checkpoint", "ck"]);
        assert_eq!(shown.code, 0, "{}", shown.out);
        assert!(
            shown.out.contains("  restart   goes on with epoch "),
            "{}",
            shown.out
        );
        let rows = place.lines("out");
        let mut expected: Vec<String> = (0..rows.len())
            .map(|row| format!("{{\"value\":{row}}}"))
            .collect();
        expected.sort();
        assert_eq!(rows, expected, "no row is lost, none comes twice");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::empty();
    // One epoch that takes far longer than the test waits.
    place.write("in/a.json", "{\"k\":\"a\",\"v\":1}\n".repeat(4_000_000));
    let script = format!(
        "{EVENTS}CREATE TABLE o WITH ('connector' = 'noop', 'checkpointLocation' = 'ck');\nINSERT INTO o SELECT k, v FROM t"
    );
    let planned = |place: &Place| {
        let shown = place.tidemark(&["checkpoint", "ck"]);
        shown.out.contains("replays epoch 0\n")
    };
    let child = place.start(&script, planned);
    signal(&child, "-INT");
    sleep(Duration::from_millis(200));
    signal(&child, "-INT");
    let outcome = place.end(child);
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (
            130,
            "stopping after the epoch in flight; a second signal ends at once\n"
        )
    );
    let shown = place.tidemark(&["checkpoint", "ck"]);
    assert!(
        shown.out.contains("  restart   replays epoch 0\n"),
        "{}{}",
        shown.out,
        shown.err
    );
}

#[test]
fn a_generator_without_an_end_stops_when_told() {
    let place = Place::empty();
    let script = "CREATE TABLE r (a INT) WITH ('connector' = 'datagen', 'rowsPerSecond' = '1000');
CREATE TABLE o WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json');
INSERT INTO o SELECT a FROM r";
    let child = place.start(script, has_rows);
    signal(&child, "-TERM");
    let outcome = place.end(child);
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (0, ""),
        "{}",
        outcome.err
    );
}

#[test]
fn the_rate_source_ends_with_what_is_there() {
    let place = Place::empty();
    place.available("CREATE TABLE r WITH ('connector' = 'rate', 'rowsPerSecond' = '10');\nSELECT count(*) AS n FROM r").shows(&[&["|n|", "|0|"]]);
    place.run("CREATE TABLE r WITH ('connector' = 'rate', 'rowsPerSecond' = '0');\nSELECT count(*) AS n FROM r", &[]).fails(
        2,
        "error: s.sql:1:14: table 'r': option 'rowsPerSecond' = '0': expected a whole number of at least 1
  1 | CREATE TABLE r WITH ('connector' = 'rate', 'rowsPerSecond' = '0');
    |              ^",
    );
}

// What else there is to see.

#[test]
fn explain_shows_every_query() {
    let place = Place::new();
    place.write("s.sql", format!("{EVENTS}SELECT k FROM t;\nSELECT k, count(*) AS n FROM t GROUP BY k;\nEXPLAIN SELECT v FROM t"));
    let shown = place.tidemark(&["explain", "s.sql"]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    let queries: Vec<&str> = shown
        .out
        .lines()
        .filter(|line| line.starts_with("Query "))
        .collect();
    assert_eq!(queries, ["Query query1", "Query query2", "Query query3"]);
    assert!(shown.out.contains("  checkpoint  none: nothing is kept, a restart begins anew; set 'checkpointLocation' to go on where it ended\n"), "{}", shown.out);
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let place = Place::new();
    place.write("s.sql", format!("{EVENTS}SELECT k FROM t"));
    let mut child = place
        .command(&["explain", "s.sql"])
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    child.stdout = None;
    let status = child.wait().expect("a child");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_batch_answers_and_fails_like_the_stream() {
    let place = Place::new();
    let outcome = place.run(
        &format!("{EVENTS}SELECT k, count(*) AS n FROM t GROUP BY k ORDER BY k"),
        &["--batch"],
    );
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    assert_eq!(
        outcome.out,
        "query1:\n+---+---+\n|  k|  n|\n+---+---+\n|  a|  2|\n|  b|  1|\n+---+---+\n"
    );
    place.run(&format!("{EVENTS}SELECT CAST(k AS INT) AS x FROM t"), &["--batch"]).fails(
        1,
        "error: query 'query1': batch query failed: [CAST_INVALID_INPUT] the value 'a' of type STRING is no INT; use try_cast where NULL will do, or filter such rows before it",
    );
}

#[test]
fn progress_has_sparks_field_names() {
    let place = Place::new();
    let script = format!(
        "{EVENTS}CREATE TABLE o WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO o SELECT window.start, count(*) AS n FROM t GROUP BY window(ts, '5 minutes')"
    );
    let outcome = place.run(&script, &[&AVAILABLE[..], &["--progress", "json"]].concat());
    assert_eq!((outcome.code, outcome.out.as_str()), (0, ""));
    let epochs: Vec<serde_json::Value> = outcome
        .err
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is an object"))
        .collect();
    assert_eq!(epochs.len(), 2);
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    // Behind those of Spark come our own, where there is something to say.
    let ours = ["busyMs", "heldBy"];
    let of_spark = keys(&epochs[0]).into_iter();
    assert_eq!(
        of_spark
            .filter(|key| !ours.contains(&&key[..]))
            .collect::<Vec<_>>(),
        [
            "id",
            "runId",
            "name",
            "timestamp",
            "batchId",
            "numInputRows",
            "inputRowsPerSecond",
            "processedRowsPerSecond",
            "durationMs",
            "eventTime",
            "stateOperators",
            "sources",
            "sink"
        ]
    );
    assert_eq!(
        keys(&epochs[0]["durationMs"]),
        [
            "addBatch",
            "commitBatch",
            "commitOffsets",
            "latestOffset",
            "triggerExecution",
            "walCommit"
        ]
    );
    assert_eq!(
        keys(&epochs[0]["eventTime"]),
        ["avg", "max", "min", "watermark"]
    );
    assert_eq!(
        keys(&epochs[0]["stateOperators"][0]),
        [
            "operatorName",
            "numRowsTotal",
            "numRowsUpdated",
            "numRowsRemoved",
            "numRowsDroppedByWatermark",
            "memoryUsedBytes"
        ]
    );
    assert_eq!(
        keys(&epochs[0]["sources"][0]),
        [
            "description",
            "startOffset",
            "endOffset",
            "latestOffset",
            "numInputRows",
            "inputRowsPerSecond",
            "processedRowsPerSecond",
            "metrics"
        ]
    );
    assert_eq!(keys(&epochs[0]["sink"]), ["description", "numOutputRows"]);
    assert_eq!(epochs[0]["numInputRows"], 3);
    assert_eq!(
        epochs[1]["eventTime"]["watermark"],
        "2026-01-01T00:05:00.000Z"
    );
    assert_eq!(epochs[1]["stateOperators"][0]["numRowsRemoved"], 1);
    assert_eq!(epochs[1]["sink"]["numOutputRows"], 1);
}

// Right results, through every sink and mode.

const WINDOWS: &str =
    "SELECT window.start AS s, k, count(*) AS n FROM t GROUP BY window(ts, '5 minutes'), k";

#[test]
fn the_console_in_every_mode() {
    let place = Place::new();
    let run = |mode: &str| {
        place.available(&format!("{EVENTS}CREATE TABLE o WITH ('connector' = 'console', 'outputMode' = '{mode}');\nINSERT INTO o {WINDOWS}"))
    };
    let (a, b, c) = (
        "|2026-01-0100:00:00|a|1|",
        "|2026-01-0100:00:00|b|1|",
        "|2026-01-0100:05:00|a|1|",
    );
    run("append").shows(&[&["|s|k|n|", a, b]]);
    run("update").shows(&[&["|s|k|n|", a, b, c]]);
    run("complete").shows(&[&["|s|k|n|", a, b, c]]);
    let inserted = [a, b, c].map(|row| format!("|insert{row}"));
    let mut rows = vec!["|_change_type|s|k|n|"];
    rows.extend(inserted.iter().map(String::as_str));
    run("changelog").shows(&[&rows]);
}

#[test]
fn files_in_every_mode() {
    let run = |mode: &str| {
        let place = Place::new();
        let script = format!(
            "{EVENTS}CREATE TABLE o WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json', 'outputMode' = '{mode}', 'checkpointLocation' = 'ck');\nINSERT INTO o {WINDOWS}"
        );
        let first = place.available(&script);
        assert_eq!((first.code, first.err.as_str()), (0, ""));
        place.write(
            "in/b.json",
            "{\"k\":\"a\",\"ts\":\"2026-01-01T00:07:00Z\"}\n",
        );
        assert_eq!(place.available(&script).code, 0);
        let (lines, start) = (place.lines("out"), "2026-01-01T00:0");
        lines
            .iter()
            .map(|line| {
                line.replace(start, "")
                    .replace(":00.000Z", "")
                    .replace('"', "")
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run("append"), ["{s:0,k:a,n:1}", "{s:0,k:b,n:1}"]);
    assert_eq!(
        run("update"),
        [
            "{s:0,k:a,n:1,_epoch:0}",
            "{s:0,k:b,n:1,_epoch:0}",
            "{s:5,k:a,n:1,_epoch:0}",
            "{s:5,k:a,n:2,_epoch:2}"
        ]
    );
    assert_eq!(
        run("changelog"),
        [
            "{s:0,k:a,n:1,_epoch:0,_change_type:insert}",
            "{s:0,k:b,n:1,_epoch:0,_change_type:insert}",
            "{s:5,k:a,n:1,_epoch:0,_change_type:insert}",
            "{s:5,k:a,n:1,_epoch:2,_change_type:update_preimage}",
            "{s:5,k:a,n:2,_epoch:2,_change_type:update_postimage}",
        ]
    );
    assert!(run("complete").ends_with(&["{s:5,k:a,n:2}".to_owned()]));
}

#[test]
fn memory_and_noop_in_every_mode() {
    let place = Place::new();
    for sink in ["memory", "noop"] {
        for mode in ["append", "update", "complete", "changelog"] {
            let script = format!(
                "{EVENTS}CREATE TABLE o WITH ('connector' = '{sink}', 'outputMode' = '{mode}');\nINSERT INTO o {WINDOWS}"
            );
            place.available(&script).shows(&[]);
        }
    }
}

#[test]
fn views_ctes_unions_having_and_distinct() {
    let place = Place::new();
    place.available(&format!("{EVENTS}CREATE VIEW w AS SELECT k, v FROM t WHERE v > 1;
WITH c AS (SELECT k, v * 10 AS v FROM w)
SELECT k, sum(v) AS s FROM (SELECT * FROM c UNION ALL SELECT k, v FROM t) u GROUP BY k HAVING sum(v) > 22")).shows(&[&["|k|s|", "|a|34|"]]);
    place
        .available(&format!("{EVENTS}SELECT DISTINCT k FROM t"))
        .shows(&[&["|k|", "|a|", "|b|"]]);
    place.available(&format!("{EVENTS}SELECT count(*) AS n, count(*) FILTER (WHERE v > 1) AS f, count(DISTINCT k) AS d, avg(v) AS a, min(k) AS m, max(v) AS x FROM t"))
        .shows(&[&["|n|f|d|a|m|x|", "|3|2|2|2.0|a|3|"]]);
}

#[test]
fn windows_as_table_functions() {
    let place = Place::new();
    let run = |function: &str| {
        place.available(&format!("{EVENTS}CREATE TABLE o WITH ('connector' = 'console', 'outputMode' = 'complete', 'numRows' = '100');
INSERT INTO o SELECT date_part('minute', window_start) AS s, date_part('minute', window_end) AS e, count(*) AS n
FROM TABLE({function}) GROUP BY window_start, window_end"))
    };
    run("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE)")
        .shows(&[&["|s|e|n|", "|0|5|2|", "|5|10|1|"]]);
    run("HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)")
        .shows(&[&["|s|e|n|", "|0|10|3|", "|5|15|1|", "|55|5|2|"]]);
    run("CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)")
        .shows(&[&["|s|e|n|", "|0|5|2|", "|0|10|3|"]]);
}

#[test]
fn a_bounded_generator_ends_by_itself() {
    let place = Place::empty();
    let script = "CREATE TABLE r (a INT) WITH ('connector' = 'datagen', 'rowsPerSecond' = '1000', 'numberOfRows' = '25', 'fields.a.kind' = 'sequence', 'fields.a.start' = '1', 'fields.a.end' = '25');
SELECT count(*) AS c, sum(a) AS s FROM r";
    let outcome = place.run(script, &[]);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    assert_eq!(
        outcome.tables().last().map(Vec::as_slice),
        Some(&["|c|s|".to_owned(), "|25|325|".to_owned()][..])
    );
}

#[test]
fn every_trigger_of_a_bounded_kind_ends() {
    let place = Place::new();
    for trigger in ["once", "available-now"] {
        place
            .run(
                &format!("{EVENTS}SELECT v FROM t"),
                &["--set", &format!("trigger={trigger}")],
            )
            .shows(&[&["|v|", "|1|", "|2|", "|3|"]]);
    }
}

#[test]
fn the_demo_shows_a_live_table() {
    let shown = Place::empty().tidemark(&["demo", "--seconds", "2"]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""), "{}", shown.out);
    let (_, table) = shown
        .out
        .rsplit_once("window ")
        .expect("the table has a head");
    let first = table.lines().nth(1).expect("a window has rows");
    let window = first.split_whitespace().next().expect("a window");
    let parts: Vec<u32> = window.split(':').flat_map(str::parse).collect();
    assert!(
        matches!(parts[..], [0..24, 0..60, 0..60]),
        "{window} is a time"
    );
    // The first window may just have begun, with a few events of any kind: what counts is the fullest row.
    let rows = table.lines().skip(1).filter_map(|row| {
        let row = row
            .trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
        let mut cells = row.split_whitespace();
        let (kind, events) = (cells.next()?, cells.next()?);
        Some((events.replace(',', "").parse::<u64>().ok()?, kind))
    });
    let rows: Vec<(u64, &str)> = rows.collect();
    let (_, kind) = rows.iter().max().expect("rows with events");
    assert_eq!(*kind, "page_view", "the most frequent kind");
    assert!(rows[0].0 > 0, "{first}");
}
