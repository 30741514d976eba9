//! Continuous queries from topics to topics: followed partitions, other triggers on the same checkpoint, kill -9.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::broker::{Cluster, await_that, consume, produce_values, secure};
use crate::kills::feed;
use crate::{kill, run, said, start};

/// How long the command is killed again and again.
const SPAN: Duration = Duration::from_secs(15);

/// Writes a script for each trigger: `continuous.sql`, `batches.sql`, and `end.sql`, which ends.
fn write_scripts(dir: &Path, cluster: &Cluster, sink: &str, query: &str) {
    let servers = cluster.servers();
    let triggers = [
        (
            "continuous.sql",
            ", 'trigger' = 'continuous 300 milliseconds'",
        ),
        ("batches.sql", ", 'trigger' = '100 milliseconds'"),
        ("end.sql", ", 'trigger' = 'available-now'"),
    ];
    for (name, trigger) in triggers {
        let script = format!(
            "CREATE TABLE i (id BIGINT) WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}',
               'subscribe' = '{sink}-in', 'startingOffsets' = 'earliest', 'format' = 'json');
             CREATE TABLE o WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'topic' = '{sink}-out',
               'format' = 'json', 'checkpointLocation' = 'ckpt'{trigger}, {query};"
        );
        fs::write(dir.join(name), script).expect("written");
    }
}

fn json(values: Vec<(Option<String>, Option<String>)>) -> Vec<Value> {
    let values = values.into_iter().filter_map(|(_, value)| value);
    values
        .map(|value| serde_json::from_str(&value).expect("JSON"))
        .collect()
}

/// The greatest count of each key.
fn counts(cluster: &Cluster, topic: &str) -> BTreeMap<i64, i64> {
    let mut counts = BTreeMap::new();
    for row in json(consume(&cluster.servers(), topic)) {
        let (key, n) = (row["k"].as_i64().unwrap(), row["n"].as_i64().unwrap());
        let most = counts.entry(key).or_insert(n);
        *most = n.max(*most);
    }
    counts
}

#[test]
fn records_are_taken_in_as_they_arrive_from_partitions_old_and_new() {
    let Some(cluster) = secure() else {
        return;
    };
    cluster.create_topic("live-in", 2, &[]);
    cluster.create_topic("live-out", 1, &[]);
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    let query =
        "'keyColumns' = 'k', 'outputMode' = 'update', 'deliveryGuarantee' = 'at-least-once');
      INSERT INTO o SELECT id % 3 AS k, count(*) AS n FROM i GROUP BY id % 3";
    write_scripts(dir, cluster, "live", query);
    let servers = cluster.servers();
    produce_values(&servers, "live-in", 0, &[r#"{"id":0}"#, r#"{"id":1}"#]);
    let running = start(
        dir,
        &["run", "continuous.sql", "-w", "2", "--progress", "json"],
    );
    await_that("both are counted", || {
        counts(cluster, "live-out") == BTreeMap::from([(0, 1), (1, 1)])
    });
    produce_values(&servers, "live-in", 1, &[r#"{"id":3}"#]);
    await_that("the other partition is followed", || {
        counts(cluster, "live-out") == BTreeMap::from([(0, 2), (1, 1)])
    });
    cluster.add_partitions("live-in", 3);
    produce_values(&servers, "live-in", 2, &[r#"{"id":4}"#, r#"{"id":5}"#]);
    let all = BTreeMap::from([(0, 2), (1, 2), (2, 1)]);
    await_that("the new partition is followed", || {
        counts(cluster, "live-out") == all
    });
    // Only changed keys are written: a tick writes no key twice, and commits write nothing.
    assert!(consume(&servers, "live-out").len() <= 5);
    await_that("the latency is told", || {
        said(dir).contains("\"latencyMs\":{\"p50\"")
    });
    kill(running);
    let (ended, words) = run(dir, &["run", "end.sql", "--progress", "none"]);
    assert!(ended, "{words}");
    assert_eq!(counts(cluster, "live-out"), all);
}

/// Kills runs with triggers in turn while records with ids come; how many came, once all are processed.
fn torment(dir: &Path, cluster: &Cluster, sink: &str) -> u64 {
    let servers = cluster.servers();
    let mut random = StdRng::seed_from_u64(11);
    let stop = AtomicBool::new(false);
    let input = format!("{sink}-in");
    let sent = std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed(&servers, &input, &stop));
        let began = Instant::now();
        while began.elapsed() < SPAN && !feeding.is_finished() {
            let script =
                ["continuous.sql", "continuous.sql", "batches.sql"][random.random_range(0..3)];
            let workers = ["1", "2"][random.random_range(0..2)];
            let running = start(dir, &["run", script, "-w", workers, "--progress", "none"]);
            std::thread::sleep(Duration::from_millis(random.random_range(300..4000)));
            kill(running);
        }
        stop.store(true, Ordering::Relaxed);
        feeding.join().expect("a feeder")
    });
    let (ended, words) = run(dir, &["run", "end.sql", "-w", "2", "--progress", "none"]);
    assert!(ended, "{words}");
    sent
}

#[test]
fn counts_are_exact_whatever_is_killed_and_whatever_the_trigger() {
    let Some(cluster) = secure() else {
        return;
    };
    cluster.create_topic("exact-in", 2, &[]);
    cluster.create_topic("exact-out", 2, &[]);
    let place = tempfile::tempdir().expect("a directory");
    let query =
        "'keyColumns' = 'k', 'outputMode' = 'update', 'deliveryGuarantee' = 'exactly-once');
      INSERT INTO o SELECT id % 20 AS k, count(*) AS n, sum(id) AS s FROM i GROUP BY id % 20";
    write_scripts(place.path(), cluster, "exact", query);
    let sent = torment(place.path(), cluster, "exact");
    let mut newest: HashMap<i64, (i64, i64)> = HashMap::new();
    let mut seen: HashMap<(i64, i64), u64> = HashMap::new();
    for row in json(consume(&cluster.servers(), "exact-out")) {
        let number = |name: &str| row[name].as_i64().expect("a number");
        let (k, n, s) = (number("k"), number("n"), number("s"));
        *seen.entry((k, n)).or_default() += 1;
        let last = newest.entry(k).or_insert((n, s));
        *last = (*last).max((n, s));
    }
    let sent = i64::try_from(sent).expect("few");
    for k in 0..20 {
        let ids = (0..sent).filter(|id| id % 20 == k);
        let wanted = (ids.clone().count() as i64, ids.sum::<i64>());
        assert_eq!(newest.get(&k), Some(&wanted), "key {k} of {sent} ids");
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "changes that are there twice: {twice:?}");
}

#[test]
fn nothing_is_lost_at_least_once() {
    let Some(cluster) = secure() else {
        return;
    };
    cluster.create_topic("least-in", 2, &[]);
    cluster.create_topic("least-out", 2, &[]);
    let place = tempfile::tempdir().expect("a directory");
    let query = "'keyColumns' = 'id', 'deliveryGuarantee' = 'at-least-once'); INSERT INTO o SELECT id FROM i";
    write_scripts(place.path(), cluster, "least", query);
    let sent = torment(place.path(), cluster, "least");
    let found: HashMap<i64, u64> = json(consume(&cluster.servers(), "least-out")).iter().fold(
        HashMap::new(),
        |mut all, row| {
            *all.entry(row["id"].as_i64().expect("an id")).or_default() += 1;
            all
        },
    );
    assert_eq!(found.len() as u64, sent);
}
