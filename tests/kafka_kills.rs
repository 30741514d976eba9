//! Kafka to Kafka, nothing lost and nothing twice: the built command, killed with kill -9 at random
//! moments while records come, and a reader of committed records alone.
//!
//! `TIDEMARK_KILLS` says how often (3 without it), half of them a broker's as well where
//! `TIDEMARK_BROKER_KILLS` is set, and `TIDEMARK_SEED` repeats the moments as far as the machine does.

#[path = "../connectors/tests/kafka/broker.rs"]
#[expect(dead_code, reason = "the tests of the connectors use the rest")]
mod broker;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use broker::{Cluster, cluster, config, consume};

/// How long the last run may take to come to the end.
const PATIENCE: Duration = Duration::from_mins(2);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The command on the script, in a directory of its own.
fn start(dir: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .expect("a log");
    Command::new(env!("CARGO_BIN_EXE_tidemark"))
        .args(["run", "kills.sql", "-w", "2", "--progress", "none"])
        .current_dir(dir)
        .env(
            "KAFKA_SERVERS",
            fs::read_to_string(dir.join("servers")).expect("servers"),
        )
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("the command starts")
}

fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends records with ids from 0 on, some 2,000 a second, until it is told to stop.
fn feed(servers: &str, stop: &AtomicBool) -> u64 {
    let producer: BaseProducer = config(servers)
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    let mut id = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            let text = format!("{{\"id\":{id}}}");
            let record = BaseRecord::<str, str>::to("in").payload(&text);
            producer
                .send(record.partition((id % 2) as i32))
                .map_err(|(error, _)| error)
                .expect("room");
            id += 1;
        }
        producer.poll(Duration::from_millis(10));
    }
    producer.flush(PATIENCE).expect("delivered");
    id
}

/// How often each id is there.
fn ids(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for (_, value) in consume(&cluster.servers(), "out") {
        *found.entry(value.unwrap_or_default()).or_default() += 1;
    }
    found
}

#[test]
fn every_record_is_there_once_whatever_is_killed() {
    let Some(cluster) = cluster(1, false) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    cluster.create_topic("in", 2, &[]);
    cluster.create_topic("out", 2, &[]);
    fs::write(dir.path().join("servers"), cluster.servers()).expect("written");
    fs::write(
        dir.path().join("kills.sql"),
        "CREATE TABLE i (id BIGINT) WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '${ENV:KAFKA_SERVERS}',
           'subscribe' = 'in', 'startingOffsets' = 'earliest', 'format' = 'json');
         CREATE TABLE o WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '${FILE:servers}',
           'topic' = 'out', 'format' = 'json', 'keyColumns' = 'id', 'checkpointLocation' = 'ckpt');
         INSERT INTO o SELECT id FROM i;",
    )
    .expect("written");
    let seed = number("TIDEMARK_SEED").unwrap_or(7);
    let mut random = StdRng::seed_from_u64(seed);
    let kills = number("TIDEMARK_KILLS").unwrap_or(3);
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let servers = cluster.servers();
        let feeding = scope.spawn(|| feed(&servers, &stop));
        for round in 0..kills {
            let running = start(dir.path());
            std::thread::sleep(Duration::from_millis(random.random_range(200..6000)));
            if round % 2 == 1 && number("TIDEMARK_BROKER_KILLS").is_some() {
                cluster.kill(0);
                cluster.resume(0);
                cluster.await_ready();
                std::thread::sleep(Duration::from_millis(random.random_range(0..2000)));
            }
            kill(running);
        }
        stop.store(true, Ordering::Relaxed);
        feeding.join().expect("a feeder")
    });
    let last = start(dir.path());
    let began = Instant::now();
    let mut found = ids(&cluster);
    while (found.len() as u64) < sent && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
        found = ids(&cluster);
    }
    kill(last);
    let log = fs::read_to_string(dir.path().join("log")).expect("a log");
    let twice = found.values().filter(|count| **count > 1).count();
    assert_eq!(
        (found.len() as u64, twice),
        (sent, 0),
        "ids, ids that are there twice (seed {seed}); the command said: {log}"
    );
    println!("{kills} kills, {sent} ids");
}
