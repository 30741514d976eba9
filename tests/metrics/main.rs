//! `--metrics`: what the command serves is what Prometheus reads, and what `docs/metrics.md` says.
//!
//! Every page here goes through a strict parser of the text format and through the rules of
//! `promtool check metrics`.

#![cfg(unix)]

mod exposition;
mod topics;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use exposition::Page;
use tempfile::TempDir;

/// Nothing here takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_mins(1);

const SCRIPT: &str = "
CREATE TABLE events (k STRING, v INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'mode' = 'DROPMALFORMED', 'maxFilesPerTrigger' = '1');
CREATE TABLE counts WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json', 'checkpointLocation' = 'ckpt');
INSERT INTO counts
  SELECT window.start AS s, k, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), k;
CREATE TABLE letters WITH ('connector' = 'file', 'path' = 'letters', 'format' = 'json');
CREATE TABLE parts WITH ('connector' = 'noop', 'onError' = 'deadLetter', 'deadLetter' = 'letters');
INSERT INTO parts SELECT k, 100 / v AS part FROM events;
";

/// Three rows, one of which has no quotient, and a line that is none.
const FIRST: &str = r#"{"k":"a","v":1,"ts":"2026-01-01T00:00:01Z"}
{"k":"b","v":0,"ts":"2026-01-01T00:06:00Z"}
{"k":"a","v":
{"k":"a","v":3,"ts":"2026-01-01T00:12:00Z"}
"#;
const LATE: &str = r#"{"k":"a","v":1,"ts":"2026-01-01T00:00:02Z"}"#;

/// A directory with the script.
struct Place(TempDir);

impl Place {
    fn new(script: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("there is a temporary directory"));
        fs::create_dir(place.path().join("in")).expect("a directory");
        place.write("s.sql", script);
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        // Under its name it is whole.
        let hidden = self.path().join(".new");
        fs::write(&hidden, text).expect("a file");
        fs::rename(hidden, self.path().join(name)).expect("a name");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command.args(args).current_dir(self.path());
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the script, with metrics on a port that is free.
    fn run(&self, args: &[&str]) -> Running {
        let args = [&["run", "s.sql", "--metrics", "127.0.0.1:0"], args].concat();
        let mut child = self.command(&args).spawn().expect("the command starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it says where");
        let address = line
            .strip_prefix("metrics: http://")
            .and_then(|rest| rest.trim_end().strip_suffix("/metrics"))
            .unwrap_or_else(|| panic!("it said {line}"))
            .to_owned();
        Running {
            child,
            _said: said,
            address,
        }
    }

    /// Runs a command that fails at once, and gives what it says.
    fn fails(&self, args: &[&str]) -> String {
        let child = self.command(args).spawn().expect("the command starts");
        let output = ended(child);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

/// Waits for a command; one that hangs is killed and fails the test.
fn ended(mut child: Child) -> Output {
    let began = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if began.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("it hangs: {:?}", child.wait_with_output());
        }
        sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// A command that serves metrics.
struct Running {
    child: Child,
    /// Open as long as the command may say something.
    _said: BufReader<ChildStderr>,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream
    }

    /// The answer to a request: its status line, its headers and its body.
    fn ask(&self, request: &str) -> (String, String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let (status, headers) = head.split_once("\r\n").expect("a status line");
        (status.into(), headers.into(), body.into())
    }

    fn page(&self) -> Page {
        let (status, headers, body) = self.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(
            headers.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{headers}"
        );
        let length = format!("Content-Length: {}\r\n", body.len());
        assert!(headers.contains(&length), "{headers}");
        Page::parse(&body).unwrap_or_else(|why| panic!("{why}\n{body}"))
    }

    /// Pages until one is as wanted. Counters never go down on the way.
    fn until(&self, what: &str, wanted: impl Fn(&Page) -> bool) -> Page {
        let began = Instant::now();
        let mut last: Option<Page> = None;
        loop {
            let page = self.page();
            if let Some(last) = &last {
                last.assert_counters_grow(&page);
            }
            if wanted(&page) {
                return page;
            }
            assert!(began.elapsed() < LIMIT, "{what} never came:\n{page:?}");
            last = Some(page);
            sleep(Duration::from_millis(20));
        }
    }

    fn stop(mut self) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill {pid}");
        let began = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            assert!(began.elapsed() < LIMIT, "it does not stop");
            sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn two_queries_of_a_script_tell_all_of_themselves_on_one_page() {
    let place = Place::new(SCRIPT);
    place.write("in/a.json", FIRST);
    let running = place.run(&["-w", "2", "--set", "spark.app.id=shop"]);
    let read = |page: &Page, of: &str| {
        page.sum(
            "tidemark_source_rows_total",
            &[("query", of), ("status", "processed")],
        )
    };
    running.until("the first file", |page| {
        read(page, "counts") == 3.0 && read(page, "parts") == 2.0
    });
    // The watermark has come to 00:11, and closes two windows in an epoch without rows.
    let page = running.until("the windows", |page| {
        page.sum("tidemark_sink_rows_total", &[("query", "counts")]) == 2.0
    });
    let counts = [("query", "counts")];
    let events = [("query", "counts"), ("source", "events")];
    let parts = [("query", "parts")];
    let midnight = 1_767_225_600.0;
    for (name, labels, expected) in [
        ("tidemark_query_running", &counts[..], 1.0),
        ("tidemark_query_running", &parts, 1.0),
        ("tidemark_query_restarts_total", &counts, 0.0),
        ("tidemark_query_failures_total", &counts, 0.0),
        ("tidemark_epochs_total", &counts, 2.0),
        ("tidemark_epoch", &counts, 1.0),
        ("tidemark_epoch_duration_seconds_count", &counts, 2.0),
        ("tidemark_event_age_seconds_count", &counts, 1.0),
        (
            "tidemark_watermark_timestamp_seconds",
            &counts,
            midnight + 660.0,
        ),
        (
            "tidemark_partition_watermark_timestamp_seconds",
            &events,
            midnight + 660.0,
        ),
        (
            "tidemark_operator_watermark_timestamp_seconds",
            &counts,
            midnight + 660.0,
        ),
        ("tidemark_partition_idle", &events, 0.0),
        ("tidemark_source_backlog_files", &events, 0.0),
        ("tidemark_source_backlog_bytes", &events, 0.0),
        (
            "tidemark_operator_state_rows",
            &[("query", "counts"), ("kind", "aggregate")],
            1.0,
        ),
        ("tidemark_operator_updated_rows_total", &counts, 3.0),
        ("tidemark_operator_removed_rows_total", &counts, 2.0),
        ("tidemark_operator_late_rows_total", &counts, 0.0),
        ("tidemark_worker_rows_total", &counts, 3.0),
        ("tidemark_dead_letters_total", &counts, 0.0),
        ("tidemark_dead_letters_total", &parts, 1.0),
        (
            "tidemark_sink_rows_total",
            &[("query", "parts"), ("sink", "parts")],
            2.0,
        ),
        (
            "spark_streaming_total_events",
            &[("app_id", "shop"), ("query", "counts")],
            3.0,
        ),
    ] {
        assert_eq!(
            page.sum(name, labels),
            expected,
            "{name}{labels:?}\n{page:?}"
        );
    }
    // One line is no record; in the other query a row has no quotient as well.
    let failed = |query| [("app_id", "shop"), ("query", query), ("status", "failed")];
    let name = "spark_streaming_total_input_rows";
    assert_eq!(page.sum(name, &failed("counts")), 1.0, "{page:?}");
    assert_eq!(page.sum(name, &failed("parts")), 2.0, "{page:?}");
    for name in [
        "tidemark_operator_state_bytes",
        "tidemark_worker_state_bytes",
        "tidemark_checkpoint_bytes",
    ] {
        assert!(page.sum(name, &counts) > 0.0, "{name}\n{page:?}");
    }
    let phases = page.values(
        "tidemark_epoch_phase_duration_seconds_count",
        &counts,
        "phase",
    );
    let expected = [
        "addBatch",
        "commitBatch",
        "commitOffsets",
        "latestOffset",
        "walCommit",
    ];
    assert_eq!(phases.keys().collect::<Vec<_>>(), expected);
    let parts = page.values("tidemark_busy_seconds_total", &counts, "part");
    for part in ["source events", "sink counts", "checkpoint"] {
        assert!(
            parts.get(part).is_some_and(|spent| *spent > 0.0),
            "{parts:?}"
        );
    }
    let workers = page.values("tidemark_worker_state_bytes", &counts, "worker");
    assert_eq!(workers.keys().collect::<Vec<_>>(), ["0", "1"]);

    place.write("in/b.json", LATE);
    let page = running.until("the late row", |page| {
        page.sum("tidemark_operator_late_rows_total", &counts) == 1.0
    });
    assert_eq!(
        page.sum(
            "spark_streaming_total_input_rows",
            &[("query", "counts"), ("status", "processed")]
        ),
        4.0
    );
    running.stop();
}

#[test]
fn what_waits_is_served_while_it_waits() {
    let script = SCRIPT.replace(
        "'checkpointLocation'",
        "'trigger' = '1 hour', 'checkpointLocation'",
    );
    let place = Place::new(&script);
    for name in ["in/a.json", "in/b.json", "in/c.json"] {
        place.write(name, FIRST);
    }
    let running = place.run(&[]);
    let counts = [("query", "counts")];
    let page = running.until("the first epoch", |page| {
        page.sum("tidemark_epochs_total", &counts) == 1.0
    });
    assert_eq!(page.sum("tidemark_source_backlog_files", &counts), 2.0);
    assert_eq!(
        page.sum("tidemark_source_backlog_bytes", &counts),
        2.0 * FIRST.len() as f64
    );
    running.stop();
}

#[test]
fn offsets_give_a_lag_where_a_source_has_them() {
    let place = Place::new(
        "CREATE TABLE ticks WITH ('connector' = 'rate', 'rowsPerSecond' = '100');
         CREATE TABLE o WITH ('connector' = 'noop', 'trigger' = '50 ms');
         INSERT INTO o SELECT value FROM ticks;",
    );
    let running = place.run(&[]);
    let page = running.until("an epoch", |page| {
        page.sum("tidemark_epochs_total", &[]) > 0.0
    });
    let labels = [("query", "o"), ("source", "ticks")];
    let lags = page.values("tidemark_source_lag_offsets", &labels, "query");
    assert_eq!(lags.into_iter().collect::<Vec<_>>(), [("o".into(), 0.0)]);
    running.stop();
}

#[test]
fn rows_of_continuous_queries_have_a_latency() {
    let place = Place::new(
        "CREATE TABLE ticks WITH ('connector' = 'rate', 'rowsPerSecond' = '100');
         CREATE TABLE o WITH ('connector' = 'noop', 'trigger' = 'continuous 100 ms');
         INSERT INTO o SELECT value FROM ticks;
         CREATE TABLE batches WITH ('connector' = 'noop', 'trigger' = '100 ms');
         INSERT INTO batches SELECT value FROM ticks;",
    );
    let running = place.run(&[]);
    let of = [("query", "o")];
    let page = running.until("rows", |page| {
        page.sum("tidemark_sink_rows_total", &of) >= 200.0
            && page.sum("tidemark_sink_rows_total", &[("query", "batches")]) >= 100.0
    });
    running.stop();
    // Every row counts, once it is committed.
    let rows = page.sum("tidemark_sink_rows_total", &of);
    assert_eq!(page.sum("tidemark_row_latency_seconds_count", &of), rows);
    let all = page.sum("tidemark_row_latency_seconds_sum", &of);
    assert!(all > 0.0 && all < rows * LIMIT.as_secs_f64(), "{page:?}");
    let queries = page.values("tidemark_row_latency_seconds_count", &[], "query");
    assert_eq!(queries.keys().collect::<Vec<_>>(), ["o"]);
    let part = [("query", "batches"), ("part", "source ticks")];
    assert!(
        page.sum("tidemark_busy_seconds_total", &part) > 0.0,
        "{page:?}"
    );
}

#[test]
fn a_restart_is_counted_and_so_is_a_failure() {
    let letters = ", 'onError' = 'deadLetter', 'deadLetter' = 'letters'";
    let place = Place::new(&SCRIPT.replace(letters, ""));
    place.write("in/a.json", LATE);
    let (counts, parts) = ([("query", "counts")], [("query", "parts")]);
    for restarts in 0..2 {
        let running = place.run(&[]);
        let page = running.until("an epoch", |page| {
            page.sum("tidemark_epochs_total", &parts) > 0.0
                && page.sum("tidemark_query_restarts_total", &counts) == f64::from(restarts)
        });
        // Only a checkpoint remembers, and nobody has written down that the query was killed.
        assert_eq!(page.sum("tidemark_query_restarts_total", &parts), 0.0);
    }
    let running = place.run(&[]);
    running.until("an epoch", |page| {
        page.sum("tidemark_epochs_total", &parts) > 0.0
            && page.sum("tidemark_query_restarts_total", &counts) == 2.0
    });
    place.write("in/b.json", FIRST);
    let page = running.until("the failure", |page| {
        page.sum("tidemark_query_failures_total", &parts) == 1.0
    });
    // It keeps what it counted, and says no more how things stand.
    assert_eq!(page.sum("tidemark_query_running", &parts), 0.0);
    assert_eq!(page.sum("tidemark_sink_rows_total", &parts), 1.0);
    for gone in ["tidemark_epoch", "tidemark_source_backlog_files"] {
        let left = page.values(gone, &parts, "query");
        assert!(left.is_empty(), "{gone}\n{page:?}");
    }
    // The other one goes on.
    assert_eq!(page.sum("tidemark_query_running", &counts), 1.0);
    running.until("its rows", |page| {
        page.sum(
            "tidemark_source_rows_total",
            &[("query", "counts"), ("status", "processed")],
        ) >= 3.0
    });
    running.stop();
}

#[test]
fn only_get_metrics_is_answered_and_nobody_holds_the_others_up() {
    let place = Place::new(SCRIPT);
    let running = place.run(&[]);
    // Somebody who says nothing.
    let silent: Vec<TcpStream> = (0..10).map(|_| running.connect()).collect();
    for (request, expected) in [
        ("GET /metrics?x=y HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (
            "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "405 Method Not Allowed",
        ),
        ("GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
        ("hello\r\n\r\n", "400 Bad Request"),
    ] {
        let (status, headers, _) = running.ask(request);
        assert_eq!(status, format!("HTTP/1.1 {expected}"), "{request}");
        assert!(headers.contains("Connection: close"), "{headers}");
    }
    let mut long = running.connect();
    let header = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    long.write_all(header.as_bytes()).expect("it reads");
    long.shutdown(std::net::Shutdown::Write).expect("an end");
    let mut answer = String::new();
    long.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // More than there is room for.
    let more: Vec<TcpStream> = (0..30).map(|_| running.connect()).collect();
    sleep(Duration::from_millis(500));
    let refused = more.into_iter().filter_map(|mut stream| {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 503 ").then_some(())
    });
    assert!(refused.count() >= 10, "there are 16 connections at a time");
    // Whoever says nothing is sent away.
    for mut stream in silent {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert_eq!(answer, "");
    }
    running.page();
    running.stop();
}

#[test]
fn an_address_that_cannot_be_is_refused_before_anything_runs() {
    let place = Place::new(SCRIPT);
    for bad in [
        "9464",
        "localhost",
        ":9464",
        "127.0.0.1:x",
        "127.0.0.1:70000",
    ] {
        assert_eq!(
            place.fails(&["run", "s.sql", "--metrics", bad]),
            format!(
                "error: cannot serve metrics on '{bad}': it is no address; write HOST:PORT, such as 127.0.0.1:9464, or port 0 for any that is free\n"
            )
        );
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    assert_eq!(
        place.fails(&["run", "s.sql", "--metrics", &address]),
        format!(
            "error: cannot serve metrics on {address}: Address already in use (os error 98); another program listens there: write another port, or 0 for any that is free\n"
        )
    );
    let elsewhere = place.fails(&["run", "s.sql", "--metrics", "192.0.2.1:9464"]);
    assert!(
        elsewhere.contains("; write an address of this machine"),
        "{elsewhere}"
    );
    let batch = place.fails(&["run", "s.sql", "--batch", "--metrics", "127.0.0.1:0"]);
    assert!(batch.contains("cannot be used with"), "{batch}");
    assert!(!place.path().join("ckpt").exists(), "a query ran");
}

#[test]
fn of_several_processes_the_first_serves() {
    let place = Place::new(&SCRIPT.replace("'connector' = 'noop'", "'connector' = 'file', 'path' = 'parts', 'format' = 'json', 'checkpointLocation' = 'ckpt-parts'"));
    place.write("in/a.json", FIRST);
    let hosts: Vec<TcpListener> = (0..2)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let named: Vec<String> = hosts
        .iter()
        .map(|host| host.local_addr().expect("an address").to_string())
        .collect();
    place.write("hosts", &named.join("\n"));
    drop(hosts);
    let cluster = ["-n", "2", "-H", "hosts"];
    let of = |process| [&cluster[..], &["-p", process]].concat();
    let args = [&["run", "s.sql", "--metrics", "127.0.0.1:0"], &*of("1")].concat();
    let second = place.command(&args).spawn().expect("the command starts");
    let first = place.run(&of("0"));
    let page = first.until("the rows of both", |page| {
        page.sum(
            "tidemark_source_rows_total",
            &[("query", "counts"), ("status", "processed")],
        ) == 3.0
    });
    let workers = page.values(
        "tidemark_worker_rows_total",
        &[("query", "counts")],
        "worker",
    );
    assert_eq!(workers.keys().collect::<Vec<_>>(), ["0", "1"]);
    first.stop();
    let said = String::from_utf8(ended(second).stderr).expect("text");
    assert!(
        said.starts_with("metrics: served by process 0, which has those of all\n"),
        "{said}"
    );
}

/// The names of the page are those of the documentation, with their types and labels.
#[test]
fn the_documentation_lists_what_is_served() {
    let place = Place::new(SCRIPT);
    place.write("in/a.json", FIRST);
    let running = place.run(&[]);
    let page = running.until("the rows", |page| {
        page.sum("tidemark_sink_rows_total", &[("query", "counts")]) == 2.0
    });
    running.stop();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(path).expect("the page is there");
    let mut listed = vec![];
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, ..] = *cells else {
            panic!("a row of three columns: {line}")
        };
        let bare = |text: &str| text.trim_matches('`').to_owned();
        let labels: Vec<String> = labels.split(',').map(|label| bare(label.trim())).collect();
        listed.push((bare(name), kind.to_owned(), labels));
    }
    let served: Vec<(String, String)> = page.families();
    let names = listed
        .iter()
        .map(|(name, kind, _)| (name.clone(), kind.clone()));
    assert_eq!(names.collect::<Vec<_>>(), served);
    for (name, _, labels) in &listed {
        for label in page.labels(name) {
            assert!(labels.contains(&label), "{name} has the label {label}");
        }
    }
}
