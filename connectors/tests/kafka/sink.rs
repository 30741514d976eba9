//! The sink.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use tidemark_connectors::storage::Disk;
use tidemark_connectors::{
    ChangeType, Delivery, Distribution, Options, Output, OutputMode, Result, Sink, SinkConfig,
    open_sink,
};

use crate::broker::{Kafka, consume};

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
    let all = [("kafka.bootstrap.servers", servers)];
    let options: Options = all.iter().chain(options).copied().collect();
    let config = SinkConfig {
        query_name: "q".into(),
        query_id: query.into(),
        schema: rows(&[], &[]).schema(),
        mode,
        key: (mode != OutputMode::Append).then(|| vec![0]),
        storage: Arc::new(Disk),
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
