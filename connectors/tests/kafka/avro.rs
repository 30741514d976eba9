//! Avro records, with a schema that is given and with a registry.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;
use tidemark_connectors::{ChangeType, OutputMode, Sink, Source};

use crate::broker::{Kafka, PATIENCE, await_that, config, produce_values, secure};
use crate::read::{open, plan, rows, rows_of};
use crate::registry::TestRegistry;
use crate::sink::{self, rows as batch, write};

const AVRO: (&str, &str) = ("format", "avro");
const EARLIEST: (&str, &str) = ("startingOffsets", "earliest");

fn columns(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields.iter();
    let fields = fields.map(|(name, of)| Field::new(*name, of.clone(), true));
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

/// A sink of at-least-once, so that the mock cluster will do.
fn to(servers: &str, topic: &str, mode: OutputMode, more: &[(&str, &str)]) -> Box<dyn Sink> {
    let own = [
        ("topic", topic),
        AVRO,
        ("keyColumns", "id"),
        ("deliveryGuarantee", "at-least-once"),
    ];
    sink::open(servers, topic, mode, &[&own, more].concat()).expect("a sink")
}

fn from(
    servers: &str,
    topic: &str,
    schema: Option<SchemaRef>,
    more: &[(&str, &str)],
) -> Box<dyn Source> {
    let own = [("subscribe", topic), EARLIEST, AVRO];
    open(servers, &[&own, more].concat(), schema).expect("a source")
}

fn send(servers: &str, topic: &str, value: &[u8]) {
    let producer: BaseProducer = config(servers).create().expect("a producer");
    let record = BaseRecord::<[u8], [u8]>::to(topic).payload(value);
    let sent = producer.send(record.partition(0));
    sent.map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("delivered");
}

#[test]
fn rows_go_out_and_come_back_by_a_registry_whoever_wrote_them() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("avro", 1);
    let registry = TestRegistry::start();
    let url = registry.url();
    let by_registry = ("schema.registry.url", url.as_str());
    let mut sink = to(&servers, "avro", OutputMode::Append, &[by_registry]);
    write(&mut *sink, 0, batch(&[1, 2], &["a", "b"]), None);
    assert_eq!(
        registry.subject("avro-value"),
        [
            r#"{"type":"record","name":"topLevelRecord","fields":[{"name":"id","type":["null","long"],"default":null},{"name":"name","type":["null","string"],"default":null}]}"#
        ]
    );
    // A poison record, and one of an older program.
    produce_values(&servers, "avro", 0, &["{\"id\":3}"]);
    let older = r#"{"type":"record","name":"Old","fields":[{"name":"id","type":"int"}]}"#;
    let older = registry.add("avro-value", json!({"schema": older})) as u8;
    send(&servers, "avro", &[0, 0, 0, 0, older, 8]);
    // The newest schema of the subject, which has no field for the names.
    let newest = [by_registry, ("auto.register.schemas", "false")];
    let sink = to(&servers, "avro", OutputMode::Append, &newest);
    let error = sink.writer(0).err().expect("no field").to_string();
    assert!(error.contains("no field for the column 'name'"), "{error}");

    let wanted = columns(&[("name", DataType::Utf8), ("id", DataType::Int64)]);
    let dropping = [by_registry, ("mode", "DROPMALFORMED")];
    let mut source = from(&servers, "avro", Some(Arc::clone(&wanted)), &dropping);
    assert_eq!(rows(&mut *source, &[1, 0], 3), ["1,a", "2,b", "4,"]);
    let mut source = from(&servers, "avro", Some(wanted), &[by_registry]);
    let range = plan(&mut *source).expect("a range");
    let error = rows_of(&*source, &range, &[0]).expect_err("a poison record");
    assert!(error.to_string().contains("avro-0@2"), "{error}");
    assert_eq!(
        registry.subject("avro-value").len(),
        2,
        "nothing was added but the schema of the rows"
    );
}

#[test]
fn changes_are_envelopes_and_a_row_that_is_gone_a_tombstone() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    let registry = TestRegistry::start();
    let url = registry.url();
    let by_registry = ("schema.registry.url", url.as_str());
    let changes = || {
        Some(vec![
            ChangeType::Insert,
            ChangeType::UpdatePreimage,
            ChangeType::UpdatePostimage,
            ChangeType::Delete,
        ])
    };
    let batch = || batch(&[1, 2, 2, 3], &["a", "b", "c", "d"]);

    kafka.create_topic("avro-changes", 1);
    let named = [
        by_registry,
        ("recordName", "Row"),
        ("recordNamespace", "a.b"),
    ];
    let mut sink = to(&servers, "avro-changes", OutputMode::Changelog, &named);
    write(&mut *sink, 0, batch(), changes());
    let row = || {
        let fields = [("id", DataType::Int64), ("name", DataType::Utf8)];
        DataType::Struct(columns(&fields).fields().clone())
    };
    let envelope = columns(&[("before", row()), ("after", row()), ("op", DataType::Utf8)]);
    let mut source = from(&servers, "avro-changes", Some(envelope), &[by_registry]);
    assert_eq!(
        rows(&mut *source, &[0, 1, 2], 3),
        [
            ",{id: 1, name: a},c",
            "{id: 2, name: b},{id: 2, name: c},u",
            "{id: 3, name: d},,d"
        ]
    );

    kafka.create_topic("avro-update", 1);
    let mut sink = to(&servers, "avro-update", OutputMode::Update, &[by_registry]);
    write(&mut *sink, 0, batch(), changes());
    let rest = [("subscribe", "avro-update"), EARLIEST, ("format", "raw")];
    let raw = columns(&[("value", DataType::Binary)]);
    let mut source = open(&servers, &rest, Some(raw)).expect("a source");
    let values = rows(&mut *source, &[0], 3);
    assert_eq!(values[0].len(), 2 * (5 + 2 + 3), "{values:?}");
    assert_eq!(values[2], "", "{values:?}");
}

#[test]
fn a_schema_is_given_as_json_or_as_a_file() {
    let kafka = Kafka::shared();
    let servers = kafka.servers();
    kafka.create_topic("avro-given", 1);
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"NAME","type":"string"},
        {"name":"kind","type":{"type":"enum","name":"K","symbols":["X","Y"]},"default":"Y"},
        {"name":"id","type":"long"}]}"#;
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), schema).expect("written");
    let path = file.path().display().to_string();
    let mut sink = to(
        &servers,
        "avro-given",
        OutputMode::Append,
        &[("avroSchema", schema)],
    );
    write(&mut *sink, 0, batch(&[1, -2], &["a", "b"]), None);
    let mut source = from(&servers, "avro-given", None, &[("avroSchema", &path)]);
    assert_eq!(rows(&mut *source, &[0, 1, 2], 2), ["a,Y,1", "b,Y,-2"]);

    let own = [("subscribe", "avro-given"), AVRO, ("avroSchema", schema)];
    let wrong = columns(&[("id", DataType::Utf8)]);
    let error = open(&servers, &own, Some(wrong)).expect_err("a long");
    assert!(error.to_string().contains("has long for it"), "{error}");
    let error = open(
        &servers,
        &own[..2],
        Some(columns(&[("id", DataType::Int64)])),
    );
    let error = error.expect_err("no schema").to_string();
    assert!(error.contains("'schema.registry.url'"), "{error}");
}

/// A program that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_registry_with_tls_is_believed_with_the_certificate_of_its_ca() {
    let Some(cluster) = secure() else {
        return;
    };
    let servers = cluster.servers();
    cluster.create_topic("avro-tls", 1, &[]);
    send(&servers, "avro-tls", &[0, 0, 0, 0, 1, 14]);
    // openssl serves files that hold whole answers.
    let place = tempfile::tempdir().expect("a directory");
    let answer = json!({"schema": json!({"type": "record", "name": "R", "fields": [
        {"name": "id", "type": "int"}]}).to_string()});
    let answer = format!("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n{answer}");
    fs::create_dir_all(place.path().join("schemas/ids")).expect("a directory");
    fs::write(place.path().join("schemas/ids/1"), answer).expect("written");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port().to_string();
    drop(free);
    let _server = Ends(
        Command::new("openssl")
            .args(["s_server", "-HTTP", "-accept", &format!("127.0.0.1:{port}")])
            .arg("-cert")
            .arg(cluster.path("broker.pem"))
            .arg("-key")
            .arg(cluster.path("broker.key"))
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs"),
    );
    await_that("openssl", || {
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok()
    });
    let url = format!("https://127.0.0.1:{port}");
    let by_registry = ("schema.registry.url", url.as_str());
    let schema = || Some(columns(&[("id", DataType::Int64)]));
    let ca = cluster.path("ca.pem").display().to_string();
    let trusting = [by_registry, ("schema.registry.ssl.ca.location", &ca)];
    let mut source = from(&servers, "avro-tls", schema(), &trusting);
    assert_eq!(rows(&mut *source, &[0], 1), ["7"]);

    let mut source = from(&servers, "avro-tls", schema(), &[by_registry]);
    let range = plan(&mut *source).expect("a range");
    let error = rows_of(&*source, &range, &[0]).expect_err("a foreign CA");
    let error = error.to_string();
    assert!(error.contains("schema.registry.ssl.ca.location"), "{error}");
}
