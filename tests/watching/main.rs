//! `--http` and `tidemark why`: what a query tells of itself while it runs, and from its checkpoint.

#![cfg(unix)]

mod place;
mod why;

use std::net::TcpListener;
use std::time::Duration;

use place::{Place, get};
use serde_json::Value;

const SCRIPT: &str = "
CREATE TABLE events (k STRING, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE counts WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json', 'checkpointLocation' = 'ckpt');
INSERT INTO counts
  SELECT window.start AS s, k, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), k;
CREATE TABLE raw WITH ('connector' = 'noop', 'queryName' = 'as it is');
INSERT INTO raw SELECT k FROM events;
";

const ROWS: [(&str, &str); 2] = [
    ("in/a.json", r#"{"k":"a","ts":"2026-01-01T00:00:01Z"}"#),
    ("in/b.json", r#"{"k":"a","ts":"2026-01-01T00:12:00Z"}"#),
];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

#[test]
fn queries_tell_of_themselves() {
    let place = Place::new(SCRIPT);
    let running = place.run(&[]);
    running.until("both queries to be ready", "/readyz", |status, body| {
        (status, body) == (200, "ok\n")
    });
    assert_eq!(running.get("/healthz"), (200, "ok\n".into()));
    let index = running.get("/").1;
    for path in ["/readyz", "/queries/NAME/progress", "/metrics"] {
        assert!(index.contains(path), "{index}");
    }
    assert_eq!(
        running.get("/queries/counts/progress"),
        (200, "null\n".into())
    );
    for (name, row) in ROWS {
        place.write(name, row);
    }
    let (_, progress) = running.until("rows", "/queries/counts/progress", |_, body| {
        json(body)["sink"]["numOutputRows"] == 1
    });
    // Spark's names.
    let progress = json(&progress);
    assert_eq!(progress["name"], "counts");
    assert!(progress["durationMs"]["triggerExecution"].is_u64());
    assert_eq!(
        progress["eventTime"]["watermark"],
        "2026-01-01T00:11:00.000Z"
    );
    assert_eq!(progress["stateOperators"][0]["numRowsTotal"], 1);
    let all = json(&running.get("/queries/counts/progress?recent").1);
    let all = all.as_array().expect("a list");
    let read = all.iter().filter_map(|one| one["numInputRows"].as_u64());
    assert_eq!(read.sum::<u64>(), 2);
    assert_eq!(all.last(), Some(&progress));
    let last = json(&running.get("/queries/counts/progress?recent=1").1);
    assert_eq!(last.as_array().map(Vec::len), Some(1));
    assert_eq!(running.get("/queries/counts/progress?recent=x").0, 400);

    let plan = running.get("/queries/as%20it%20is/plan").1;
    assert!(plan.starts_with("Query as it is\n"), "{plan}");
    let queries = json(&running.get("/queries").1);
    let names: Vec<&Value> = (queries.as_array().expect("a list").iter())
        .map(|query| &query["name"])
        .collect();
    assert_eq!(names, ["counts", "as it is"]);
    assert_eq!(queries[0]["isActive"], true);
    assert_eq!(queries[0]["runId"], progress["runId"]);
    assert!(queries[0]["status"]["message"].is_string(), "{queries}");

    let metrics = running.get("/metrics").1;
    assert!(metrics.contains("tidemark_query_running{query=\"counts\"} 1\n"));
    let (status, said) = running.get("/queries/count/plan");
    assert_eq!(status, 404);
    assert_eq!(said, "no query 'count'; there are: counts, as it is\n");
    assert_eq!(running.get("/queries/counts/state").0, 404);
    let refused = ureq::post(running.url("/queries")).send_empty();
    assert!(matches!(refused, Err(ureq::Error::StatusCode(405))));
    running.stop();
}

#[test]
fn a_query_that_fails_is_told_of_while_the_others_run() {
    let place = Place::new(&format!(
        "{SCRIPT} CREATE TABLE parts WITH ('connector' = 'noop');
         INSERT INTO parts SELECT 1 / (length(k) - 1) AS part FROM events;"
    ));
    let running = place.run(&[]);
    place.write(ROWS[0].0, ROWS[0].1);
    let (_, said) = running.until("a failure", "/readyz", |status, body| {
        status == 503 && body.starts_with("query 'parts' has failed: ")
    });
    assert_eq!(
        said.lines().count(),
        1 + said.matches("\n ").count(),
        "{said}"
    );
    assert_eq!(running.get("/healthz").0, 200);
    let queries = json(&running.get("/queries").1);
    let parts = &queries.as_array().expect("a list")[2];
    assert_eq!(parts["isActive"], false);
    let cause = parts["exception"].as_str().expect("a cause");
    assert!(cause.contains("DIVIDE_BY_ZERO"), "{cause}");
    assert_eq!(running.get("/queries/parts/plan").0, 200);
    running.stop();
}

#[test]
fn both_servers_can_run_and_addresses_are_checked() {
    let place = Place::new(SCRIPT);
    let running = place.run(&["--metrics", "127.0.0.1:0"]);
    running.until("a start", "/readyz", |status, _| status == 200);
    let metrics = running
        .said()
        .strip_prefix("metrics: ")
        .expect("it says where");
    assert_eq!(get(metrics).0, 200);
    assert_eq!(get(&metrics.replace("/metrics", "/queries")).0, 404);
    running.stop();

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    // A port alone is one of the loopback interface.
    assert_eq!(
        place.fails(&["run", "s.sql", "--http", &port.to_string()]),
        format!(
            "error: cannot serve HTTP on 127.0.0.1:{port}: Address already in use (os error 98); another program listens there: write another port, or 0 for any that is free\n"
        )
    );
    assert_eq!(
        place.fails(&["run", "s.sql", "--http", "localhost"]),
        "error: cannot serve HTTP on 'localhost': it is no address; write HOST:PORT, such as 127.0.0.1:8080, or port 0 for any that is free\n"
    );
}

#[test]
fn an_answer_under_way_is_given_before_the_end() {
    let place = Place::new(SCRIPT);
    let running = place.run(&[]);
    running.until("a start", "/readyz", |status, _| status == 200);
    // One that never asks holds nobody up.
    let _silent = running.connect();
    let began = std::time::Instant::now();
    running.stop();
    assert!(began.elapsed() < Duration::from_secs(4), "it took too long");
}
