//! SASL and TLS, and what is said where they fail.

use std::time::{Duration, Instant};

use tidemark_connectors::ReadLimit;

use crate::broker::{Cluster, cluster, produce_values};
use crate::read::{open, rows};

/// How long an error may take.
const SOON: Duration = Duration::from_secs(10);

fn login<'a>(
    ca: &'a str,
    mechanism: &'a str,
    user: &'a str,
    password: &'a str,
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("subscribe", "secure"),
        ("startingOffsets", "earliest"),
        ("kafka.security.protocol", "SASL_SSL"),
        ("kafka.ssl.ca.location", ca),
        ("kafka.sasl.mechanism", mechanism),
        ("kafka.sasl.username", user),
        ("kafka.sasl.password", password),
    ]
}

fn fails(servers: &str, options: &[(&str, &str)], part: &str) {
    let mut source = open(servers, options, None).expect("a source");
    let began = Instant::now();
    let error = source
        .plan(ReadLimit::default())
        .expect_err(part)
        .to_string();
    assert!(error.contains(part), "{part}: {error}");
    assert!(!error.contains("-secret"), "{error}");
    assert!(began.elapsed() < SOON, "{:?}: {error}", began.elapsed());
}

fn reads(servers: &str, options: &[(&str, &str)]) {
    let mut source = open(servers, options, None).expect("a source");
    assert_eq!(rows(&mut *source, &[4], 2), ["0", "1"]);
}

#[test]
fn who_may_reads_and_who_may_not_is_told_why() {
    let Some(cluster) = cluster(1, true) else {
        return;
    };
    cluster.create_topic("secure", 1, &[]);
    produce_values(&cluster.servers(), "secure", 0, &["a", "b"]);
    sasl(&cluster);
    mutual_tls(&cluster);
}

fn sasl(cluster: &Cluster) {
    let servers = cluster.sasl_servers();
    let path = |name: &str| cluster.path(name).display().to_string();
    let (ca, foreign) = (path("ca.pem"), path("foreign.pem"));
    reads(&servers, &login(&ca, "PLAIN", "alice", "alice-secret"));
    reads(&servers, &login(&ca, "SCRAM-SHA-256", "bob", "bob-secret"));
    for (mechanism, user) in [("PLAIN", "alice"), ("SCRAM-SHA-256", "bob")] {
        let wrong = login(&ca, mechanism, user, "wrong-secret");
        fails(&servers, &wrong, "'kafka.sasl.password'");
    }
    let unknown_ca = login(&foreign, "PLAIN", "alice", "alice-secret");
    fails(&servers, &unknown_ca, "'kafka.ssl.ca.location'");
    // They may log in, and no more.
    for (mechanism, user) in [("PLAIN", "dave"), ("SCRAM-SHA-512", "carol")] {
        let password = format!("{user}-secret");
        let powerless = login(&ca, mechanism, user, &password);
        fails(&servers, &powerless, "the right to read");
    }
    // The other protocol.
    let plain = [("subscribe", "secure")];
    let mut source = open(&servers, &plain, None).expect("a source");
    let error = source
        .plan(ReadLimit::default())
        .expect_err("TLS is spoken there");
    assert!(error.to_string().contains(&servers), "{error}");
}

fn mutual_tls(cluster: &Cluster) {
    let servers = cluster.tls_servers();
    let path = |name: &str| cluster.path(name).display().to_string();
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let without = vec![
        ("subscribe", "secure"),
        ("startingOffsets", "earliest"),
        ("kafka.security.protocol", "SSL"),
        ("kafka.ssl.ca.location", ca.as_str()),
    ];
    let mut with = without.clone();
    with.push(("kafka.ssl.certificate.location", &certificate));
    with.push(("kafka.ssl.key.location", &key));
    reads(&servers, &with);
    fails(&servers, &without, "'kafka.ssl.certificate.location'");
}
