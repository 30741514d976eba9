//! Kafka to Kafka, nothing lost and nothing twice: the command is killed with kill -9 at random
//! moments while records with ids come, and a reader of what is committed finds each id once.
//!
//! `TIDEMARK_KAFKA_KILLS` asks for five minutes of it instead of some seconds: `engine` kills the
//! command alone, `broker` the one broker as well, `nodes` one of three brokers in turn. Then
//! `once.py` looks at the topic too, with another client library. `TIDEMARK_SEED` repeats the moments
//! as far as the machine does, and `TIDEMARK_COMMAND` names another command, such as a release build.
//!
//! `TIDEMARK_KAFKA_KILLS=nodes cargo test --test kafka_queries kills -- --nocapture`

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::broker::{Cluster, cluster, config, consume};
use crate::{PATIENCE, kill, run, said, start};

/// Records a second.
const RATE: f64 = 2000.0;
const SHORT: Duration = Duration::from_secs(12);
const LONG: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The command alone.
    Engine,
    /// The one broker as well.
    Broker,
    /// One of three brokers in turn as well.
    Nodes,
}

/// Sends records with ids from 0 on until it is told to stop; how many.
pub(crate) fn feed(servers: &str, topic: &str, stop: &AtomicBool) -> u64 {
    let producer: BaseProducer = config(servers)
        .set("enable.idempotence", "true")
        // While the only broker is away.
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .expect("a producer");
    let began = Instant::now();
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * RATE) as u64;
        for id in next..due {
            let text = format!("{{\"id\":{id}}}");
            let record = BaseRecord::<str, str>::to(topic).payload(&text);
            producer
                .send(record.partition((id % 2) as i32))
                .map_err(|(error, _)| error)
                .expect("room");
        }
        next = due;
        producer.poll(Duration::from_millis(5));
    }
    producer.flush(PATIENCE).expect("delivered");
    next
}

/// Kills brokers and starts them again until it is told to stop; how often.
fn harm(cluster: &Cluster, victim: Victim, seed: u64, stop: &AtomicBool) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let nodes = match victim {
        Victim::Engine => return 0,
        Victim::Broker => 1,
        Victim::Nodes => 3,
    };
    let mut kills = 0;
    loop {
        let next = Instant::now() + Duration::from_millis(random.random_range(3000..10_000));
        while Instant::now() < next {
            if stop.load(Ordering::Relaxed) {
                return kills;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let node = (kills % nodes) as usize;
        cluster.kill(node);
        std::thread::sleep(Duration::from_millis(random.random_range(0..3000)));
        cluster.resume(node);
        cluster.await_ready();
        kills += 1;
    }
}

/// The script, as it runs on (`on.sql`) and up to what there is (`end.sql`).
fn write_scripts(dir: &Path, servers: &str) {
    let end = ", 'trigger' = 'available-now'";
    for (name, trigger) in [("on.sql", ""), ("end.sql", end)] {
        let script = format!(
            "CREATE TABLE i (id BIGINT) WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}',
               'subscribe' = 'in', 'startingOffsets' = 'earliest', 'format' = 'json');
             CREATE TABLE o WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'topic' = 'out',
               'format' = 'json', 'keyColumns' = 'id', 'checkpointLocation' = 'ckpt'{trigger});
             INSERT INTO o SELECT id FROM i;"
        );
        fs::write(dir.join(name), script).expect("written");
    }
}

#[test]
fn every_record_is_there_once_whatever_is_killed() {
    let asked = std::env::var("TIDEMARK_KAFKA_KILLS").ok();
    let victim = match asked.as_deref() {
        None | Some("engine") => Victim::Engine,
        Some("broker") => Victim::Broker,
        Some("nodes") => Victim::Nodes,
        Some(other) => panic!("TIDEMARK_KAFKA_KILLS is engine, broker or nodes, not {other}"),
    };
    let nodes = if victim == Victim::Nodes { 3 } else { 1 };
    let Some(cluster) = cluster(nodes) else {
        return;
    };
    let span = if asked.is_some() { LONG } else { SHORT };
    let seed = std::env::var("TIDEMARK_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let dir = tempfile::tempdir().expect("a directory");
    cluster.create_topic("in", 2, &[]);
    cluster.create_topic("out", 2, &[]);
    let servers = cluster.servers();
    write_scripts(dir.path(), &servers);

    let mut random = StdRng::seed_from_u64(seed);
    let stop = AtomicBool::new(false);
    let mut kills = 0;
    let (sent, broker_kills) = std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed(&servers, "in", &stop));
        let harming = scope.spawn(|| harm(&cluster, victim, seed, &stop));
        let began = Instant::now();
        while began.elapsed() < span && !feeding.is_finished() {
            let running = start(
                dir.path(),
                &["run", "on.sql", "-w", "2", "--progress", "none"],
            );
            std::thread::sleep(Duration::from_millis(random.random_range(200..6000)));
            kill(running);
            kills += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let broker_kills = harming.join().expect("brokers that come back");
        (feeding.join().expect("a feeder"), broker_kills)
    });
    let before = consume(&servers, "out").len();
    let (ended, words) = run(
        dir.path(),
        &["run", "end.sql", "-w", "2", "--progress", "none"],
    );
    assert!(ended, "seed {seed}: {words}");

    let mut found: HashMap<String, u64> = HashMap::new();
    for (_, value) in consume(&servers, "out") {
        *found.entry(value.unwrap_or_default()).or_default() += 1;
    }
    let twice = found.values().filter(|count| **count > 1).count();
    assert_eq!(
        (found.len() as u64, twice),
        (sent, 0),
        "ids, ids that are there twice (seed {seed}); the command said: {}",
        said(dir.path())
    );
    println!(
        "{kills} kills of the command, {broker_kills} of brokers; {sent} ids, {before} of them before the last run: each is there once"
    );
    if asked.is_some() {
        outside(&servers, sent);
    }
}

/// The same by another client library.
fn outside(servers: &str, sent: u64) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka_queries/once.py");
    let done = Command::new("python3")
        .arg(script)
        .args([servers, "out", &sent.to_string()])
        .output()
        .expect("python3 runs");
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{words}{errors}");
    print!("{words}");
}
