//! What happens to topics and brokers while they are read.

use std::time::{Duration, Instant};

use tidemark_connectors::{PlannedRange, ReadLimit, Result, Source};

use crate::broker::{Cluster, await_that, cluster, produce_values};
use crate::read::{open, plan, rows, rows_of};

const EARLIEST: (&str, &str) = ("startingOffsets", "earliest");
const GO_ON: (&str, &str) = ("failOnDataLoss", "false");

fn source(cluster: &Cluster, options: &[(&str, &str)]) -> Box<dyn Source> {
    open(&cluster.servers(), options, None).expect("a source")
}

/// Plans until there is an error.
fn failure(source: &mut dyn Source) -> String {
    let mut error = None;
    await_that("an error", || {
        error = source.plan(ReadLimit::default()).err();
        error.is_some()
    });
    error.map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_broker_that_restarts_is_waited_for() {
    let Some(cluster) = cluster(1) else {
        return;
    };
    cluster.create_topic("t", 1, &[]);
    let servers = cluster.servers();
    produce_values(&servers, "t", 0, &["a", "b"]);
    let mut source = source(&cluster, &[("subscribe", "t"), EARLIEST]);
    assert_eq!(rows(&mut *source, &[4], 2), ["0", "1"]);
    produce_values(&servers, "t", 0, &["c"]);
    let planned = plan(&mut *source).expect("a range");
    cluster.kill(0);
    // Nothing is new while it is away, and nothing is wrong.
    assert_eq!(source.plan(ReadLimit::default()).expect("patience"), None);
    cluster.resume(0);
    assert_eq!(rows_of(&*source, &planned, &[4]).expect("rows"), ["2"]);
    cluster.await_ready();
    produce_values(&servers, "t", 0, &["d"]);
    assert_eq!(rows(&mut *source, &[4], 1), ["3"]);

    // One that stays away is waited for as long as was asked for.
    let options = [
        ("subscribe", "t"),
        EARLIEST,
        ("kafkaConsumer.pollTimeoutMs", "5000"),
    ];
    let mut hasty = self::source(&cluster, &options);
    assert_eq!(rows(&mut *hasty, &[4], 4).len(), 4);
    cluster.kill(0);
    let began = Instant::now();
    let error = failure(&mut *hasty);
    assert!(error.contains("tried for"), "{error}");
    // Its end waits for no answer either.
    drop(hasty);
    let taken = began.elapsed();
    assert!(taken < Duration::from_secs(30), "{taken:?}");
}

#[test]
fn a_leader_that_moves_is_followed() {
    let Some(cluster) = cluster(3) else {
        return;
    };
    cluster.create_topic("t", 3, &[]);
    let mut source = source(&cluster, &[("subscribe", "t"), EARLIEST]);
    for partition in 0..3 {
        produce_values(&cluster.servers(), "t", partition, &["a"]);
    }
    assert_eq!(rows(&mut *source, &[3], 3).len(), 3);
    // One of the leaders is gone; the others take over.
    cluster.kill(1);
    for partition in 0..3 {
        produce_values(&cluster.servers(), "t", partition, &["b"]);
    }
    let mut after = rows(&mut *source, &[3, 4], 3);
    after.sort();
    assert_eq!(after, ["0,1", "1,1", "2,1"]);
}

#[test]
fn what_becomes_of_a_topic_is_noticed() {
    let Some(cluster) = cluster(1) else {
        return;
    };
    new_partitions_and_topics(&cluster);
    retention(&cluster);
    deleted(&cluster);
    recreated(&cluster);
    compacted_and_aborted(&cluster);
}

fn new_partitions_and_topics(cluster: &Cluster) {
    let servers = cluster.servers();
    cluster.create_topic("grow-1", 1, &[]);
    produce_values(&servers, "grow-1", 0, &["a"]);
    let mut source = source(cluster, &[("subscribePattern", "grow-.*")]);
    assert!(
        source
            .plan(ReadLimit::default())
            .expect("a range")
            .is_some()
    );
    cluster.add_partitions("grow-1", 2);
    cluster.create_topic("grow-2", 1, &[]);
    await_that("the partition", || {
        std::panic::catch_unwind(|| produce_values(&servers, "grow-1", 1, &["b"])).is_ok()
    });
    produce_values(&servers, "grow-2", 0, &["c"]);
    let mut found = rows(&mut *source, &[2, 3, 4], 2);
    found.sort();
    assert_eq!(found, ["grow-1,1,0", "grow-2,0,0"]);
}

fn retention(cluster: &Cluster) {
    let servers = cluster.servers();
    cluster.create_topic("short", 1, &[]);
    produce_values(&servers, "short", 0, &["a", "b", "c", "d"]);
    let lost = |options: &[(&str, &str)]| -> (Box<dyn Source>, PlannedRange, Result<Vec<String>>) {
        let mut source = source(cluster, options);
        let range = plan(&mut *source).expect("a range");
        cluster.delete_records("short", 0, 2);
        let rows = rows_of(&*source, &range, &[4]);
        (source, range, rows)
    };
    let (_, range, found) = lost(&[("subscribe", "short"), EARLIEST]);
    let error = found.expect_err("two are gone").to_string();
    assert!(
        error.contains("short-0") && error.contains("failOnDataLoss"),
        "{error}"
    );
    // The same range once more, where that does not matter.
    let source = source(cluster, &[("subscribe", "short"), EARLIEST, GO_ON]);
    assert_eq!(rows_of(&*source, &range, &[4]).expect("rows"), ["2", "3"]);
}

fn deleted(cluster: &Cluster) {
    let servers = cluster.servers();
    cluster.create_topic("doomed", 1, &[]);
    cluster.create_topic("other", 1, &[]);
    produce_values(&servers, "doomed", 0, &["a", "b"]);
    let options = [("subscribe", "doomed,other"), EARLIEST];
    let mut strict = source(cluster, &options);
    let mut easy = source(cluster, &[options[0], options[1], GO_ON]);
    assert_eq!(rows(&mut *strict, &[4], 2), ["0", "1"]);
    assert_eq!(rows(&mut *easy, &[4], 2), ["0", "1"]);
    cluster.delete_topic("doomed");
    assert!(failure(&mut *strict).contains("doomed"));
    // It is noticed within a second.
    for _ in 0..30 {
        easy.plan(ReadLimit::default()).expect("it goes on");
        std::thread::sleep(Duration::from_millis(100));
    }
    produce_values(&servers, "other", 0, &["x"]);
    assert_eq!(rows(&mut *easy, &[2, 4], 1), ["other,0"]);
    cluster.create_topic("doomed", 1, &[]);
    produce_values(&servers, "doomed", 0, &["anew"]);
    assert_eq!(rows(&mut *easy, &[2, 4], 1), ["doomed,0"]);
}

fn recreated(cluster: &Cluster) {
    let servers = cluster.servers();
    cluster.create_topic("again", 1, &[]);
    produce_values(&servers, "again", 0, &["a", "b"]);
    let options = [("subscribe", "again"), EARLIEST];
    let mut before = source(cluster, &options);
    let range = plan(&mut *before).expect("a range");
    assert_eq!(rows_of(&*before, &range, &[4]).expect("rows"), ["0", "1"]);
    drop(before);
    cluster.delete_topic("again");
    cluster.create_topic("again", 1, &[]);
    produce_values(&servers, "again", 0, &["c"]);
    let mut after = source(cluster, &options);
    after.restore(&[range]).expect("restored");
    let error = failure(&mut *after);
    assert!(
        error.contains("ends at 1") && error.contains("again-0"),
        "{error}"
    );
}

/// Ranges whose last offsets are no records.
fn compacted_and_aborted(cluster: &Cluster) {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let servers = cluster.servers();
    cluster.create_topic("marked", 1, &[]);
    let producer: BaseProducer = crate::broker::config(&servers)
        .set("transactional.id", "marked")
        .create()
        .expect("a producer");
    producer
        .init_transactions(Duration::from_secs(30))
        .expect("begun");
    let mut source = source(cluster, &[("subscribe", "marked"), EARLIEST]);
    let mut found = vec![];
    for round in 0..6 {
        producer.begin_transaction().expect("begun");
        producer
            .send(BaseRecord::<str, str>::to("marked").payload("x"))
            .map_err(|(error, _)| error)
            .expect("queued");
        producer.flush(Duration::from_secs(30)).expect("sent");
        // Nothing of an open transaction is planned.
        assert!(
            source
                .plan(ReadLimit::default())
                .expect("an answer")
                .is_none_or(|range| range.splits.is_empty())
        );
        if round % 3 == 1 {
            producer
                .abort_transaction(Duration::from_secs(30))
                .expect("undone");
        } else {
            producer
                .commit_transaction(Duration::from_secs(30))
                .expect("committed");
        }
        let range = plan(&mut *source).expect("a range");
        found.extend(rows_of(&*source, &range, &[4]).expect("rows"));
    }
    // Every other offset is a marker.
    assert_eq!(found, ["0", "4", "6", "10"]);
}
