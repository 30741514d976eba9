//! `kill -9` at random moments, beside a table that changes all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rusqlite::Connection;
use serde_json::Value;
use tidemark_connectors::sinks::file::manifest::committed_files;

use crate::refresh::sqlite;

const FILES: usize = 40;
const ROWS: usize = 25;

/// All must be there by then.
const PATIENCE: Duration = Duration::from_mins(3);

fn start(dir: &Path, processes: usize, workers: usize) -> Vec<Child> {
    if processes > 1 {
        let free: Vec<TcpListener> = (0..processes)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let lines = free.iter().map(|listener| {
            let address = listener.local_addr().expect("it is bound");
            format!("{address}\n")
        });
        fs::write(dir.join("hosts"), lines.collect::<String>()).expect("a file");
    }
    let start = |process: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command.args([
            "run",
            "q.sql",
            "--progress",
            "none",
            "-w",
            &workers.to_string(),
        ]);
        if processes > 1 {
            command.args(["-n", &processes.to_string(), "-p", &process.to_string()]);
            command.args(["-H", "hosts"]);
        }
        command.current_dir(dir).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    };
    (0..processes).map(start).collect()
}

/// The rows that are committed, by epoch: the id of each, and the name beside it.
fn committed(dir: &Path) -> BTreeMap<u64, Vec<(u64, String)>> {
    let mut epochs: BTreeMap<u64, Vec<(u64, String)>> = BTreeMap::new();
    let files = committed_files(&dir.join("result")).expect("a manifest");
    for file in files.unwrap_or_default() {
        let name = file.file_name().expect("a name").display().to_string();
        let epoch = name["part-".len()..][..10].parse().expect("a number");
        // It may be gone while the query goes on.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for line in text.lines() {
            let (id, name) = line.split_once(',').expect("two columns");
            let row = (id.parse().expect("a number"), name.to_owned());
            epochs.entry(epoch).or_default().push(row);
        }
    }
    epochs
}

/// The snapshots that the offset log names, by the epoch that begins with each.
fn snapshots(dir: &Path) -> BTreeMap<u64, u64> {
    let connection = Connection::open(dir.join("checkpoint/tidemark.sqlite")).expect("a database");
    let mut statement = connection
        .prepare("SELECT epoch, entry FROM offsets ORDER BY epoch")
        .expect("a log");
    let rows = statement
        .query_map([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .expect("a log");
    rows.filter_map(|row| {
        let (epoch, entry) = row.expect("an entry");
        let entry: Value = serde_json::from_str(&entry).expect("JSON");
        let end = entry["sources"][1]["range"]["end"].as_u64()?;
        Some((epoch as u64, end))
    })
    .collect()
}

/// Kills a query again and again, which starts with these processes and workers of each, in turn.
fn killed(layouts: &[(usize, usize)], trigger: &str) {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    fs::create_dir(dir.join("in")).expect("a directory");
    for file in 0..FILES {
        let line = |row: usize| {
            let id = file * ROWS + row;
            format!("{{\"id\": {id}, \"customer\": {}}}\n", id % 5 + 1)
        };
        fs::write(
            dir.join(format!("in/{file:03}.json")),
            (0..ROWS).map(line).collect::<String>(),
        )
        .expect("written");
    }
    let set = sqlite(&dir.join("shop.db"));
    set(0);
    let script = format!(
        "SET 'minBatchesToRetain' = '1000';
         CREATE TABLE orders (id BIGINT, customer BIGINT)
           WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '1');
         CREATE TABLE customers (id BIGINT, name STRING) WITH ('connector' = 'sqlite', 'path' = 'shop.db',
           'dbtable' = 'customers', 'streaming' = 'false', 'refreshInterval' = '1 ms');
         CREATE TABLE result WITH ('connector' = 'file', 'path' = 'result', 'format' = 'csv',
           'trigger' = '{trigger}', 'checkpointLocation' = 'checkpoint');
         INSERT INTO result SELECT o.id, c.name FROM orders o JOIN customers c ON o.customer = c.id;"
    );
    fs::write(dir.join("q.sql"), script).expect("written");
    let ended = AtomicBool::new(false);
    let kills = std::thread::scope(|scope| {
        let stop = &ended;
        scope.spawn(move || {
            for version in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                set(version);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let began = Instant::now();
        let mut random = rand::rng();
        let mut kills = 0;
        for (processes, workers) in layouts.iter().copied().cycle() {
            let mut children = start(dir, processes, workers);
            let most = Duration::from_millis(random.random_range(50..1500));
            let lived = Instant::now();
            let all = |epochs: &BTreeMap<u64, Vec<_>>| {
                epochs.values().map(Vec::len).sum::<usize>() >= FILES * ROWS
            };
            let mut done = false;
            while lived.elapsed() < most && !done {
                done = all(&committed(dir));
                std::thread::sleep(Duration::from_millis(10));
            }
            for child in &mut children {
                child.kill().expect("a child can be killed");
            }
            let said: Vec<String> = children
                .into_iter()
                .map(|child| {
                    let output = child.wait_with_output().expect("it was killed");
                    String::from_utf8_lossy(&output.stderr).into_owned()
                })
                .collect();
            kills += 1;
            // Who is left says which process is lost.
            let lines = said.iter().flat_map(|text| text.lines());
            let healthy = !lines.clone().any(|line| {
                line.contains("error") && !(processes > 1 && line.contains("127.0.0.1:"))
            });
            if !healthy || began.elapsed() > PATIENCE {
                ended.store(true, Ordering::Relaxed);
                panic!("after {kills} kills: {said:?}");
            }
            if done {
                break;
            }
        }
        ended.store(true, Ordering::Relaxed);
        kills
    });
    let (epochs, snapshots) = (committed(dir), snapshots(dir));
    let mut ids: Vec<u64> = epochs.values().flatten().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..(FILES * ROWS) as u64).collect::<Vec<_>>());
    // Every row of an epoch, and of those that look at the same snapshot, meets the table of one moment.
    let mut names: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for (epoch, rows) in &epochs {
        let (_, snapshot) = snapshots.range(..=epoch).next_back().expect("a snapshot");
        let of = names.entry(*snapshot).or_default();
        of.extend(rows.iter().map(|(_, name)| name.as_str()));
    }
    let mut before = None;
    for (snapshot, of) in &names {
        assert_eq!(of.len(), 1, "snapshot {snapshot}: {of:?}");
        let version: u64 = of.iter().flat_map(|name| name[1..].parse::<u64>()).sum();
        assert!(
            Some(version) > before,
            "snapshot {snapshot}: v{version} after v{before:?}"
        );
        before = Some(version);
    }
    let numbers: Vec<u64> = snapshots.values().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    eprintln!(
        "{layouts:?}, {trigger}: {kills} kills, {} epochs with rows, {} snapshots, of which {} met rows",
        epochs.len(),
        numbers.len(),
        names.len()
    );
    assert!(names.len() > 2, "the table did not change: {names:?}");
}

#[test]
fn one_process() {
    killed(&[(1, 2)], "5 ms");
}

#[test]
fn two_processes() {
    killed(&[(2, 1)], "5 ms");
}

#[test]
fn a_continuous_query() {
    killed(&[(1, 2)], "continuous 20 ms");
}

#[test]
fn other_processes_and_workers_each_time() {
    killed(&[(2, 1), (1, 1), (1, 3), (2, 2)], "5 ms");
}
