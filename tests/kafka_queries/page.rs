//! The examples of `docs/connectors/kafka.md` do what the page says.

use std::fs;
use std::path::Path;

use crate::broker::{await_that, consume, produce_values, secure};
use crate::{kill, run, said, start};

/// The SQL of the page, block by block.
fn examples() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/connectors/kafka.md");
    let page = fs::read_to_string(path).expect("the page");
    let blocks = page.split("```sql\n").skip(1);
    let ends = |block: &str| block.split("```").next().map(str::to_owned);
    blocks.filter_map(ends).collect()
}

#[test]
fn the_examples_of_the_page_run() {
    let Some(cluster) = secure() else {
        return;
    };
    let (first, secured) = {
        let mut examples = examples();
        (examples.remove(0), examples)
    };
    let servers = cluster.servers();
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    cluster.create_topic("events", 2, &[]);
    cluster.create_topic("revenue", 1, &[]);
    let events = [
        r#"{"user":"ada","price":1.5,"ts":"2026-01-01T00:00:00Z"}"#,
        r#"{"user":"ada","price":2.0,"ts":"2026-01-01T00:00:01Z"}"#,
    ];
    produce_values(&servers, "events", 0, &events);
    let script = first
        .replace("host1:9092,host2:9092", &servers)
        .replace("host1:9092", &servers);
    fs::write(dir.join("first.sql"), script).expect("written");
    let running = start(dir, &["run", "first.sql", "--progress", "none"]);
    let total = (
        Some(r#"{"user":"ada"}"#.to_owned()),
        Some(r#"{"user":"ada","total":3.5}"#.to_owned()),
    );
    await_that("the total", || {
        consume(&servers, "revenue").contains(&total)
    });
    kill(running);

    let file = |name: &str| cluster.path(name).display().to_string();
    fs::write(dir.join("key"), "a key without a password takes any\n").expect("written");
    for example in &secured {
        let table = example
            .replace("host1:9093", &cluster.sasl_servers())
            .replace("host1:9094", &cluster.tls_servers())
            .replace("host1:9092", &servers)
            .replace("/etc/ssl/kafka-ca.pem", &file("ca.pem"))
            .replace("/etc/ssl/ada.pem", &file("client.pem"))
            .replace("/etc/ssl/ada.key", &file("client.key"))
            .replace("/run/secrets/ada-key", "key")
            .replace("/run/secrets/kafka-token", &file("token"))
            .replace("'ada'", "'erin'");
        assert_ne!(&table, example, "it names hosts and files");
        let script = format!(
            "{table} CREATE TABLE seen WITH ('connector' = 'noop', 'trigger' = 'available-now');
             INSERT INTO seen SELECT user FROM events;"
        );
        fs::write(dir.join("secured.sql"), script).expect("written");
        let (ended, words) = run(dir, &["run", "secured.sql", "--progress", "none"]);
        assert!(ended, "{table}: {words}");
    }
    assert!(secured.len() >= 3, "{}", said(dir));
}
