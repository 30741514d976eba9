//! Secrets show nowhere: not in plans, progress, errors, what is logged, the shell or the checkpoint.

use std::fs;
use std::path::Path;

use crate::broker::{Cluster, consume, produce_values, secure};
use crate::{run, said};

/// A script that copies a topic: `source` and `sink` are options of how to log in.
fn script(cluster: &Cluster, source: &str, sink: &str) -> String {
    let (servers, ca) = (cluster.sasl_servers(), cluster.path("ca.pem"));
    let common = format!(
        "'connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'kafka.security.protocol' = 'SASL_SSL',
         'kafka.ssl.ca.location' = '{}', 'format' = 'json'",
        ca.display()
    );
    format!(
        "CREATE TABLE i (id BIGINT) WITH ({common}, 'subscribe' = 'secrets', 'startingOffsets' = 'earliest', {source});
         CREATE TABLE o WITH ({common}, 'topic' = 'copies', {sink}, 'trigger' = 'available-now', 'checkpointLocation' = 'ckpt');
         INSERT INTO o SELECT id FROM i;"
    )
}

const PLAIN: &str = "'kafka.sasl.mechanism' = 'PLAIN', 'kafka.sasl.username' = 'alice', 'kafka.sasl.password' = '${ENV:ALICE_PASSWORD}'";
const SCRAM: &str = "'kafka.sasl.mechanism' = 'SCRAM-SHA-256', 'kafka.sasl.jaas.config' =
  'org.apache.kafka.common.security.scram.ScramLoginModule required username=\"bob\" password=\"${FILE:bob}\";'";

/// All passwords of the cluster end so.
fn shows(text: &[u8]) -> bool {
    text.windows(7).any(|part| part == b"-secret")
}

/// No file of a directory shows a secret.
fn search(dir: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files += search(&path);
        } else {
            let bytes = fs::read(&path).expect("a file");
            assert!(!shows(&bytes), "{} shows a secret", path.display());
            files += 1;
        }
    }
    files
}

#[test]
fn secrets_are_shown_nowhere() {
    let Some(cluster) = secure() else {
        return;
    };
    cluster.create_topic("secrets", 1, &[]);
    cluster.create_topic("copies", 1, &[]);
    produce_values(&cluster.servers(), "secrets", 0, &[r#"{"id":1}"#, "broken"]);
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    fs::write(dir.join("bob"), "bob-secret\n").expect("written");
    fs::write(dir.join("good.sql"), script(cluster, PLAIN, SCRAM)).expect("written");

    let (planned, words) = run(dir, &["explain", "good.sql"]);
    assert!(planned, "{words}");
    let (ended, words) = run(dir, &["run", "good.sql", "--progress", "json"]);
    assert!(ended && words.contains("KafkaSource"), "{words}");
    assert_eq!(consume(&cluster.servers(), "copies").len(), 2);
    let (looked, words) = run(dir, &["checkpoint", "ckpt"]);
    assert!(looked, "{words}");

    // Written into the script, and wrong in one way or another.
    let (wrong, right) = (
        PLAIN.replace("${ENV:ALICE_PASSWORD}", "wrong-secret"),
        PLAIN.replace("${ENV:ALICE_PASSWORD}", "alice-secret"),
    );
    let failfast = format!("{right}, 'mode' = 'FAILFAST'");
    let unknown = format!("{right}, 'kafka.no.such' = '1'");
    let misspelt = right.replace("sasl.password", "sasl.pasword");
    let jaas = SCRAM.replace("username", "user");
    let failing = [
        (wrong.as_str(), SCRAM, "sasl.password"),
        (PLAIN, wrong.as_str(), "sasl.password"),
        (failfast.as_str(), SCRAM, "secrets-0@1"),
        (unknown.as_str(), SCRAM, "kafka.no.such"),
        (misspelt.as_str(), SCRAM, "kafka.sasl.pasword"),
        (PLAIN, jaas.as_str(), "kafka.sasl.jaas.config"),
    ];
    for (source, sink, part) in failing {
        fs::write(dir.join("bad.sql"), script(cluster, source, sink)).expect("written");
        let _ = fs::remove_dir_all(dir.join("ckpt-bad"));
        let text = fs::read_to_string(dir.join("bad.sql")).expect("a script");
        // An error may show the line that it is about: all of it.
        let text = text.replace("'ckpt'", "'ckpt-bad'").replace('\n', " ");
        fs::write(dir.join("bad.sql"), text).expect("written");
        let (ended, words) = run(dir, &["run", "bad.sql", "--progress", "json"]);
        assert!(!ended && words.contains(part), "{part}: {words}");
    }

    // The shell, which is asked what there is.
    let tables = script(cluster, &right, SCRAM).replace("INSERT INTO o SELECT id FROM i;", "");
    let asked =
        format!("{tables} SHOW TABLES; DESCRIBE i; SHOW CREATE TABLE i; SHOW CREATE TABLE o;");
    let (answered, words) = run(dir, &["sql", "-e", &asked]);
    assert!(answered && words.contains("kafka.sasl.password"), "{words}");

    assert!(!shows(said(dir).as_bytes()), "{}", said(dir));
    assert!(search(&dir.join("ckpt")) > 1);
}
