//! The source.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tidemark_connectors::{Read, ReadLimit};

use crate::broker::{Kafka, produce, produce_values};
use crate::read::{open, plan, rows, rows_of};

fn json_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

#[test]
fn kafkas_own_columns() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("own", 2);
    produce(&servers, "own", 0, &[(Some("k"), Some("v")), (None, None)]);
    produce(&servers, "own", 1, &[(None, Some("w"))]);
    let mut source = open(
        &servers,
        &[("subscribe", "own"), ("startingOffsets", "earliest")],
        None,
    )
    .expect("a source");
    let names: Vec<String> = source
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(
        names.join(" "),
        "key value topic partition offset timestamp timestampType"
    );
    // Bytes are shown in hex.
    assert_eq!(
        rows(&mut *source, &[0, 1, 2, 3, 4, 6], 3),
        ["6b,76,own,0,0,0", ",,own,0,1,0", ",77,own,1,0,0"]
    );
}

#[test]
fn values_are_decoded_and_kafkas_columns_stand_beside_them() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("decoded", 1);
    let values = [
        r#"{"id":1,"name":"a"}"#,
        r#"[{"id":2},{"id":3}]"#,
        "broken",
        r#"{"id":4}"#,
    ];
    produce_values(&servers, "decoded", 0, &values);
    let options = [
        ("subscribe", "decoded"),
        ("startingOffsets", "earliest"),
        ("format", "json"),
    ];
    let mut source = open(&servers, &options, Some(json_schema())).expect("a source");
    let fields = source.metadata_schema();
    assert_eq!(fields.field(3).name(), "offset");
    let found = rows(&mut *source, &[0, 2], 5);
    let found: Vec<&str> = found
        .iter()
        .map(|row| row.split(", timestamp: ").next().unwrap_or_default())
        .collect();
    assert_eq!(
        found,
        [
            "1,{key: , topic: decoded, partition: 0, offset: 0",
            "2,{key: , topic: decoded, partition: 0, offset: 1",
            "3,{key: , topic: decoded, partition: 0, offset: 1",
            ",{key: , topic: decoded, partition: 0, offset: 2",
            "4,{key: , topic: decoded, partition: 0, offset: 3",
        ]
    );
}

#[test]
fn a_poison_record_is_named_with_its_offset() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("poison", 1);
    produce_values(&servers, "poison", 0, &[r#"{"id":1}"#, "{", r#"{"id":2}"#]);
    let options = [
        ("subscribe", "poison"),
        ("startingOffsets", "earliest"),
        ("format", "json"),
    ];
    let with = |mode: &'static str| {
        let options: Vec<_> = options.into_iter().chain([("mode", mode)]).collect();
        open(&servers, &options, Some(json_schema())).expect("a source")
    };
    let mut dropping = with("DROPMALFORMED");
    assert_eq!(rows(&mut *dropping, &[0], 2), ["1", "2"]);
    let mut failing = with("FAILFAST");
    let range = plan(&mut *failing).expect("a range");
    let error = rows_of(&*failing, &range, &[0]).expect_err("a broken record");
    assert!(
        error.to_string().contains("malformed record at poison-0@1"),
        "{error}"
    );
    let mut reader = failing
        .reader()
        .open(&range.splits[0], &[0])
        .expect("a split");
    reader.keep_rejected();
    let (mut good, mut rejected) = (0, vec![]);
    loop {
        match reader.read().expect("it goes on") {
            Read::Batch { batch, .. } => good += batch.num_rows(),
            Read::Pending => std::thread::sleep(Duration::from_millis(1)),
            Read::End => break,
        }
        rejected.extend(reader.rejected());
    }
    assert_eq!((good, rejected.len(), rejected[0].row), (2, 1, 1));
    assert_eq!(rejected[0].place.text, "poison-0@1");
    assert_eq!(rejected[0].place.record.as_deref(), Some(&b"{"[..]));
    let places = failing
        .reader()
        .locate(&range.splits[0], &[0], &[0])
        .expect("places");
    assert_eq!(places[0].text, "poison-0@0");
    assert_eq!(places[0].record.as_deref(), Some(&br#"{"id":1}"#[..]));
}

#[test]
fn a_restart_goes_on_where_the_log_ends() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("restart", 2);
    let options = [
        ("subscribe", "restart"),
        ("startingOffsets", "earliest"),
        ("format", "raw"),
        ("maxOffsetsPerTrigger", "2"),
    ];
    let strings: SchemaRef = Arc::new(Schema::new(vec![Field::new("v", DataType::Utf8, true)]));
    produce_values(&servers, "restart", 0, &["a", "b"]);
    produce_values(&servers, "restart", 1, &["c", "d"]);
    let mut first = open(&servers, &options, Some(Arc::clone(&strings))).expect("a source");
    let range = plan(&mut *first).expect("a range");
    assert_eq!(rows_of(&*first, &range, &[0]).expect("rows"), ["a", "c"]);
    // The same range gives the same rows again, also of another instance.
    assert_eq!(rows_of(&*first, &range, &[0]).expect("rows"), ["a", "c"]);
    let mut second = open(&servers, &options, Some(strings)).expect("a source");
    second
        .restore(std::slice::from_ref(&range))
        .expect("restored");
    assert_eq!(rows_of(&*second, &range, &[0]).expect("rows"), ["a", "c"]);
    assert_eq!(rows(&mut *second, &[0], 2), ["b", "d"]);
}

#[test]
fn latest_is_pinned_by_the_first_range() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("latest", 1);
    produce_values(&servers, "latest", 0, &["before"]);
    let options = [("subscribe", "latest")];
    let mut source = open(&servers, &options, None).expect("a source");
    let first = source
        .plan(ReadLimit::default())
        .expect("an answer")
        .expect("a range");
    assert!(first.splits.is_empty());
    assert_eq!(first.end.to_string(), r#"{"latest":{"0":1}}"#);
    produce_values(&servers, "latest", 0, &["after"]);
    let mut again = open(&servers, &options, None).expect("a source");
    again.restore(&[first]).expect("restored");
    assert_eq!(rows(&mut *again, &[4], 1), ["1"]);
}

#[test]
fn a_frozen_source_ends() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("frozen", 3);
    produce_values(&servers, "frozen", 0, &["a", "b"]);
    produce_values(&servers, "frozen", 2, &["c"]);
    let options = [
        ("assign", r#"{"frozen":[0,2]}"#),
        ("startingOffsets", r#"{"frozen":{"0":1,"2":-2}}"#),
        ("endingOffsets", "latest"),
    ];
    let mut source = open(&servers, &options, None).expect("a source");
    source.freeze().expect("frozen");
    produce_values(&servers, "frozen", 0, &["too late"]);
    assert_eq!(rows(&mut *source, &[3, 4], 2), ["0,1", "2,0"]);
    assert!(source.exhausted());
    assert!(
        source
            .plan(ReadLimit::default())
            .expect("an answer")
            .is_none()
    );
}

#[test]
fn two_readers_of_a_partition_do_not_disturb_each_other() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("twice", 1);
    let values: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    produce_values(&servers, "twice", 0, &values);
    let options = [("subscribe", "twice"), ("startingOffsets", "earliest")];
    let mut source = open(&servers, &options, None).expect("a source");
    for _ in 0..2 {
        let range = plan(&mut *source).expect("a range");
        let expected = range.splits[0].range["end"].as_i64().unwrap_or_default();
        let begin = range.splits[0].range["start"].as_i64().unwrap_or_default();
        let reader = source.reader();
        let mut readers = [
            reader.open(&range.splits[0], &[4]).expect("a split"),
            reader.open(&range.splits[0], &[4]).expect("a split"),
        ];
        let mut counts = [0, 0];
        let mut ended = [false, false];
        while ended != [true, true] {
            for (index, reader) in readers.iter_mut().enumerate() {
                match reader.read().expect("rows") {
                    Read::Batch { batch, .. } => counts[index] += batch.num_rows(),
                    Read::Pending => std::thread::sleep(Duration::from_millis(1)),
                    Read::End => ended[index] = true,
                }
            }
        }
        let expected = usize::try_from(expected - begin).expect("a count");
        assert_eq!(counts, [expected, expected]);
        produce_values(&servers, "twice", 0, &["more"]);
    }
}

#[test]
fn a_long_range_is_read_in_pieces_at_once() {
    let Kafka::Real(cluster) = Kafka::shared() else {
        // The mock cluster keeps so few records only.
        return;
    };
    let servers = cluster.servers();
    cluster.create_topic("long", 1, &[]);
    for _ in 0..12 {
        produce_values(&servers, "long", 0, &vec!["x"; 50_000]);
    }
    let options = [("subscribe", "long"), ("startingOffsets", "earliest")];
    let mut source = open(&servers, &options, None).expect("a source");
    let range = plan(&mut *source).expect("a range");
    assert_eq!(range.splits.len(), 2);
    let reader = source.reader();
    let found = std::thread::scope(|scope| {
        let pieces = range.splits.iter().map(|split| {
            let mut piece = reader.open(split, &[4]).expect("a split");
            scope.spawn(move || {
                let mut offsets: Vec<i64> = vec![];
                loop {
                    match piece.read().expect("rows") {
                        Read::Batch { batch, .. } => {
                            let column = batch.column(0).as_primitive::<Int64Type>();
                            offsets.extend(column.values());
                        }
                        Read::Pending => std::thread::sleep(Duration::from_millis(1)),
                        Read::End => return offsets,
                    }
                }
            })
        });
        let pieces: Vec<_> = pieces.collect();
        let pieces = pieces
            .into_iter()
            .map(|piece| piece.join().expect("a reader"));
        pieces.collect::<Vec<_>>().concat()
    });
    assert!(found.into_iter().eq(0..600_000));
    // One after the other, on the connections that there are.
    assert_eq!(
        rows_of(&*source, &range, &[4]).expect("rows").len(),
        600_000
    );
}

#[test]
fn a_topic_that_does_not_exist_is_named_in_time() {
    let kafka = Kafka::shared();
    let began = std::time::Instant::now();
    let options = [
        ("assign", r#"{"frozen-not":[0]}"#),
        ("kafka.allow.auto.create.topics", "false"),
    ];
    let mut source = open(&kafka.servers(), &options, None).expect("a source");
    match source.plan(ReadLimit::default()) {
        // The mock cluster makes any topic that is asked for.
        Ok(_) => assert!(matches!(kafka, Kafka::Mock { .. })),
        Err(error) => {
            assert!(error.to_string().contains("'frozen-not'"), "{error}");
            assert!(error.to_string().contains("Create the topic"), "{error}");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn brokers_that_are_not_there_are_named_in_time() {
    let mut source = open("127.0.0.1:1", &[("subscribe", "t")], None).expect("a source");
    let began = std::time::Instant::now();
    let error = source.plan(ReadLimit::default()).expect_err("nobody there");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(11));
}
