//! The load and the stop-watch of `benches/latency/run.sh`: sends records to topics at a steady rate, reads what a query
//! makes of them, and tells how long that took by the broker's one clock.
//!
//! Both topics stamp records as they are appended. The query copies the stamp of the record that it read (`ts`,
//! milliseconds) into what it writes, so the latency of a record is the difference of two stamps. Records of a transaction
//! are seen later than they are appended: with `read_committed` it ends when the record is read, by this machine's clock,
//! which has to be the broker's.
//!
//! `latency SERVERS INPUT[,INPUT] OUTPUT RATE WARM_UP SECONDS read_uncommitted|read_committed`
//!
//! `latency echo SERVERS INPUT OUTPUT LINGER` is what there is to compare with: the same client library, which writes what
//! it reads, with nothing between.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

/// Keys that records have.
const KEYS: u64 = 10_000;

/// Partitions of every topic.
const PARTITIONS: i32 = 2;

/// Records leave in bursts this far apart.
const TICK: Duration = Duration::from_millis(2);

struct Args {
    servers: String,
    inputs: Vec<String>,
    output: String,
    rate: u64,
    warm_up: Duration,
    measured: Duration,
    isolation: String,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [echo, servers, input, output, linger] = &args[..]
        && echo == "echo"
    {
        copy(servers, input, output, linger);
    }
    let [servers, inputs, output, rate, warm_up, seconds, isolation] = &args[..] else {
        // `cargo test --benches` and the like have nothing to measure.
        eprintln!(
            "latency SERVERS INPUT[,INPUT] OUTPUT RATE WARM_UP SECONDS ISOLATION: see benches/latency/run.sh"
        );
        return ExitCode::SUCCESS;
    };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let args = Args {
        servers: servers.clone(),
        inputs: inputs.split(',').map(str::to_owned).collect(),
        output: output.clone(),
        rate: number(rate),
        warm_up: Duration::from_secs(number(warm_up)),
        measured: Duration::from_secs(number(seconds)),
        isolation: isolation.clone(),
    };
    let over = Arc::new(AtomicBool::new(false));
    let reader = {
        let consumer = consumer(&args.servers, &args.output, &args.isolation);
        let committed = args.isolation == "read_committed";
        let (over, args) = (Arc::clone(&over), (args.warm_up, args.measured));
        std::thread::spawn(move || measure(&consumer, committed, &over, args))
    };
    let sent = produce(&args);
    // What is under way may come.
    std::thread::sleep(Duration::from_secs(3));
    over.store(true, Ordering::SeqCst);
    let (mut all, thirds) = reader.join().expect("the reader ends");
    all.sort_unstable();
    let at = |part: f64| {
        all.get((all.len() as f64 * part) as usize)
            .copied()
            .unwrap_or(-1)
    };
    // Stamps are whole milliseconds: the mean shows what the median hides.
    let mean = all.iter().sum::<i64>() as f64 / all.len().max(1) as f64;
    println!(
        "{{\"sent\":{sent},\"measured\":{},\"mean\":{mean:.2},\"p50\":{},\"p99\":{},\"p999\":{},\"max\":{},\"p99_by_third\":{thirds:?}}}",
        all.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        all.last().copied().unwrap_or(-1)
    );
    ExitCode::SUCCESS
}

/// Writes the records of a topic to another with their stamps, until it is killed.
fn copy(servers: &str, input: &str, output: &str, linger: &str) -> ! {
    let consumer = consumer(servers, input, "read_committed");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("linger.ms", linger)
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.expect("a record");
            let appended = message.timestamp().to_millis().expect("a stamp");
            let value = format!("{{\"ts\":{appended}}}");
            let record = BaseRecord::to(output)
                .key(message.key().unwrap_or_default())
                .payload(&value);
            producer.send(record).expect("room");
        }
        producer.poll(Duration::ZERO);
    }
}

/// Takes in what the library has to tell, which it does one thing at a time; untold, it takes room from what is sent.
fn hear(producer: &BaseProducer) {
    for _ in 0..32 {
        producer.poll(Duration::ZERO);
    }
}

/// Sends records to all inputs in turn until the time is over: how many.
fn produce(args: &Args) -> u64 {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &args.servers)
        // A burst is a request for each partition, not one for each record.
        .set("linger.ms", "1")
        // A broker that is still being compiled takes them later.
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .expect("a producer");
    let began = Instant::now();
    let (mut sent, mut failed) = (0_u64, 0_u64);
    while began.elapsed() < args.warm_up + args.measured {
        let due = (began.elapsed().as_secs_f64() * args.rate as f64) as u64;
        while sent < due {
            let id = sent / args.inputs.len() as u64;
            let key = format!("user-{}", id.wrapping_mul(2_654_435_761) % KEYS);
            let value = format!(
                r#"{{"id":{id},"key":"{key}","kind":"{}","amount":{}.25,"page":"/products/{}/details","at":"{}"}}"#,
                ["view", "click", "cart", "purchase"][(id % 4) as usize],
                id % 500,
                id % 1000,
                chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            );
            let topic = &args.inputs[(sent % args.inputs.len() as u64) as usize];
            let record = BaseRecord::to(topic)
                .key(&key)
                .payload(&value)
                .partition((id % PARTITIONS as u64) as i32);
            failed += u64::from(producer.send(record).is_err());
            sent += 1;
        }
        hear(&producer);
        std::thread::sleep(TICK);
    }
    producer
        .flush(Duration::from_secs(10))
        .expect("all is sent");
    assert_eq!(failed, 0, "records that could not be sent");
    sent
}

/// A reader of all partitions of a topic, from their ends on.
fn consumer(servers: &str, topic: &str, isolation: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "latency")
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions
            .add_partition_offset(topic, partition, Offset::End)
            .expect("a partition");
    }
    consumer.assign(&partitions).expect("assigned");
    consumer
}

/// The latencies after the warm-up in milliseconds, and the 99th percentiles of each third of the time.
fn measure(
    consumer: &BaseConsumer,
    committed: bool,
    over: &AtomicBool,
    (warm_up, measured): (Duration, Duration),
) -> (Vec<i64>, Vec<i64>) {
    let began = Instant::now();
    let mut all = vec![];
    let mut thirds = vec![vec![]; 3];
    while !over.load(Ordering::SeqCst) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.expect("a record");
        let since = began.elapsed();
        if since < warm_up {
            continue;
        }
        let there = if committed {
            chrono::Utc::now().timestamp_millis()
        } else {
            message.timestamp().to_millis().expect("a stamp")
        };
        let value: Value =
            serde_json::from_slice(message.payload().expect("a value")).expect("JSON");
        let latency = there - value["ts"].as_i64().expect("the stamp of what was read");
        all.push(latency);
        let third =
            (since.saturating_sub(warm_up).as_secs_f64() / measured.as_secs_f64() * 3.0) as usize;
        thirds[third.min(2)].push(latency);
    }
    let ninety_ninth = |mut part: Vec<i64>| {
        part.sort_unstable();
        part.get(part.len() * 99 / 100).copied().unwrap_or(-1)
    };
    (all, thirds.into_iter().map(ninety_ninth).collect())
}
