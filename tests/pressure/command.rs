//! The built command on files, before a console that nobody reads for a while and a directory that is gone for a
//! while: it says what holds it, reads no more, stays small, and catches up.

use std::fmt::Write as _;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::memory::{Tap, memory};
use crate::place::{LIMIT, Place, Running};

/// The rows of a file, each of a kilobyte.
const ROWS: i64 = 2_000;
/// The files of the burst: a hundred times as many bytes as were there before.
const BURST: i64 = 60;
/// How much more memory the burst may cost, in bytes: half of it. Two epochs of four megabytes are under way.
const ROOM: u64 = 60 << 20;

const TRIGGERS: [&str; 2] = ["0 seconds", "continuous 200 milliseconds"];

/// Rows from `first` on, under a name of their own.
fn file(place: &Place, first: i64, rows: i64) {
    let text = "x".repeat(1_000);
    let mut lines = String::new();
    for id in first..first + rows {
        let _ = writeln!(lines, "{{\"id\":{id},\"text\":\"{text}\"}}");
    }
    place.write(&format!("in/{first}.json"), &lines);
}

/// What was there before the burst, and the burst; how many rows there are then.
fn before(place: &Place) -> i64 {
    (0..3).for_each(|n| file(place, n * 400, 400));
    1_200
}

fn burst(place: &Place) -> i64 {
    let first = 1_200;
    (0..BURST).for_each(|n| file(place, first + n * ROWS, ROWS));
    first + BURST * ROWS
}

fn script(sink: &str, trigger: &str) -> String {
    format!(
        "CREATE TABLE events (id BIGINT, text STRING)
           WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxBytesPerTrigger' = '4mb');
         CREATE TABLE copy WITH ({sink}, 'trigger' = '{trigger}', 'checkpointLocation' = 'ckpt');
         INSERT INTO copy SELECT id, text FROM events;"
    )
}

fn status(running: &Running) -> String {
    let queries: Value = serde_json::from_str(&running.get("/queries").1).expect("JSON");
    let message = queries[0]["status"]["message"].as_str();
    message.expect("a status").to_owned()
}

fn read(running: &Running) -> u64 {
    let page = running.get("/metrics").1;
    let name = "tidemark_source_rows_total{query=\"copy\",source=\"events\",status=\"processed\"} ";
    let count = page.lines().find_map(|line| line.strip_prefix(name));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < LIMIT, "{what} never came");
        sleep(Duration::from_millis(20));
    }
}

/// What held the epochs that are remembered.
fn held(running: &Running) -> Vec<String> {
    let told: Value =
        serde_json::from_str(&running.get("/queries/copy/progress?recent").1).expect("JSON");
    let epochs = told.as_array().expect("a list").iter();
    let held = epochs.filter_map(|epoch| epoch["heldBy"].as_str());
    held.map(str::to_owned).collect()
}

#[test]
fn a_console_that_nobody_reads_holds_the_query_and_not_its_memory() {
    for trigger in TRIGGERS {
        let place = Place::new(&script(
            "'connector' = 'console', 'numRows' = '10000000'",
            trigger,
        ));
        let first = before(&place);
        let mut running = place.run(&["-w", "2"]);
        let tap = Tap::on(running.stdout());
        until("the first rows", || tap.numbers().len() as i64 == first);
        let small = memory(running.pid());

        tap.close(true);
        let all = burst(&place);
        until("a word of the sink", || {
            status(&running).starts_with("Waiting for the sink copy, which has not answered for ")
        });
        let why = running.get("/queries/copy/why").1;
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            why.contains("The query waits for the sink copy, which has not answered for "),
            "{why}"
        );
        // What is not written is not read.
        let halted = read(&running);
        sleep(Duration::from_secs(2));
        assert_eq!(read(&running), halted, "{trigger}");
        assert!((halted as i64) < first + 20 * ROWS, "{trigger}: {halted}");

        tap.close(false);
        until("all rows", || tap.numbers().len() as i64 >= all);
        let held = held(&running);
        assert!(held.iter().any(|part| part == "sink copy"), "{held:?}");
        let large = memory(running.pid());
        running.stop();
        let mut numbers = tap.numbers();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..all), "{trigger}");
        eprintln!("{trigger}: {small:?}, then {large:?}");
        assert!(large.most < small.now + ROOM, "{small:?}, then {large:?}");
    }
}

#[test]
fn a_directory_that_is_gone_for_a_while_costs_nothing_but_time() {
    for trigger in TRIGGERS {
        let retries = "'maxRetries' = '1000000', 'retryInterval' = '100 milliseconds'";
        let sink = format!("'connector' = 'file', 'path' = 'out', 'format' = 'json', {retries}");
        let place = Place::new(&script(&sink, trigger));
        let first = before(&place);
        let running = place.run(&["-w", "2"]);
        until("the first rows", || read(&running) as i64 == first);
        let small = memory(running.pid());

        let (out, away) = (place.path().join("out"), place.path().join("away"));
        fs::rename(&out, &away).expect("it is there");
        fs::write(&out, "in the way").expect("a file");
        let all = burst(&place);
        until("a retry", || {
            status(&running).starts_with("Waiting for retry ")
        });
        let tried = Instant::now();
        while tried.elapsed() < Duration::from_secs(3) {
            assert!(memory(running.pid()).now < small.now + ROOM);
            sleep(Duration::from_millis(50));
        }
        fs::remove_file(&out).expect("a file");
        fs::rename(&away, &out).expect("it is there");

        until("all rows", || read(&running) as i64 >= all);
        let large = memory(running.pid());
        running.stop();
        let mut numbers = vec![];
        for entry in fs::read_dir(&out).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let text = fs::read_to_string(path).expect("text");
                let rows = text
                    .lines()
                    .map(|line| -> Value { serde_json::from_str(line).expect("whole lines") });
                numbers.extend(rows.filter_map(|row| row["id"].as_i64()));
            }
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..all), "{trigger}");
        eprintln!("{trigger}: {small:?}, then {large:?}");
        assert!(large.most < small.now + ROOM, "{small:?}, then {large:?}");
    }
}
