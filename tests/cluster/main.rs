//! Several processes that run one script: the same answer, and a clear end when one of them is lost.

mod rescale;
mod retry;
mod start;
mod takeover;

use std::collections::BTreeMap;
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
    fn hosts(&self, processes: usize) -> Vec<String> {
        let listeners: Vec<TcpListener> = (0..processes)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses: Vec<String> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().to_string())
            .collect();
        fs::write(self.path().join("hosts"), addresses.join("\n")).unwrap();
        addresses
    }

    fn command(&self, process: usize, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command
            .args(["run", "script.sql", "-H", "hosts"])
            .args(["-p", &process.to_string()])
            .args(options)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, process: usize, options: &[&str]) -> Child {
        self.command(process, options).spawn().unwrap()
    }

    /// Runs the script to its end; what each process said.
    fn run(&self, processes: usize, workers: usize, options: &[&str]) -> Vec<Output> {
        self.hosts(processes);
        let (n, w) = (processes.to_string(), workers.to_string());
        let options = [&["-n", &n, "-w", &w], options].concat();
        let children: Vec<Child> = (0..processes)
            .map(|process| self.start(process, &options))
            .collect();
        let end = |child| {
            let output = ended(child, Duration::from_mins(1));
            assert!(output.status.success(), "{}", text(&output));
            output
        };
        children.into_iter().map(end).collect()
    }

    /// The greatest count of each of the ten keys in `out`.
    fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; 10];
        for row in self.rows("out") {
            let row: serde_json::Value = serde_json::from_str(&row).unwrap();
            let key = usize::try_from(row["k"].as_u64().unwrap()).unwrap();
            counts[key] = row["n"].as_u64().unwrap().max(counts[key]);
        }
        counts
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
        let before = self.written();
        let children = [self.start(0, &["-n", "2"]), self.start(1, &["-n", "2"])];
        self.goes_on(before);
        children
    }

    /// How many files the endless query has written.
    fn written(&self) -> usize {
        fs::read_dir(self.path().join("out")).map_or(0, Iterator::count)
    }

    /// Waits until it has written some more than so many.
    fn goes_on(&self, before: usize) {
        let begun = Instant::now();
        while self.written() < before + 4 {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "nothing was written"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
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

/// Lets a process that was started come to where it waits.
fn a_while() {
    std::thread::sleep(Duration::from_secs(1));
}

/// Fails, soon and with these words.
fn fails(child: Child, words: &str) {
    let begun = Instant::now();
    let output = ended(child, Duration::from_secs(15));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(words), "{}", text(&output));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

/// Ends as it was asked to.
fn stops(child: Child) {
    let output = ended(child, Duration::from_secs(15));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn any_number_of_processes_gives_the_same_answer_and_takes_over_the_state() {
    let alone = Place::new(SCRIPT);
    alone.input(0..6);
    alone.run(1, 1, &[]);
    let together = Place::new(SCRIPT);
    // Each run goes on from the checkpoint of the one before.
    for (round, (processes, workers)) in [(2, 1), (1, 3), (3, 1), (2, 2)].into_iter().enumerate() {
        let files = [0, 2, 3, 5, 6];
        together.input(files[round]..files[round + 1]);
        together.run(processes, workers, &[]);
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
        let output = ended(left, Duration::from_secs(10));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        for words in [
            &format!("process {victim} at 127.0.0.1:"),
            "has ended; start all processes again",
        ] {
            assert!(text(&output).contains(words), "{}", text(&output));
        }
    }
    // What was counted is a whole epoch's: every key has counted every one of its ticks.
    let [first, second] = place.under_way();
    signal(&second, "-INT");
    [first, second].into_iter().for_each(stops);
    let counts = place.counts();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least > 0 && most - least <= 2, "{counts:?}");
}

#[test]
fn a_process_that_is_stopped_is_noticed_by_its_silence_and_ends_when_it_wakes_up() {
    for victim in [1, 0] {
        let place = Place::new(ENDLESS);
        let [first, second] = place.under_way();
        let (silent, left) = if victim == 0 {
            (first, second)
        } else {
            (second, first)
        };
        signal(&silent, "-STOP");
        fails(left, "has given no sign of life for 8 s");
        // It finds itself alone when it wakes up.
        signal(&silent, "-CONT");
        fails(silent, "start all processes again");
    }
}

#[test]
fn what_a_user_sees_of_processes_is_the_whole_query() {
    let script = "
CREATE TABLE events (u STRING, v BIGINT)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '2');
CREATE TABLE made (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('connector' = 'datagen', 'number-of-rows' = '3000', 'numPartitions' = '3', 'fields.id.kind' = 'sequence',
    'fields.ts.kind' = 'event-time');
CREATE TABLE letters WITH ('connector' = 'file', 'path' = 'letters', 'format' = 'json');
CREATE TABLE shares WITH ('connector' = 'file', 'path' = 'shares', 'format' = 'json', 'outputMode' = 'append',
  'trigger' = 'available-now', 'deadLetter' = 'letters', 'checkpointLocation' = 'checkpoint/shares');
CREATE TABLE seconds WITH ('connector' = 'file', 'path' = 'seconds', 'format' = 'json', 'outputMode' = 'complete',
  'trigger' = 'once', 'checkpointLocation' = 'checkpoint/seconds');
CREATE TABLE shown WITH ('connector' = 'console', 'sorted' = 'true', 'outputMode' = 'complete', 'trigger' = 'once');
INSERT INTO shares SELECT u, 100 / (v % 50) AS share FROM events;
INSERT INTO seconds SELECT window_start AS s, count(*) AS n, sum(id) AS ids
  FROM TABLE(TUMBLE(TABLE made, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end;
INSERT INTO shown SELECT v % 3 AS k, count(*) AS n FROM events GROUP BY v % 3;
";
    let seen = |processes: usize| {
        let place = Place::new(script);
        place.input(0..5);
        let mut outputs = place.run(processes, 1, &["--progress", "json"]);
        let first = outputs.remove(0);
        for other in outputs {
            assert!(
                other.stdout.is_empty() && other.stderr.is_empty(),
                "{other:?}"
            );
        }
        let mut read = BTreeMap::new();
        for line in text(&first).lines() {
            let progress: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = progress["name"].as_str().unwrap().to_owned();
            *read.entry(name).or_insert(0) += progress["numInputRows"].as_u64().unwrap();
        }
        let letters: Vec<(String, String)> = place
            .rows("letters")
            .iter()
            .map(|row| {
                let row: serde_json::Value = serde_json::from_str(row).unwrap();
                (row["reason"].to_string(), row["record"].to_string())
            })
            .collect();
        let shown = String::from_utf8(first.stdout).unwrap();
        (
            read,
            letters,
            place.rows("shares"),
            place.rows("seconds"),
            shown,
        )
    };
    let alone = seen(1);
    assert_eq!(alone.0["shares"], 7500);
    assert_eq!(alone.0["seconds"], 3000);
    assert_eq!(alone.0["shown"], 7500);
    assert_eq!((alone.1.len(), alone.2.len()), (150, 7350));
    assert_eq!(alone.3.len(), 3);
    assert!(alone.4.contains("|  0|2500|"), "{}", alone.4);
    for processes in [2, 3] {
        assert_eq!(seen(processes), alone, "{processes}");
    }
}
