//! A burst from topics before a sink that stops for a while: memory stays small, nothing is lost, and a user need not
//! wait for brokers that are away.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::broker::{Cluster, await_that, cluster, consume, produce_values, secure};
use crate::memory::{Tap, memory};
use crate::{kill, run, said, start};

/// The records that come before the burst, and those of the burst: a hundred times as many.
const FEW: i64 = 2_000;
const BURST: i64 = 200_000;
/// How much more memory it may cost, in bytes, however long it is: the client's buffers and two epochs.
const ROOM: u64 = 130 << 20;

/// Numbers from `first` on, each in a record of a kilobyte, over both partitions of a topic.
fn send(servers: &str, topic: &str, first: i64, count: i64) {
    let text = "x".repeat(1_000);
    for from in (first..first + count).step_by(20_000) {
        let until = (from + 20_000).min(first + count);
        let values: Vec<String> = (from..until).map(|id| format!("{id:09} {text}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let (odd, even) = values.split_at(values.len() / 2);
        produce_values(servers, topic, 0, odd);
        produce_values(servers, topic, 1, even);
    }
}

/// Small fetches: what waits in the client is not what is tested.
fn events(servers: &str, topic: &str) -> String {
    format!(
        "CREATE TABLE events WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'subscribe' = '{topic}',
           'startingOffsets' = 'earliest', 'maxBytesPerTrigger' = '8mb', 'kafka.queued.max.messages.kbytes' = '4096');"
    )
}

/// What the query says that it is doing.
fn doing(dir: &Path) -> String {
    let said = said(dir);
    let url = said.lines().find_map(|line| line.strip_prefix("http: "));
    let Some(url) = url else { return String::new() };
    let (_, told) = run(dir, &["why", url]);
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_burst_waits_in_its_topic_while_nobody_reads_the_console() {
    let Some(cluster) = secure() else {
        return;
    };
    let servers = cluster.servers();
    // Longer ones cost no more.
    let burst = std::env::var("TIDEMARK_BURST").ok();
    let burst: i64 = burst.map_or(BURST, |text| text.parse().expect("a number"));
    for (topic, trigger) in [
        ("burst-batches", "0 seconds"),
        ("burst-continuous", "continuous 200 milliseconds"),
    ] {
        cluster.create_topic(topic, 2, &[]);
        send(&servers, topic, 0, FEW);
        let place = tempfile::tempdir().expect("a directory");
        let dir = place.path();
        let script = format!(
            "{} CREATE TABLE copy WITH ('connector' = 'console', 'numRows' = '10000000', 'trigger' = '{trigger}');
             INSERT INTO copy SELECT CAST(value AS STRING) AS value FROM events;",
            events(&servers, topic)
        );
        fs::write(dir.join("s.sql"), script).expect("written");
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"));
        let log = log.expect("a log");
        let mut running = Command::new(env!("CARGO_BIN_EXE_tidemark"))
            .args(["run", "s.sql", "--http", "0", "--progress", "json"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the command starts");
        let tap = Tap::on(running.stdout.take().expect("piped"));
        let shown = || tap.numbers().len() as i64;
        await_that("the first records", || shown() == FEW);
        let small = memory(running.id());

        tap.close(true);
        send(&servers, topic, FEW, burst);
        await_that("a word of the sink", || {
            doing(dir).contains("The query waits for the sink copy, which has not answered for ")
        });
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            let now = memory(running.id());
            assert!(now.now < small.now + ROOM, "{small:?}, then {now:?}");
            sleep(Duration::from_millis(100));
        }
        tap.close(false);
        await_that("all records", || shown() >= FEW + burst);
        let large = memory(running.id());
        let signalled = Command::new("kill")
            .args(["-INT", &running.id().to_string()])
            .status();
        assert!(signalled.is_ok_and(|status| status.success()));
        assert!(running.wait().expect("a child").success(), "{}", said(dir));
        let mut numbers = tap.numbers();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..FEW + burst), "{trigger}");
        assert!(said(dir).contains("\"heldBy\":\"sink copy\""), "{trigger}");
        eprintln!("{trigger}: {small:?}, then {large:?}");
        assert!(large.most < small.now + ROOM, "{small:?}, then {large:?}");
    }
}

/// Stops the only node of a cluster, or has it go on.
fn stop(cluster: &Cluster, signal: &str) {
    let properties = cluster.path("node0.properties").display().to_string();
    let is_node = |pid: &str| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        words.next().is_some_and(|name| name.ends_with(b"java"))
            && words.any(|word| word == properties.as_bytes())
    };
    let all = fs::read_dir("/proc").expect("processes");
    let names = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let nodes: Vec<String> = names
        .filter(|name| name.parse::<u32>().is_ok() && is_node(name))
        .collect();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    let sent = Command::new("kill").args([signal, &nodes[0]]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

fn ends(mut child: Child, within: Duration) {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            assert!(status.success(), "{status:?}");
            return;
        }
        if began.elapsed() > within {
            kill(child);
            panic!("it does not end within {within:?}");
        }
        sleep(Duration::from_millis(20));
    }
}

/// How often each number is in a topic.
fn numbers(servers: &str) -> HashMap<i64, u64> {
    let mut found = HashMap::new();
    for (_, value) in consume(servers, "copy") {
        let number = value
            .as_deref()
            .and_then(|value| value.get(..9)?.parse().ok());
        *found.entry(number.expect("a number")).or_default() += 1;
    }
    found
}

#[test]
fn brokers_that_stop_hold_the_query_and_not_whoever_ends_it() {
    let Some(from) = secure() else {
        return;
    };
    for (topic, trigger, guarantee) in [
        ("stop-batches", "0 seconds", "exactly-once"),
        ("stop-ticks", "continuous 200 milliseconds", "at-least-once"),
        (
            "stop-commits",
            "continuous 200 milliseconds",
            "exactly-once",
        ),
    ] {
        let Some(to) = cluster(1) else {
            return;
        };
        let servers = from.servers();
        from.create_topic(topic, 2, &[]);
        to.create_topic("copy", 2, &[]);
        let place = tempfile::tempdir().expect("a directory");
        let dir = place.path();
        for (name, trigger) in [("s.sql", trigger), ("end.sql", "available-now")] {
            let script = format!(
                "{} CREATE TABLE copy WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{}', 'topic' = 'copy',
                   'deliveryGuarantee' = '{guarantee}', 'kafka.queue.buffering.max.kbytes' = '8192',
                   'checkpointLocation' = 'ckpt', 'stopTimeout' = '2 seconds', 'trigger' = '{trigger}');
                 INSERT INTO copy SELECT value FROM events;",
                events(&servers, topic),
                to.servers()
            );
            fs::write(dir.join(name), script).expect("written");
        }
        let few = 500;
        send(&servers, topic, 0, few);
        let child = start(dir, &["run", "s.sql", "--http", "0"]);
        await_that("the first records", || {
            numbers(&to.servers()).len() as i64 == few
        });
        let small = memory(child.id());

        stop(&to, "-STOP");
        let burst = BURST / 2;
        send(&servers, topic, few, burst);
        await_that("a word of the sink", || {
            doing(dir).contains("The query waits for the sink copy, which has not answered for ")
        });
        // For a while nothing more is read.
        sleep(Duration::from_secs(3));
        stop(&to, "-CONT");
        await_that("all records", || {
            numbers(&to.servers()).len() as i64 == few + burst
        });
        let large = memory(child.id());

        // Away for good, as far as whoever stops the query knows.
        stop(&to, "-STOP");
        send(&servers, topic, few + burst, few);
        await_that("a word of the sink", || {
            doing(dir).contains("The query waits for the sink copy, which has not answered for ")
        });
        let signalled = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(signalled.is_ok_and(|status| status.success()));
        ends(child, Duration::from_secs(12));
        let words = said(dir);
        assert!(
            words.contains("query 'copy': the sink copy has not answered for ")
                && words.contains("the next start on its checkpoint reads again"),
            "{words}"
        );
        stop(&to, "-CONT");
        to.await_ready();
        let (ended, words) = run(dir, &["run", "end.sql"]);
        assert!(ended, "{words}");

        let found = numbers(&to.servers());
        let all = few + burst + few;
        assert_eq!(found.len() as i64, all, "{trigger}, {guarantee}");
        if guarantee == "exactly-once" {
            let twice = found.values().filter(|times| **times > 1).count();
            assert_eq!(twice, 0, "{trigger}");
        }
        eprintln!("{trigger}, {guarantee}: {small:?}, then {large:?}");
        assert!(large.most < small.now + ROOM, "{small:?}, then {large:?}");
    }
}
