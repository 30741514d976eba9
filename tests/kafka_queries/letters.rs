//! Records that cannot be decoded go to a topic of dead letters, and the others go on.

use std::fs;
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use crate::broker::{PATIENCE, config, consume, produce_values, secure};
use crate::run;

#[test]
fn a_poison_record_goes_to_the_dead_letters_once() {
    let Some(cluster) = secure() else {
        return;
    };
    let servers = cluster.servers();
    for topic in ["poisoned", "result", "letters"] {
        cluster.create_topic(topic, 1, &[]);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "CREATE TABLE events (id BIGINT, d BIGINT) WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}',
           'subscribe' = 'poisoned', 'startingOffsets' = 'earliest', 'format' = 'json', 'mode' = 'FAILFAST');
         CREATE TABLE letters WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'topic' = 'letters',
           'format' = 'json');
         CREATE TABLE result WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'topic' = 'result',
           'format' = 'json', 'deadLetter' = 'letters', 'trigger' = 'available-now', 'checkpointLocation' = 'ckpt');
         INSERT INTO result SELECT id, 10 / d AS q FROM events;"
    );
    fs::write(dir.path().join("letters.sql"), script).expect("written");
    let rounds = [
        [r#"{"id":1,"d":5}"#, "{", r#"{"id":2,"d":0}"#],
        [r#"{"id":3,"d":5}"#, "}", r#"{"id":4,"d":2}"#],
    ];
    for values in rounds {
        produce_values(&servers, "poisoned", 0, &values);
        let (ended, words) = run(dir.path(), &["run", "letters.sql", "--progress", "none"]);
        assert!(ended, "{words}");
    }
    let values = |topic| -> Vec<String> {
        let records = consume(&servers, topic).into_iter();
        records.filter_map(|(_, value)| value).collect()
    };
    assert_eq!(
        values("result"),
        [
            r#"{"id":1,"q":2.0}"#,
            r#"{"id":3,"q":2.0}"#,
            r#"{"id":4,"q":5.0}"#
        ]
    );
    let letters = values("letters");
    let said = [
        // The bytes are in base64.
        [
            r#""partition":"poisoned-0","offset":"poisoned-0@1","record":"ew==""#,
            "malformed",
        ],
        [
            r#""partition":"poisoned-0","offset":"poisoned-0@2""#,
            r#"{\"id\":2,\"d\":0}"#,
        ],
        [
            r#""partition":"poisoned-0","offset":"poisoned-0@4","record":"fQ==""#,
            "malformed",
        ],
    ];
    assert_eq!(letters.len(), said.len(), "{letters:#?}");
    for (letter, parts) in letters.iter().zip(said) {
        for part in parts {
            assert!(letter.contains(part), "{letter}");
        }
    }
}

/// Sends one record with a key and two headers of the same name.
fn send(servers: &str, topic: &str, value: &[u8]) {
    let producer: BaseProducer = config(servers).create().expect("a producer");
    let header = |value| Header { key: "h", value };
    let headers = OwnedHeaders::new()
        .insert(header(Some(&[0xff_u8, 1][..])))
        .insert(header(None));
    let record = BaseRecord::to(topic).key(&b"k"[..]).payload(value);
    let sent = producer.send(record.headers(headers));
    sent.map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("delivered");
}

type Letter = (
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<String>)>,
);

/// The records of a partition: key, value, headers as text.
fn letters(servers: &str, topic: &str, count: usize) -> Vec<Letter> {
    let consumer: BaseConsumer = config(servers)
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)
        .expect("an offset");
    consumer.assign(&list).expect("assigned");
    let began = Instant::now();
    let mut found = vec![];
    while found.len() < count {
        assert!(began.elapsed() < PATIENCE, "{found:?}");
        let Some(Ok(message)) = consumer.poll(std::time::Duration::from_millis(100)) else {
            continue;
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = message.headers().into_iter().flat_map(|all| {
            all.iter()
                .map(|header| (header.key.to_owned(), header.value.map(text)))
                .collect::<Vec<_>>()
        });
        found.push((
            message.key().map(<[u8]>::to_vec),
            message.payload().map(<[u8]>::to_vec),
            headers.collect(),
        ));
    }
    found
}

#[test]
fn a_topic_without_a_format_gets_the_records_themselves() {
    let Some(cluster) = secure() else {
        return;
    };
    let servers = cluster.servers();
    for topic in ["spoilt", "kept", "spoilt-letters"] {
        cluster.create_topic(topic, 1, &[]);
    }
    // Bytes that are no text; a row that fails later.
    send(&servers, "spoilt", &[0xfe, 0]);
    send(&servers, "spoilt", br#"{"id":2,"d":0}"#);
    produce_values(&servers, "spoilt", 0, &[r#"{"id":3,"d":5}"#]);
    let dir = tempfile::tempdir().expect("a directory");
    let kafka = format!("'connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}'");
    let script = format!(
        "CREATE TABLE events (id BIGINT, d BIGINT) WITH ({kafka}, 'subscribe' = 'spoilt', 'startingOffsets' = 'earliest',
           'format' = 'json', 'mode' = 'FAILFAST');
         CREATE TABLE letters WITH ({kafka}, 'topic' = 'spoilt-letters');
         CREATE TABLE result WITH ({kafka}, 'topic' = 'kept', 'format' = 'json', 'deadLetter' = 'letters',
           'trigger' = 'available-now', 'checkpointLocation' = 'ckpt');
         INSERT INTO result SELECT id, 10 / d AS q FROM events;"
    );
    fs::write(dir.path().join("spoilt.sql"), script).expect("written");
    let (ended, words) = run(dir.path(), &["run", "spoilt.sql", "--progress", "none"]);
    assert!(ended, "{words}");
    let found = letters(&servers, "spoilt-letters", 2);
    let values: [&[u8]; 2] = [&[0xfe, 0], br#"{"id":2,"d":0}"#];
    let rows = [None, Some(r#"{"id":2,"d":0}"#)];
    for (index, (key, value, headers)) in found.into_iter().enumerate() {
        assert_eq!(key.as_deref(), Some(&b"k"[..]));
        assert_eq!(value.as_deref(), Some(values[index]));
        let said = |name: &str| {
            let found = headers.iter().find(|(found, _)| found == name);
            found.and_then(|(_, value)| value.as_deref())
        };
        assert_eq!(headers[0], ("h".into(), Some("\u{fffd}\u{1}".into())));
        assert_eq!(headers[1], ("h".into(), None));
        assert_eq!(said("tidemark.source"), Some("events"));
        assert_eq!(said("tidemark.partition"), Some("spoilt-0"));
        let offset = format!("spoilt-0@{index}");
        assert_eq!(said("tidemark.offset"), Some(offset.as_str()));
        assert_eq!(said("tidemark.epoch"), Some("0"));
        assert_eq!(said("tidemark.row"), rows[index]);
        let reason = ["malformed", "DIVIDE_BY_ZERO"][index];
        assert!(
            said("tidemark.reason").is_some_and(|why| why.contains(reason)),
            "{headers:?}"
        );
    }
}
