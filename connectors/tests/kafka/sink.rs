//! The sink.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int64Array, ListBuilder,
    RecordBatch, StringArray, StringBuilder, StructBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use tidemark_connectors::storage::Disk;
use tidemark_connectors::{
    ChangeType, Delivery, Distribution, Options, Output, OutputMode, Result, Sink, SinkConfig,
    open_sink,
};

use crate::broker::{Kafka, consume};
use crate::read;

pub(crate) fn rows(ids: &[i64], names: &[&str]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
    RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("a batch")
}

/// A sink of the query `query`, as its first process opens it.
pub(crate) fn open(
    servers: &str,
    query: &str,
    mode: OutputMode,
    options: &[(&str, &str)],
) -> Result<Box<dyn Sink>> {
    open_for(servers, query, mode, options, rows(&[], &[]).schema())
}

/// The same for rows of these columns.
fn open_for(
    servers: &str,
    query: &str,
    mode: OutputMode,
    options: &[(&str, &str)],
    schema: SchemaRef,
) -> Result<Box<dyn Sink>> {
    let all = [("kafka.bootstrap.servers", servers)];
    let options: Options = all.iter().chain(options).copied().collect();
    let config = SinkConfig {
        query_name: "q".into(),
        query_id: query.into(),
        schema,
        mode,
        key: (mode != OutputMode::Append).then(|| vec![0]),
        storage: Arc::new(Disk),
        continuous: false,
    };
    open_sink("kafka", &options, config)
}

pub(crate) fn write(
    sink: &mut dyn Sink,
    epoch: u64,
    batch: RecordBatch,
    changes: Option<Vec<ChangeType>>,
) {
    let mut writer = sink.writer(0).expect("a writer");
    let output = Output { batch, changes };
    writer.write(epoch, &output).expect("written");
    let staged = writer.stage(epoch).expect("staged");
    sink.commit(epoch, &[staged]).expect("committed");
}

/// Writes an insertion, an update and a deletion.
fn write_changes(sink: &mut dyn Sink) {
    let changes = vec![
        ChangeType::Insert,
        ChangeType::UpdatePreimage,
        ChangeType::UpdatePostimage,
        ChangeType::Delete,
    ];
    let rows = rows(&[1, 2, 2, 3], &["a", "b", "c", "d"]);
    write(sink, 0, rows, Some(changes));
}

fn texts(records: &[(Option<String>, Option<String>)]) -> Vec<String> {
    let text = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".into());
    let mut all: Vec<String> = records
        .iter()
        .map(|(key, value)| format!("{} {}", text(key), text(value)))
        .collect();
    all.sort();
    all
}

#[test]
fn an_epoch_is_there_once_its_transaction_is_committed() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("once", 2);
    let options = [("topic", "once"), ("format", "json"), ("keyColumns", "id")];
    let mut sink = open(&servers, "q-once", OutputMode::Append, &options).expect("a sink");
    assert_eq!(sink.delivery(), Delivery::ExactlyOnce);
    assert_eq!(sink.distribution(), Distribution::Single);
    assert_eq!(sink.last_committed().expect("an answer"), None);
    sink.discard_uncommitted().expect("discarded");
    write(&mut *sink, 0, rows(&[1, 2], &["a", "b"]), None);
    if matches!(kafka, Kafka::Mock { .. }) {
        // Its groups know nothing of the offsets in transactions.
        return;
    }
    // An epoch without rows leaves no trace.
    let mut writer = sink.writer(0).expect("a writer");
    let staged = writer.stage(1).expect("staged");
    sink.commit(1, &[staged]).expect("committed");
    drop(writer);
    drop(sink);

    // It dies with an epoch staged; another takes over and writes it again.
    let mut dying = open(&servers, "q-once", OutputMode::Append, &options).expect("a sink");
    assert_eq!(dying.last_committed().expect("an answer"), Some(0));
    let mut writer = dying.writer(0).expect("a writer");
    let output = Output {
        batch: rows(&[3], &["c"]),
        changes: None,
    };
    writer.write(2, &output).expect("written");
    let staged = writer.stage(2).expect("staged");
    let mut next = open(&servers, "q-once", OutputMode::Append, &options).expect("a sink");
    assert_eq!(next.last_committed().expect("an answer"), Some(0));
    next.discard_uncommitted().expect("discarded");
    write(&mut *next, 2, rows(&[3], &["c"]), None);
    assert_eq!(next.last_committed().expect("an answer"), Some(2));

    // The first wakes up: it is fenced.
    let error = dying
        .commit(2, &[staged])
        .expect_err("another has taken over");
    assert!(
        error.to_string().contains("Let only one instance"),
        "{error}"
    );
    drop(writer);
    drop(dying);
    assert_eq!(
        texts(&consume(&servers, "once")),
        [
            r#"{"id":1} {"id":1,"name":"a"}"#,
            r#"{"id":2} {"id":2,"name":"b"}"#,
            r#"{"id":3} {"id":3,"name":"c"}"#,
        ]
    );
}

#[test]
fn an_epoch_that_the_topic_holds_is_undone_when_it_is_replayed() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("held", 1);
    let options = [("topic", "held"), ("format", "json")];
    let mut sink = open(&servers, "q-held", OutputMode::Append, &options).expect("a sink");
    write(&mut *sink, 0, rows(&[1], &["a"]), None);
    let mut writer = sink.writer(0).expect("a writer");
    let output = Output {
        batch: rows(&[1], &["a"]),
        changes: None,
    };
    writer.write(0, &output).expect("written");
    writer.stage(0).expect("staged");
    sink.discard_uncommitted().expect("discarded");
    write(&mut *sink, 1, rows(&[2], &["b"]), None);
    if matches!(kafka, Kafka::Real(_)) {
        // The mock cluster shows what was undone too.
        assert_eq!(
            texts(&consume(&servers, "held")),
            [r#"- {"id":1,"name":"a"}"#, r#"- {"id":2,"name":"b"}"#]
        );
    }
}

#[test]
fn updates_are_upserts_and_tombstones() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("upserts", 3);
    let options = [
        ("topic", "upserts"),
        ("format", "json"),
        ("keyFormat", "raw"),
    ];
    let mut sink = open(&servers, "q-up", OutputMode::Update, &options).expect("a sink");
    write_changes(&mut *sink);
    assert_eq!(
        texts(&consume(&servers, "upserts")),
        [
            r#"1 {"id":1,"name":"a"}"#,
            r#"2 {"id":2,"name":"c"}"#,
            "3 -"
        ]
    );
}

#[test]
fn changes_come_in_debeziums_envelope_at_least_once() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("changes", 1);
    let options = [
        ("topic", "changes"),
        ("format", "json"),
        ("deliveryGuarantee", "at-least-once"),
    ];
    let mut sink = open(&servers, "q-ch", OutputMode::Changelog, &options).expect("a sink");
    assert_eq!(sink.distribution(), Distribution::PerWorker);
    assert_eq!(sink.last_committed().expect("an answer"), None);
    write_changes(&mut *sink);
    assert_eq!(
        texts(&consume(&servers, "changes")),
        [
            r#"{"id":1} {"before":null,"after":{"id":1,"name":"a"},"op":"c"}"#,
            r#"{"id":2} {"before":{"id":2,"name":"b"},"after":{"id":2,"name":"c"},"op":"u"}"#,
            r#"{"id":3} {"before":{"id":3,"name":"d"},"after":null,"op":"d"}"#,
        ]
    );
}

#[test]
fn a_row_with_the_columns_of_a_record_is_that_record() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    for topic in ["columns-a", "columns-b"] {
        kafka.create_topic(topic, 3);
    }
    let header_columns: Vec<Box<dyn ArrayBuilder>> = vec![
        Box::new(StringBuilder::new()),
        Box::new(BinaryBuilder::new()),
    ];
    let fields = vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
    ];
    let mut headers = ListBuilder::new(StructBuilder::new(fields, header_columns));
    for (index, name) in ["h", "i"].into_iter().enumerate() {
        let entry = headers.values();
        let names = entry.field_builder::<StringBuilder>(0).expect("names");
        names.append_value(name);
        let values = entry.field_builder::<BinaryBuilder>(1).expect("values");
        values.append_option((index == 0).then_some([0xff_u8, 0]));
        entry.append(true);
    }
    headers.append(true);
    headers.append(false);
    headers.append(false);
    let topics = ["columns-a", "columns-b", "columns-a"];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Topic", Arc::new(StringArray::from(topics.to_vec()))),
        (
            "value",
            Arc::new(BinaryArray::from(vec![Some(&b"x"[..]), None, Some(b"")])),
        ),
        (
            "key",
            Arc::new(StringArray::from(vec![Some("k"), Some("k"), None])),
        ),
        (
            "partition",
            Arc::new(Int32Array::from(vec![Some(2), Some(1), Some(0)])),
        ),
        ("headers", Arc::new(headers.finish())),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("a batch");
    let options = [("deliveryGuarantee", "at-least-once")];
    let mut sink = open_for(
        &servers,
        "q-columns",
        OutputMode::Append,
        &options,
        batch.schema(),
    )
    .expect("a sink");
    write(&mut *sink, 0, batch, None);
    let read = |topic: &str, count| {
        let options = [
            ("subscribe", topic),
            ("startingOffsets", "earliest"),
            ("includeHeaders", "true"),
        ];
        let mut source = read::open(&servers, &options, None).expect("a source");
        let mut rows = read::rows(&mut *source, &[0, 1, 3, 7], count);
        rows.sort();
        rows
    };
    assert_eq!(
        read("columns-a", 2),
        [",,0,", "6b,78,2,[{key: h, value: ff00}, {key: i, value: }]"]
    );
    assert_eq!(read("columns-b", 1), ["6b,,1,"]);
}

#[test]
fn nulls_and_times_of_json_are_as_the_options_say() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("styled", 1);
    let times = TimestampMicrosecondArray::from(vec![1_767_268_800_000_000]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("t", Arc::new(times.with_timezone("UTC"))),
        ("n", Arc::new(StringArray::from(vec![None::<&str>]))),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("a batch");
    let own = [
        ("topic", "styled"),
        ("format", "json"),
        ("keyColumns", "t"),
        ("deliveryGuarantee", "at-least-once"),
    ];
    let styled = [
        ("keyFormat", "raw"),
        ("ignoreNullFields", "false"),
        ("timeZone", "Europe/Berlin"),
    ];
    for options in [own.to_vec(), [&own[..], &styled].concat()] {
        let mut sink = open_for(
            &servers,
            "q-styled",
            OutputMode::Append,
            &options,
            batch.schema(),
        )
        .expect("a sink");
        write(&mut *sink, 0, batch.clone(), None);
    }
    assert_eq!(
        texts(&consume(&servers, "styled")),
        [
            r#"2026-01-01T13:00:00.000+01:00 {"t":"2026-01-01T13:00:00.000+01:00","n":null}"#,
            r#"{"t":"2026-01-01T12:00:00.000Z"} {"t":"2026-01-01T12:00:00.000Z"}"#,
        ]
    );
}

#[test]
fn what_cannot_be_written_is_refused_with_the_remedy() {
    let cases: [(OutputMode, &[(&str, &str)], &str); 6] = [
        (
            OutputMode::Complete,
            &[("topic", "t"), ("format", "json")],
            "'outputMode' = 'update'",
        ),
        (OutputMode::Append, &[("format", "json")], "write the topic"),
        (OutputMode::Append, &[("topic", "t")], "'format' = 'json'"),
        (
            OutputMode::Update,
            &[("topic", "t"), ("format", "json"), ("keyColumns", "name")],
            "'id' is missing",
        ),
        (
            OutputMode::Append,
            &[("topic", "t"), ("format", "json"), ("keyColumns", "nam")],
            "id, name",
        ),
        (
            OutputMode::Append,
            &[
                ("topic", "t"),
                ("format", "json"),
                ("kafka.transactional.id", "x"),
            ],
            "transactionalIdPrefix",
        ),
    ];
    for (mode, options, part) in cases {
        let error = open("h:1", "q", mode, options).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_topic_or_broker_that_is_not_there_is_named_in_time() {
    let options = [("topic", "nowhere"), ("format", "json")];
    let fails = |servers: &str, part: &str| {
        let began = Instant::now();
        let mut sink = open(servers, "q", OutputMode::Append, &options).expect("a sink");
        let error = sink.last_committed().expect_err(part).to_string();
        assert!(
            error.contains(part) && error.contains("'nowhere'"),
            "{error}"
        );
        assert!(began.elapsed() < Duration::from_secs(11), "{error}");
    };
    fails("127.0.0.1:1", "127.0.0.1:1");
    if let Kafka::Real(cluster) = Kafka::shared() {
        fails(&cluster.servers(), "Create the topic");
    }
}
