//! What the options of the source do: formats, headers, limits, where to begin, the consumer group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tidemark_connectors::{ReadLimit, Source};

use crate::broker::{Kafka, PATIENCE, await_that, config, produce, produce_values};
use crate::read::{open, plan, rows, rows_of};

const EARLIEST: (&str, &str) = ("startingOffsets", "earliest");

fn columns(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields.iter();
    let fields = fields.map(|(name, kind)| Field::new(*name, kind.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[test]
fn csv_is_a_line_of_values() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("csv", 1);
    let values = [Some("1;a"), Some("x;b"), None, Some("2;\"c;d\"")];
    produce(&servers, "csv", 0, &values.map(|value| (None, value)));
    let schema = columns(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("_corrupt_record", DataType::Utf8),
    ]);
    let options = [
        ("subscribe", "csv"),
        EARLIEST,
        ("format", "csv"),
        ("sep", ";"),
    ];
    let mut source = open(&servers, &options, Some(schema)).expect("a source");
    // A record without a value is no row.
    assert_eq!(
        rows(&mut *source, &[0, 1, 2], 3),
        ["1,a,", ",b,x;b", "2,c;d,"]
    );
}

#[test]
fn headers_are_a_column_where_they_are_asked_for() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("headed", 1);
    let producer: BaseProducer = config(&servers).create().expect("a producer");
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "h",
            value: Some("v"),
        })
        .insert(Header::<&str> {
            key: "h",
            value: None,
        });
    let record = BaseRecord::<str, str>::to("headed").payload("x");
    let sent = producer.send(record.headers(headers).partition(0));
    sent.map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("delivered");
    produce_values(&servers, "headed", 0, &["bare"]);
    let options = [
        ("subscribe", "headed"),
        EARLIEST,
        ("includeHeaders", "true"),
    ];
    let mut source = open(&servers, &options, None).expect("a source");
    assert_eq!(
        rows(&mut *source, &[7], 2),
        ["[{key: h, value: 76}, {key: h, value: }]", ""]
    );
}

#[test]
fn an_epoch_waits_for_enough_records_but_not_for_ever() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("few", 1);
    let options = |delay: &'static str| {
        [
            ("subscribe", "few"),
            EARLIEST,
            ("minOffsetsPerTrigger", "3"),
            ("maxTriggerDelay", delay),
        ]
    };
    let mut patient = open(&servers, &options("1 hour"), None).expect("a source");
    let mut hasty = open(&servers, &options("200 ms"), None).expect("a source");
    for source in [&mut patient, &mut hasty] {
        // Where it begins is planned at once.
        let first = source.plan(ReadLimit::default()).expect("an answer");
        assert!(first.is_some_and(|range| range.splits.is_empty()));
    }
    produce_values(&servers, "few", 0, &["a", "b"]);
    assert_eq!(rows(&mut *hasty, &[4], 2), ["0", "1"]);
    assert_eq!(patient.plan(ReadLimit::default()).expect("too few"), None);
    produce_values(&servers, "few", 0, &["c"]);
    assert_eq!(rows(&mut *patient, &[4], 3), ["0", "1", "2"]);
}

#[test]
fn a_rate_slows_reading_down_and_does_not_stop_it() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("slow", 1);
    produce_values(&servers, "slow", 0, &["x"; 100]);
    let options = [
        ("subscribe", "slow"),
        EARLIEST,
        ("maxRatePerPartition", "50"),
    ];
    let mut source = open(&servers, &options, None).expect("a source");
    let began = Instant::now();
    assert_eq!(rows(&mut *source, &[4], 100).len(), 100);
    let taken = began.elapsed();
    assert!(taken > Duration::from_millis(1900), "{taken:?}");
    assert!(taken < PATIENCE / 2, "{taken:?}");
}

#[test]
fn reading_begins_and_ends_at_a_time() {
    let Kafka::Real(cluster) = Kafka::shared() else {
        // The mock cluster knows no times.
        return;
    };
    let servers = cluster.servers();
    cluster.create_topic("timed", 2, &[]);
    let producer: BaseProducer = config(&servers).create().expect("a producer");
    for (partition, time) in [(0, 1000), (0, 2000), (0, 3000), (1, 1000)] {
        let record = BaseRecord::<str, str>::to("timed").payload("x");
        let sent = producer.send(record.partition(partition).timestamp(time));
        sent.map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
    let begin = [("subscribe", "timed"), ("startingTimestamp", "1500")];
    let mut strict = open(&servers, &begin, None).expect("a source");
    let error = strict
        .plan(ReadLimit::default())
        .expect_err("none so young");
    let error = error.to_string();
    assert!(
        error.contains("timed-1") && error.contains("startingOffsetsByTimestampStrategy"),
        "{error}"
    );
    let options = [
        begin[0],
        begin[1],
        ("startingOffsetsByTimestampStrategy", "latest"),
        (
            "endingOffsetsByTimestamp",
            r#"{"timed":{"0":3000,"1":3000}}"#,
        ),
    ];
    let mut source = open(&servers, &options, None).expect("a source");
    let range = plan(&mut *source).expect("a range");
    assert_eq!(rows_of(&*source, &range, &[3, 4]).expect("rows"), ["0,1"]);
    assert!(source.exhausted());
}

#[test]
fn reading_ends_at_a_time_or_at_an_offset() {
    let Kafka::Real(cluster) = Kafka::shared() else {
        return;
    };
    let servers = cluster.servers();
    cluster.create_topic("ending", 1, &[]);
    let producer: BaseProducer = config(&servers).create().expect("a producer");
    for time in [1000, 2000, 3000, 4000] {
        let record = BaseRecord::<str, str>::to("ending").payload("x");
        let sent = producer.send(record.partition(0).timestamp(time));
        sent.map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
    let ends: [(&[(&str, &str)], &[&str]); 4] = [
        (&[EARLIEST, ("endingTimestamp", "2500")], &["0", "1"]),
        // None is so young: where the topic ends.
        (
            &[EARLIEST, ("endingTimestamp", "9000")],
            &["0", "1", "2", "3"],
        ),
        (
            &[EARLIEST, ("endingOffsets", r#"{"ending":{"0":1}}"#)],
            &["0"],
        ),
        (
            &[
                ("startingOffsets", r#"{"ending":{"0":2}}"#),
                ("endingOffsets", r#"{"ending":{"0":-1}}"#),
            ],
            &["2", "3"],
        ),
    ];
    for (edges, wanted) in ends {
        let options = [&[("subscribe", "ending")], edges].concat();
        let mut source = open(&servers, &options, None).expect("a source");
        let range = plan(&mut *source).expect("a range");
        let found = rows_of(&*source, &range, &[4]).expect("rows");
        assert_eq!(found, wanted, "{edges:?}");
        assert!(source.exhausted());
    }
}

#[test]
fn what_is_not_committed_is_read_where_that_is_asked_for() {
    let Kafka::Real(cluster) = Kafka::shared() else {
        return;
    };
    let servers = cluster.servers();
    cluster.create_topic("open", 1, &[]);
    let producer: BaseProducer = config(&servers)
        .set("transactional.id", "open")
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("begun");
    producer.begin_transaction().expect("begun");
    let record = BaseRecord::<str, str>::to("open").payload("x");
    let sent = producer.send(record.partition(0));
    sent.map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("delivered");
    let own = [("subscribe", "open"), EARLIEST];
    let all = [
        own[0],
        own[1],
        ("kafka.isolation.level", "read_uncommitted"),
    ];
    let mut source = open(&servers, &all, None).expect("a source");
    assert_eq!(rows(&mut *source, &[4], 1), ["0"]);
    let mut careful = open(&servers, &own, None).expect("a source");
    let range = careful.plan(ReadLimit::default()).expect("an answer");
    assert!(range.is_some_and(|range| range.splits.is_empty()));
    producer.abort_transaction(PATIENCE).expect("undone");
}

#[test]
fn a_consumer_group_is_told_how_far_a_query_is() {
    let Kafka::Real(cluster) = Kafka::shared() else {
        return;
    };
    let servers = cluster.servers();
    cluster.create_topic("told", 1, &[]);
    produce_values(&servers, "told", 0, &["a", "b", "c"]);
    for (option, name) in [
        (("groupIdPrefix", "team"), "team-sales-1234"),
        (("kafka.group.id", "all-of-it"), "all-of-it"),
    ] {
        let options = [("subscribe", "told"), EARLIEST, option];
        let mut source = open(&servers, &options, None).expect("a source");
        source.begin("sales", "1234-5678");
        assert_eq!(rows(&mut *source, &[4], 3).len(), 3);
        is_told(&servers, &mut *source, name);
    }
}

/// The group comes to know that three records of the topic were read.
fn is_told(servers: &str, source: &mut dyn Source, name: &str) {
    let group: BaseConsumer = config(servers)
        .set("group.id", name)
        .create()
        .expect("a consumer");
    await_that("the group", || {
        let mut asked = TopicPartitionList::new();
        asked.add_partition("told", 0);
        let answer = group.committed_offsets(asked, Duration::from_secs(5));
        // The source's client sends what is to be told when it is asked for more.
        source.plan(ReadLimit::default()).expect("an answer");
        answer.is_ok_and(|list| list.elements()[0].offset() == Offset::Offset(3))
    });
}
