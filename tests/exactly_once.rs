//! The built command on files: each mode and trigger, restarts with new files, and kill -9 at any
//! moment. Whatever stops it, the sink holds what a run without the stop would have written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark_connectors::sinks::file::manifest::committed_files;

/// Writes `count` files of events, a minute of event time each, a little out of order.
fn write_input(dir: &Path, files: std::ops::Range<usize>, rows: usize) {
    fs::create_dir_all(dir).unwrap();
    for file in files {
        let mut random = StdRng::seed_from_u64(file as u64);
        let mut text = String::new();
        for row in 0..rows {
            let second = file * 60 + row * 60 / rows;
            let second = second.saturating_sub(random.random_range(0..20));
            text.push_str(&format!(
                "{{\"id\":{},\"kind\":\"k{}\",\"amount\":{},\"ts\":\"2026-01-01T{:02}:{:02}:{:02}.{:03}Z\"}}\n",
                file * rows + row,
                random.random_range(0..7),
                f64::from(random.random_range(0..4000)) / 4.0,
                second / 3600,
                second / 60 % 60,
                second % 60,
                random.random_range(0..1000),
            ));
        }
        // A reader never sees half a file: it is written beside and renamed.
        let hidden = dir.join(format!("_{file:05}"));
        fs::write(&hidden, text).unwrap();
        fs::rename(&hidden, dir.join(format!("{file:05}.json"))).unwrap();
    }
}

struct Case {
    mode: &'static str,
    format: &'static str,
    query: &'static str,
}

const WINDOWED: &str =
    "SELECT window.start AS ws, kind, count(*) AS n, sum(amount) AS s, min(id) AS first
    FROM events GROUP BY window(ts, '2 minutes'), kind";
const DISTINCT: &str = "SELECT kind, count(*) AS n, count(DISTINCT id) AS d, sum(amount) AS s FROM events GROUP BY kind";
const STATELESS: &str = "SELECT id, kind, amount * 2 AS twice FROM events WHERE amount > 100";
const NESTED: &str = "SELECT n, count(*) AS kinds, max(kind) AS k FROM
    (SELECT kind, count(*) AS n FROM events GROUP BY kind) GROUP BY n";

const SESSIONS: &str = "SELECT session_window.start AS s, session_window.end AS e, kind, count(*) AS n, sum(amount) AS a
    FROM events GROUP BY session_window(ts, '3 seconds'), kind";
const ROWS_OF_SESSIONS: &str =
    "SELECT session_window.start AS s, session_window.end AS e, kind, count(DISTINCT id) AS n
    FROM events GROUP BY session_window(ts, '3 seconds'), kind";

const CASES: &[Case] = &[
    Case {
        mode: "append",
        format: "json",
        query: WINDOWED,
    },
    Case {
        mode: "append",
        format: "parquet",
        query: STATELESS,
    },
    Case {
        mode: "update",
        format: "json",
        query: WINDOWED,
    },
    Case {
        mode: "changelog",
        format: "csv",
        query: NESTED,
    },
    Case {
        mode: "complete",
        format: "json",
        query: DISTINCT,
    },
    Case {
        mode: "append",
        format: "json",
        query: SESSIONS,
    },
    Case {
        mode: "changelog",
        format: "json",
        query: ROWS_OF_SESSIONS,
    },
];

fn start(script: &Path, workers: usize) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tidemark"))
        .args(["run", "--progress", "none", "-w", &workers.to_string()])
        .arg(script)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(script: &Path, workers: usize) {
    let output = start(script, workers).wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn script(&self, case: &Case, trigger: &str) -> PathBuf {
        let script = format!(
            "CREATE TABLE events (id BIGINT, kind STRING, amount DOUBLE, ts TIMESTAMP,
               WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
             WITH ('connector' = 'file', 'path' = '{}', 'format' = 'json', 'maxFilesPerTrigger' = '2');
             CREATE TABLE out WITH ('connector' = 'file', 'path' = '{}', 'format' = '{}', 'header' = 'true',
               'outputMode' = '{}', 'trigger' = '{trigger}', 'checkpointLocation' = '{}');
             INSERT INTO out {};",
            self.path("in").display(),
            self.path("out").display(),
            case.format,
            case.mode,
            self.path("checkpoint").display(),
            case.query,
        );
        let script = if case.format == "csv" {
            script
        } else {
            script.replace("'header' = 'true',", "")
        };
        let path = self.path("query.sql");
        fs::write(&path, script).unwrap();
        path
    }

    /// What a reader of the manifest sees: rows with how often each is there.
    fn rows(&self, format: &str) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for file in committed_files(&self.path("out"))
            .unwrap()
            .expect("the sink keeps a manifest")
        {
            for row in read(&file, format) {
                *rows.entry(row).or_insert(0) += 1;
            }
        }
        rows
    }

    /// Every data file that a plain reader of the directory would see.
    fn visible(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path("out"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                !name.starts_with('_') && !name.starts_with('.')
            })
            .collect();
        files.sort();
        files
    }
}

fn read(file: &Path, format: &str) -> Vec<String> {
    if format == "parquet" {
        let file = fs::File::open(file).unwrap();
        let reader =
            parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let mut rows = vec![];
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                let cells: Vec<String> = batch
                    .columns()
                    .iter()
                    .map(|column| arrow::util::display::array_value_to_string(column, row).unwrap())
                    .collect();
                rows.push(cells.join("|"));
            }
        }
        return rows;
    }
    let skip = usize::from(format == "csv");
    fs::read_to_string(file)
        .unwrap()
        .lines()
        .skip(skip)
        .map(str::to_owned)
        .collect()
}

/// What a run that nothing stops writes.
fn uninterrupted(case: &Case, files: usize, rows: usize) -> (BTreeMap<String, usize>, Place) {
    let place = Place::new();
    write_input(&place.path("in"), 0..files, rows);
    run(&place.script(case, "available-now"), 2);
    (place.rows(case.format), place)
}

#[test]
fn every_mode_and_format_on_any_number_of_workers() {
    for case in CASES {
        let (wanted, place) = uninterrupted(case, 6, 200);
        assert!(!wanted.is_empty(), "{} wrote nothing", case.mode);
        let mut committed = committed_files(&place.path("out")).unwrap().unwrap();
        committed.sort();
        assert_eq!(
            committed,
            place.visible(),
            "{}: a plain reader sees what is committed",
            case.mode
        );
        for workers in [1, 4] {
            let other = Place::new();
            write_input(&other.path("in"), 0..6, 200);
            run(&other.script(case, "available-now"), workers);
            assert_eq!(
                other.rows(case.format),
                wanted,
                "{}, {workers} workers",
                case.mode
            );
        }
    }
}

#[test]
fn a_restart_reads_new_files_once() {
    for case in CASES {
        let (wanted, _place) = uninterrupted(case, 6, 100);
        let place = Place::new();
        let script = place.script(case, "available-now");
        for (files, workers) in [(0..2, 1), (2..4, 3), (4..6, 2)] {
            write_input(&place.path("in"), files, 100);
            run(&script, workers);
        }
        run(&script, 1);
        if case.mode == "update" {
            // Between the runs epochs without data ran, so a group may have been told of at another
            // cut; the last state of each group is the same.
            let last = |rows: BTreeMap<String, usize>| -> BTreeMap<String, String> {
                let mut by_epoch: Vec<(u64, String, String)> = rows
                    .keys()
                    .map(|row| {
                        let row: serde_json::Value = serde_json::from_str(row).unwrap();
                        let key = format!("{} {}", row["ws"], row["kind"]);
                        let epoch = row["_epoch"].as_u64().unwrap();
                        (
                            epoch,
                            key,
                            format!("{} {} {}", row["n"], row["s"], row["first"]),
                        )
                    })
                    .collect();
                by_epoch.sort();
                by_epoch
                    .into_iter()
                    .map(|(_, key, row)| (key, row))
                    .collect()
            };
            assert_eq!(last(place.rows(case.format)), last(wanted), "update");
        } else if case.mode != "changelog" {
            assert_eq!(place.rows(case.format), wanted, "{}", case.mode);
        }
    }
}

/// Kills the command again and again at random moments, then lets it finish.
fn kill_and_finish(case: &Case, kills: usize, seed: u64) {
    let (files, rows) = (24, 300);
    let (wanted, _place) = uninterrupted(case, files, rows);
    let place = Place::new();
    write_input(&place.path("in"), 0..files, rows);
    let script = place.script(case, "available-now");
    let mut random = StdRng::seed_from_u64(seed);
    for kill in 0..kills {
        let workers = if kill % 3 == 2 {
            random.random_range(1..=4)
        } else {
            2
        };
        let mut child = start(&script, workers);
        std::thread::sleep(Duration::from_millis(random.random_range(20..900)));
        // Its id is ours: the child has not been waited for.
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || output.status.code().is_none(),
            "kill {kill}: {said}"
        );
    }
    run(&script, 2);
    assert_eq!(
        place.rows(case.format),
        wanted,
        "{} after {kills} kills, seed {seed}",
        case.mode
    );
    let mut committed = committed_files(&place.path("out")).unwrap().unwrap();
    committed.sort();
    assert_eq!(
        committed,
        place.visible(),
        "{}: nothing is left over that a reader would count",
        case.mode
    );
}

#[test]
fn a_log_that_forgets_old_files_still_knows_the_newer_ones() {
    const DAY: Duration = Duration::from_hours(24);
    let case = &CASES[1];
    let (wanted, _place) = uninterrupted(case, 24, 10);
    let place = Place::new();
    let script = place.script(case, "available-now");
    let short = fs::read_to_string(&script).unwrap().replace(
        "'format' = 'json',",
        "'format' = 'json', 'maxFileAge' = '10 days',",
    );
    fs::write(&script, short).unwrap();
    write_input(&place.path("in"), 0..24, 10);
    for file in 0..24 {
        let path = place.path("in").join(format!("{file:05}.json"));
        let written = SystemTime::now() - DAY * (30 - file);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(written).unwrap();
    }
    for _ in 0..3 {
        run(&script, 2);
    }
    assert_eq!(place.rows(case.format), wanted);
}

#[test]
fn kill_9_in_append_mode() {
    kill_and_finish(&CASES[0], 8, 1);
}

#[test]
fn kill_9_of_a_stateless_query() {
    kill_and_finish(&CASES[1], 8, 2);
}

#[test]
fn kill_9_in_update_mode() {
    kill_and_finish(&CASES[2], 8, 3);
}

#[test]
fn kill_9_of_a_nested_aggregate() {
    kill_and_finish(&CASES[3], 8, 4);
}

#[test]
fn kill_9_in_complete_mode() {
    kill_and_finish(&CASES[4], 8, 5);
}

#[test]
fn kill_9_of_sessions() {
    kill_and_finish(&CASES[5], 4, 6);
    kill_and_finish(&CASES[6], 4, 7);
}

#[test]
fn new_files_are_picked_up_while_it_runs_and_sigterm_commits() {
    let case = &CASES[0];
    let (wanted, _place) = uninterrupted(case, 6, 100);
    let place = Place::new();
    write_input(&place.path("in"), 0..2, 100);
    let script = place.script(case, "200 ms");
    let child = start(&script, 2);
    for files in [2..3, 3..6] {
        std::thread::sleep(Duration::from_millis(1500));
        write_input(&place.path("in"), files, 100);
    }
    let mut waited = 0;
    while waited < 300
        && !(place.path("out").join("_tidemark").exists() && place.rows(case.format) == wanted)
    {
        std::thread::sleep(Duration::from_millis(100));
        waited += 1;
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(place.rows(case.format), wanted);
}
