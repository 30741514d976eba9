//! JSON to Avro and back by two queries of the command, and a registry that wants a login.

use std::fs;

use crate::broker::{consume, produce_values, secure};
use crate::registry::TestRegistry;
use crate::{run, said};

#[test]
fn records_go_from_query_to_query_by_a_registry() {
    let Some(cluster) = secure() else {
        return;
    };
    let servers = cluster.servers();
    for topic in ["words", "counted", "told", "unread"] {
        cluster.create_topic(topic, 1, &[]);
    }
    let registry = TestRegistry::start();
    // erin:registry-secret
    registry.protect("Basic ZXJpbjpyZWdpc3RyeS1zZWNyZXQ=");
    let kafka = format!("'connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}'");
    let avro = format!(
        "{kafka}, 'format' = 'avro', 'schema.registry.url' = '{}', 'schema.registry.username' = 'erin',
         'schema.registry.password' = '${{ENV:REGISTRY_PASSWORD}}'",
        registry.url()
    );
    let begin = "'startingOffsets' = 'earliest'";
    let end = "'trigger' = 'available-now'";
    let first = format!(
        "CREATE TABLE words (word STRING, at TIMESTAMP) WITH ({kafka}, 'subscribe' = 'words', {begin}, 'format' = 'json');
         CREATE TABLE counted WITH ({avro}, 'topic' = 'counted', 'outputMode' = 'update', {end}, 'checkpointLocation' = 'first');
         INSERT INTO counted SELECT word, count(*) AS n, max(at) AS last, CAST(sum(1.5) AS DECIMAL(9, 2)) AS d FROM words GROUP BY word;"
    );
    let second = format!(
        "CREATE TABLE counted (word STRING, n BIGINT, last TIMESTAMP, d DECIMAL(12, 3), more STRING)
           WITH ({avro}, 'subscribe' = 'counted', {begin});
         CREATE TABLE unread WITH ({kafka}, 'topic' = 'unread');
         CREATE TABLE told WITH ({kafka}, 'topic' = 'told', 'format' = 'json', 'deadLetter' = 'unread', {end}, 'checkpointLocation' = 'second');
         INSERT INTO told SELECT word, n, last, d, more, _metadata.offset FROM counted;"
    );
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    fs::write(dir.join("first.sql"), first).expect("written");
    fs::write(dir.join("second.sql"), second).expect("written");
    produce_values(
        &servers,
        "words",
        0,
        &[
            r#"{"word":"a","at":"2026-01-01T00:00:00.000001Z"}"#,
            r#"{"word":"a"}"#,
        ],
    );
    let rounds: [(&[&str], &[&str]); 2] = [
        (
            &[],
            &[r#"{"word":"a","n":2,"last":"2026-01-01T00:00:00.000001Z","d":3.000,"offset":0}"#],
        ),
        (
            // A poison record between those of the query.
            &["poison"],
            &[r#"{"word":"b","n":1,"d":1.500,"offset":3}"#],
        ),
    ];
    let mut wanted = vec![];
    for (poison, told) in rounds {
        if !poison.is_empty() {
            produce_values(&servers, "counted", 0, poison);
            produce_values(&servers, "words", 0, &[r#"{"word":"b"}"#]);
        }
        for script in ["first.sql", "second.sql"] {
            let (ended, words) = run(dir, &["run", script, "--progress", "none"]);
            assert!(ended, "{words}");
            let (explained, words) = run(dir, &["explain", script]);
            assert!(explained, "{words}");
        }
        wanted.extend(told.iter().map(|told| (None, Some((*told).to_owned()))));
        assert_eq!(consume(&servers, "told"), wanted);
    }
    assert_eq!(
        consume(&servers, "unread"),
        [(None, Some("poison".to_owned()))]
    );
    assert_eq!(registry.subject("counted-value").len(), 1);
    assert!(!said(dir).contains("registry-secret"), "{}", said(dir));
}
