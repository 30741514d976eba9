//! Several processes that run one script: the same answer, and a clear end when one of them is lost.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = "
CREATE TABLE events (u STRING, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE closed WITH ('connector' = 'file', 'path' = 'closed', 'format' = 'json', 'outputMode' = 'append',
  'trigger' = 'available-now', 'checkpointLocation' = 'checkpoint/closed');
CREATE TABLE totals WITH ('connector' = 'file', 'path' = 'totals', 'format' = 'json', 'outputMode' = 'complete',
  'trigger' = 'available-now', 'checkpointLocation' = 'checkpoint/totals');
INSERT INTO closed SELECT window.start AS s, u, count(*) AS n, sum(v) AS v FROM events GROUP BY window(ts, '5 minutes'), u;
INSERT INTO totals SELECT n, count(*) AS users FROM (SELECT u, count(*) AS n FROM events GROUP BY u) GROUP BY n;
";

const ENDLESS: &str = "
CREATE TABLE ticks (timestamp TIMESTAMP, value BIGINT) WITH ('connector' = 'rate', 'rowsPerSecond' = '1000', 'numPartitions' = '2');
CREATE TABLE counts WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json', 'outputMode' = 'update',
  'trigger' = '100 ms', 'checkpointLocation' = 'checkpoint');
INSERT INTO counts SELECT value % 10 AS k, count(*) AS n FROM ticks GROUP BY value % 10;
";

struct Place(tempfile::TempDir);

impl Place {
    fn new(script: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path().join("in")).unwrap();
        fs::write(place.path().join("script.sql"), script).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn input(&self, files: std::ops::Range<u32>) {
        for file in files {
            let rows: String = (0..1500_u32)
                .map(|row| {
                    let user = (row * 7919 + file * 31) % 97;
                    let (minute, second) = (row / 30, row % 60);
                    format!("{{\"u\":\"u{user}\",\"v\":{row},\"ts\":\"2026-01-01T{file:02}:{minute:02}:{second:02}Z\"}}\n")
                })
                .collect();
            fs::write(self.path().join(format!("in/{file}.json")), rows).unwrap();
        }
    }

    /// Addresses where nobody listens, one a process.
    fn hosts(&self, processes: usize) {
        let listeners: Vec<TcpListener> = (0..processes)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let lines: String = listeners
            .iter()
            .map(|listener| format!("{}\n", listener.local_addr().unwrap()))
            .collect();
        fs::write(self.path().join("hosts"), lines).unwrap();
    }

    fn start(&self, process: usize, options: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tidemark"))
            .args([
                "run",
                "script.sql",
                "-H",
                "hosts",
                "-p",
                &process.to_string(),
            ])
            .args(options)
            .current_dir(self.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, processes: usize, workers: usize) {
        self.hosts(processes);
        let (n, w) = (processes.to_string(), workers.to_string());
        let children: Vec<Child> = (0..processes)
            .rev()
            .map(|p| self.start(p, &["-n", &n, "-w", &w]))
            .collect();
        for child in children {
            let output = ended(child, Duration::from_mins(1));
            assert!(output.status.success(), "{}", text(&output));
        }
    }

    fn rows(&self, directory: &str) -> Vec<String> {
        let files = fs::read_dir(self.path().join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut rows: Vec<String> = files
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .flat_map(|path| {
                fs::read_to_string(path)
                    .unwrap()
                    .lines()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        rows.sort();
        rows
    }

    /// Two processes of the endless query, well under way.
    fn under_way(&self) -> [Child; 2] {
        self.hosts(2);
        let written = || fs::read_dir(self.path().join("out")).map_or(0, Iterator::count);
        let before = written();
        let children = [self.start(0, &["-n", "2"]), self.start(1, &["-n", "2"])];
        let begun = Instant::now();
        while written() < before + 4 {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "nothing was written"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        children
    }
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn ended(mut child: Child, patience: Duration) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > patience {
            child.kill().unwrap();
            panic!(
                "no end after {patience:?}: {}",
                text(&child.wait_with_output().unwrap())
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn any_number_of_processes_gives_the_same_answer_and_takes_over_the_state() {
    let alone = Place::new(SCRIPT);
    alone.input(0..6);
    alone.run(1, 1);
    let together = Place::new(SCRIPT);
    // Each run goes on from the checkpoint of the one before.
    for (round, (processes, workers)) in [(2, 1), (1, 3), (3, 1), (2, 2)].into_iter().enumerate() {
        let files = [0, 2, 3, 5, 6];
        together.input(files[round]..files[round + 1]);
        together.run(processes, workers);
    }
    for directory in ["closed", "totals"] {
        assert!(!alone.rows(directory).is_empty());
        assert_eq!(
            alone.rows(directory),
            together.rows(directory),
            "{directory}"
        );
    }
}

#[test]
fn a_process_that_is_killed_ends_the_others_and_a_restart_goes_on() {
    let place = Place::new(ENDLESS);
    for victim in [1, 0] {
        let [first, second] = place.under_way();
        let (mut dead, left) = if victim == 0 {
            (first, second)
        } else {
            (second, first)
        };
        dead.kill().unwrap();
        dead.wait().unwrap();
        let begun = Instant::now();
        let output = ended(left, Duration::from_secs(15));
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(
            text(&output).contains(&format!("process {victim} at 127.0.0.1:")),
            "{}",
            text(&output)
        );
        assert!(
            text(&output).contains("has ended; start all processes again"),
            "{}",
            text(&output)
        );
    }
    // What was counted is a whole epoch's: every key has counted every one of its ticks.
    let [first, second] = place.under_way();
    signal(&second, "-INT");
    for child in [first, second] {
        let output = ended(child, Duration::from_secs(15));
        assert!(output.status.success(), "{}", text(&output));
    }
    let mut counts = vec![0; 10];
    for row in place.rows("out") {
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        let key = usize::try_from(row["k"].as_u64().unwrap()).unwrap();
        counts[key] = row["n"].as_u64().unwrap().max(counts[key]);
    }
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least > 0 && most - least <= 2, "{counts:?}");
}

#[test]
fn a_process_that_is_stopped_is_noticed_by_its_silence() {
    let place = Place::new(ENDLESS);
    let [first, mut second] = place.under_way();
    signal(&second, "-STOP");
    let begun = Instant::now();
    let output = ended(first, Duration::from_secs(15));
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("has given no sign of life for 8 s"),
        "{}",
        text(&output)
    );
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn processes_that_do_not_fit_say_why() {
    let place = Place::new(ENDLESS);
    place.hosts(2);
    let alone = ended(
        place.start(0, &["-n", "2", "--connect-timeout", "1"]),
        Duration::from_secs(10),
    );
    assert_eq!(alone.status.code(), Some(1));
    assert!(
        text(&alone).contains("process 1 at 127.0.0.1:"),
        "{}",
        text(&alone)
    );
    assert!(
        text(&alone).contains("has not come for query 'counts' in 1 s; start it with -p 1"),
        "{}",
        text(&alone)
    );
    let alone = ended(
        place.start(1, &["-n", "2", "--connect-timeout", "1"]),
        Duration::from_secs(10),
    );
    assert!(
        text(&alone).contains("cannot be reached: Connection refused"),
        "{}",
        text(&alone)
    );

    place.hosts(2);
    let first = place.start(0, &["-n", "2", "-w", "2"]);
    let second = ended(place.start(1, &["-n", "2"]), Duration::from_secs(15));
    let first = ended(first, Duration::from_secs(15));
    assert!(
        text(&first)
            .contains("process 0 was started with -w 2, process 1 with -w 1; use one number"),
        "{}",
        text(&first)
    );
    assert!(
        text(&second).contains("refuses: process 0 was started with -w 2"),
        "{}",
        text(&second)
    );

    place.hosts(2);
    let first = place.start(0, &["-n", "2"]);
    let second = ended(
        place.start(1, &["-n", "2", "--set", "session.timeZone=Asia/Tokyo"]),
        Duration::from_secs(15),
    );
    assert!(
        text(&second).contains("query 'counts' is not the same in processes 0 and 1"),
        "{}",
        text(&second)
    );
    assert_eq!(ended(first, Duration::from_secs(15)).status.code(), Some(1));
}

#[test]
fn bad_options_are_usage_errors() {
    let place = Place::new(ENDLESS);
    place.hosts(2);
    for (options, message) in [
        (
            &["-n", "2", "-p", "2"][..],
            "with -n 2 processes are numbered 0 to 1",
        ),
        (&["-n", "3"], "hosts names 2 of 3 processes"),
        (
            &["-n", "2", "-H", "nowhere"],
            "cannot read the host file nowhere",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidemark"))
            .args(["run", "script.sql"])
            .args(if options.contains(&"-H") {
                &[][..]
            } else {
                &["-H", "hosts"]
            })
            .args(options)
            .current_dir(place.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(message), "{}", text(&output));
    }
}
