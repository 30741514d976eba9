//! SASL and TLS, and what is said where they fail.

use std::time::{Duration, Instant};

use tidemark_connectors::{OutputMode, ReadLimit, Result, Sink};

use crate::broker::{Cluster, consume, produce_values, secure};
use crate::read::{open, rows};
use crate::sink;

/// How long an error may take.
const SOON: Duration = Duration::from_secs(10);

const READING: [(&str, &str); 2] = [("subscribe", "secure"), ("startingOffsets", "earliest")];
const WRITING: [(&str, &str); 2] = [("topic", "secure"), ("format", "json")];

fn login<'a>(
    ca: &'a str,
    mechanism: &'a str,
    user: &'a str,
    password: &'a str,
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("kafka.security.protocol", "SASL_SSL"),
        ("kafka.ssl.ca.location", ca),
        ("kafka.sasl.mechanism", mechanism),
        ("kafka.sasl.username", user),
        ("kafka.sasl.password", password),
    ]
}

/// What an attempt fails with, in time.
fn in_time<T>(part: &str, attempt: impl FnOnce() -> Result<T>) {
    let began = Instant::now();
    let Err(error) = attempt() else {
        panic!("it works, and '{part}' was expected");
    };
    let error = error.to_string();
    assert!(error.contains(part), "{part}: {error}");
    assert!(!error.contains("-secret"), "{error}");
    let taken = began.elapsed();
    assert!(taken < SOON, "{taken:?}: {error}");
    println!("{taken:?}: {part}");
}

fn fails(servers: &str, options: &[(&str, &str)], part: &str) {
    let options = [&READING, options].concat();
    let mut source = open(servers, &options, None).expect("a source");
    in_time(part, || source.plan(ReadLimit::default()));
}

fn reads(servers: &str, options: &[(&str, &str)]) {
    let options = [&READING, options].concat();
    let mut source = open(servers, &options, None).expect("a source");
    assert_eq!(rows(&mut *source, &[4], 2), ["0", "1"]);
}

fn sink(servers: &str, options: &[(&str, &str)]) -> Box<dyn Sink> {
    let options = [&WRITING, options].concat();
    sink::open(servers, "secure", OutputMode::Append, &options).expect("a sink")
}

fn cannot_write(servers: &str, options: &[(&str, &str)], part: &str) {
    let mut sink = sink(servers, options);
    in_time(part, || sink.last_committed());
}

#[test]
fn who_may_does_and_who_may_not_is_told_why() {
    let Some(cluster) = secure() else {
        return;
    };
    cluster.create_topic("secure", 1, &[]);
    produce_values(&cluster.servers(), "secure", 0, &["a", "b"]);
    // What waits most of the time waits together.
    std::thread::scope(|scope| {
        for check in [logins, strangers, tokens, mutual_tls] {
            scope.spawn(move || check(cluster));
        }
    });
    rights(cluster);
}

fn logins(cluster: &Cluster) {
    let servers = cluster.sasl_servers();
    let ca = cluster.path("ca.pem").display().to_string();
    let users = [
        ("PLAIN", "alice"),
        ("SCRAM-SHA-256", "bob"),
        ("SCRAM-SHA-512", "erin"),
    ];
    for (mechanism, user) in users {
        let password = format!("{user}-secret");
        reads(&servers, &login(&ca, mechanism, user, &password));
        let wrong = login(&ca, mechanism, user, "wrong-secret");
        fails(&servers, &wrong, "'kafka.sasl.password'");
        cannot_write(&servers, &wrong, "'kafka.sasl.password'");
    }
    let no_such_mechanism = login(&ca, "SCRAM-SHA-256", "alice", "alice-secret");
    fails(&servers, &no_such_mechanism, "'kafka.sasl.mechanism'");
}

/// Brokers that are not those that were meant.
fn strangers(cluster: &Cluster) {
    let servers = cluster.sasl_servers();
    let path = |name: &str| cluster.path(name).display().to_string();
    let (ca, foreign) = (path("ca.pem"), path("foreign.pem"));
    let alice = login(&ca, "PLAIN", "alice", "alice-secret");
    let unknown_ca = login(&foreign, "PLAIN", "alice", "alice-secret");
    fails(&servers, &unknown_ca, "'kafka.ssl.ca.location'");
    cannot_write(&servers, &unknown_ca, "'kafka.ssl.ca.location'");
    let tls = [
        ("kafka.security.protocol", "SSL"),
        ("kafka.ssl.ca.location", ca.as_str()),
    ];
    fails(
        &cluster.expired_servers(),
        &tls,
        "dates in the certificates",
    );
    cannot_write(
        &cluster.expired_servers(),
        &tls,
        "dates in the certificates",
    );
    // Another protocol than the brokers'.
    fails(&servers, &[], &servers);
    let without_tls = [&alice[..], &[("kafka.security.protocol", "SASL_PLAINTEXT")]].concat();
    fails(&servers, &without_tls, &servers);
}

fn tokens(cluster: &Cluster) {
    const FILE: &str = "kafka.sasl.oauthbearer.token.endpoint.url";
    let servers = cluster.sasl_servers();
    let path = |name: &str| cluster.path(name).display().to_string();
    let ca = path("ca.pem");
    let without = [
        ("kafka.security.protocol", "SASL_SSL"),
        ("kafka.ssl.ca.location", ca.as_str()),
        ("kafka.sasl.mechanism", "OAUTHBEARER"),
    ];
    let with = |name: &str, check: &dyn Fn(&[(&str, &str)])| {
        let file = format!("file://{}", path(name));
        check(&[&without[..], &[(FILE, file.as_str())]].concat());
    };
    with("token", &|options| {
        reads(&servers, options);
        sink(&servers, options).last_committed().expect("a right");
    });
    with("no-token", &|options| fails(&servers, options, "no-token"));
    with("ca.pem", &|options| fails(&servers, options, "OAUTHBEARER"));
    fails(&servers, &without, FILE);
    cannot_write(&servers, &without, FILE);
}

fn mutual_tls(cluster: &Cluster) {
    let servers = cluster.tls_servers();
    let path = |name: &str| cluster.path(name).display().to_string();
    let ca = path("ca.pem");
    let without = [
        ("kafka.security.protocol", "SSL"),
        ("kafka.ssl.ca.location", ca.as_str()),
    ];
    let with = |name: &str, check: &dyn Fn(&[(&str, &str)])| {
        let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        let shown = [
            ("kafka.ssl.certificate.location", certificate.as_str()),
            ("kafka.ssl.key.location", key.as_str()),
        ];
        check(&[&without[..], &shown].concat());
    };
    with("client", &|options| reads(&servers, options));
    for stranger in ["foreign", "expired"] {
        with(stranger, &|options| {
            fails(&servers, options, "'kafka.ssl.certificate.location'");
        });
    }
    fails(&servers, &without, "'kafka.ssl.certificate.location'");
}

/// Those who may log in, and are given one right after the other.
fn rights(cluster: &Cluster) {
    let servers = cluster.sasl_servers();
    let ca = cluster.path("ca.pem").display().to_string();
    for (mechanism, user) in [("PLAIN", "dave"), ("SCRAM-SHA-512", "carol")] {
        let password = format!("{user}-secret");
        let login = login(&ca, mechanism, user, &password);
        fails(&servers, &login, "the right to read");
        cannot_write(&servers, &login, "the right to read (a source) or write");
    }
    let dave = login(&ca, "PLAIN", "dave", "dave-secret");
    cluster.allow("dave", &["--topic", "secure", "--operation", "Read"]);
    let began = Instant::now();
    reads(&servers, &dave);
    let taken = began.elapsed();
    assert!(taken < SOON, "it waits for the group: {taken:?}");
    cluster.allow("dave", &["--topic", "secure", "--operation", "Write"]);
    cannot_write(&servers, &dave, "'transactionalIdPrefix'");
    let transactions = [
        "--transactional-id",
        "tidemark",
        "--resource-pattern-type",
        "prefixed",
    ];
    cluster.allow(
        "dave",
        &[&transactions[..], &["--operation", "Write"]].concat(),
    );
    cannot_write(&servers, &dave, "the right to read the consumer group");
    let group = ["--group", "tidemark", "--resource-pattern-type", "prefixed"];
    cluster.allow("dave", &[&group[..], &["--operation", "Read"]].concat());
    let mut sink = sink(&servers, &dave);
    assert_eq!(sink.last_committed().expect("every right"), None);
    sink::write(&mut *sink, 0, sink::rows(&[1], &["a"]), None);
    assert_eq!(consume(&cluster.servers(), "secure").len(), 3);
}
