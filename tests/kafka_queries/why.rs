//! `tidemark why` of queries on topics: asked of a server, of a checkpoint and of a script.

use std::fs;
use std::path::Path;
use std::process::Child;

use crate::broker::{Cluster, await_that, produce_values, secure};
use crate::{kill, run, said, start};

const COUNTS: &str =
    "SELECT window.start AS s, count(*) AS n FROM e GROUP BY window(ts, '5 minutes')";

/// A directory with a query on topics; its tables are `e` and `o`.
struct Place {
    dir: tempfile::TempDir,
    topics: [String; 2],
    servers: String,
}

impl Place {
    /// Topics that are called `name` and `name-others`. `more`: options more of each table; `trigger`: of the query.
    fn new(cluster: &Cluster, name: &str, (more, trigger): (&str, &str), select: &str) -> Self {
        let servers = cluster.servers();
        let topics = [name.to_owned(), format!("{name}-others")];
        let mut script = String::new();
        for (table, topic) in ["e", "o"].into_iter().zip(&topics) {
            cluster.create_topic(topic, 2, &[]);
            script += &format!(
                "CREATE TABLE {table} (k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
                   WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'subscribe' = '{topic}',
                         'startingOffsets' = 'earliest', 'format' = 'json'{more});\n"
            );
        }
        script += &format!(
            "CREATE TABLE out WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json',
               'checkpointLocation' = 'ckpt', 'outputMode' = 'append'{trigger});
             INSERT INTO out {select};"
        );
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("s.sql"), script).expect("written");
        Self {
            dir,
            topics,
            servers,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Rows of that day in a partition of the first topic.
    fn send(&self, partition: i32, times: &[&str]) {
        let values: Vec<String> = times
            .iter()
            .map(|at| {
                let day = if at.contains('T') { "" } else { "2026-01-01T" };
                format!("{{\"k\":1,\"ts\":\"{day}{at}Z\"}}")
            })
            .collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        produce_values(&self.servers, &self.topics[0], partition, &values);
    }

    /// Starts the query: the process, and the URL that it serves.
    fn start(&self) -> (Child, String) {
        let before = said(self.path()).len();
        let child = start(self.path(), &["run", "s.sql", "--http", "0"]);
        let url = || {
            let said = said(self.path()).split_off(before);
            let line = said.lines().find_map(|line| line.strip_prefix("http: "));
            line.map(str::to_owned)
        };
        await_that("an address", || url().is_some());
        (child, url().expect("just seen"))
    }

    /// What the command says of a target, in one line.
    fn why(&self, target: &str) -> String {
        let (_, told) = run(self.path(), &["why", target]);
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Asks the server until it says this; then the checkpoint and the script say so too, while it runs and after.
    fn says(&self, (child, url): (Child, String), wanted: &[&str]) {
        let told = std::cell::RefCell::new(String::new());
        let all = |said: &str| wanted.iter().all(|wanted| said.contains(wanted));
        let mut asked = 0;
        await_that("these words", || {
            let said = self.why(&url);
            asked += 1;
            if asked % 20 == 0 {
                eprintln!("not yet {wanted:?} in: {said}");
            }
            *told.borrow_mut() = said;
            all(&told.borrow())
        });
        for target in ["ckpt", "s.sql"] {
            let said = self.why(target);
            assert!(said.contains("another process runs it"), "{said}");
            assert!(
                all(&said),
                "{wanted:?} is not in what {target} says: {said}"
            );
        }
        kill(child);
        for target in ["ckpt", "s.sql"] {
            let said = self.why(target);
            assert!(said.contains("it is not running"), "{said}");
            assert!(
                all(&said),
                "{wanted:?} is not in what {target} says: {said}"
            );
        }
    }
}

#[test]
fn a_window_waits_for_the_partition_that_holds_the_watermark() {
    let Some(cluster) = secure() else {
        return;
    };
    let place = Place::new(cluster, "why-held", ("", ""), COUNTS);
    let planned = place.why("s.sql");
    assert!(
        planned.contains("it has not run yet")
            && planned.contains("gives each window once, when the watermark has passed its end"),
        "{planned}"
    );
    place.send(0, &["12:01:00", "12:31:00"]);
    place.send(1, &["12:01:00"]);
    let running = place.start();
    place.says(
        running,
        &[
            "2 rows wait in operator 2 (Aggregate count(*) by window(ts, '5 minutes')): append mode gives each window once, when the watermark has passed its end.",
            "The first comes out when the watermark reaches 2026-01-01T12:05:00Z; it stands at 2026-01-01T12:00:00Z, 5 minutes before.",
            "The watermark is held by partition why-held-1 of e: the newest ts there is 2026-01-01T12:01:00Z, and others are up to 30 minutes ahead; the last rows came",
            "It takes a row with a ts of 2026-01-01T12:06:00Z or later there.",
            "<- holds the watermark",
        ],
    );
}

#[test]
fn a_partition_that_is_idle_is_left_out_and_shown() {
    let Some(cluster) = secure() else {
        return;
    };
    let idle = ", 'idleTimeout' = '1 second'";
    let place = Place::new(cluster, "why-idle", (idle, ""), COUNTS);
    place.send(1, &["12:01:00"]);
    place.send(0, &["12:01:00", "12:31:00"]);
    let running = place.start();
    let url = running.1.clone();
    let mut second = 0;
    await_that("an idle partition", || {
        second += 1;
        // The other one goes on.
        place.send(0, &[&format!("12:32:{:02}", second % 60)]);
        place.why(&url).contains("idle: left out")
    });
    place.says(
        running,
        &[
            "why-idle-1 2026-01-01T12:01:00Z 2026-01-01T12:00:00Z 1",
            "1 row waits in operator 2",
            "It comes out when the watermark reaches 2026-01-01T12:35:00Z",
        ],
    );
}

#[test]
fn a_partition_that_lags_is_named_with_what_is_unread() {
    let Some(cluster) = secure() else {
        return;
    };
    let most = ", 'maxOffsetsPerTrigger' = '10'";
    let place = Place::new(cluster, "why-lag", (most, ", 'trigger' = '1 hour'"), COUNTS);
    let old = vec!["12:01:00"; 90];
    place.send(1, &old);
    place.send(0, &["12:31:00"; 10]);
    let (child, url) = place.start();
    let lags = "The watermark is held by partition why-lag-1 of e: the newest ts there is 2026-01-01T12:01:00Z, and others are up to 30 minutes ahead; it lags: 81 records of it were there and not read after the last epoch.";
    await_that("a lag", || place.why(&url).contains(lags));
    kill(child);
    // What is unread is not in a checkpoint: what is read is.
    let said = place.why("ckpt");
    assert!(
        said.contains("e (kafka, subscribe = why-lag): 10 rows read"),
        "{said}"
    );
}

#[test]
fn an_empty_topic_and_a_join_that_waits_for_it_are_named() {
    let Some(cluster) = secure() else {
        return;
    };
    let place = Place::new(cluster, "why-empty", ("", ""), COUNTS);
    let running = place.start();
    place.says(
        running,
        &[
            "Nothing has come out yet:",
            "No row of e (kafka, subscribe = why-empty) has been read: no row has come there, or none where reading began.",
        ],
    );

    let join = "SELECT e.k FROM e LEFT JOIN o ON e.k = o.k AND o.ts BETWEEN e.ts AND e.ts + INTERVAL '5' MINUTE";
    let place = Place::new(cluster, "why-join", ("", ""), join);
    place.send(0, &["12:01:00", "12:02:00"]);
    place.send(1, &["12:03:00"]);
    let running = place.start();
    place.says(
        running,
        &[
            "No row of o (kafka, subscribe = why-join-others) has been read",
            "The slowest table decides about the watermark, so there is none until o speaks; 'idleTimeout' = '1 minute' on table o lets the others go on",
            "pairs rows of e with rows of o: none of o have come, so 3 rows of e wait there for a match.",
            "There is no watermark yet: no row of o with an event time has come, and the slowest table decides.",
        ],
    );
}

#[test]
fn a_row_of_the_far_future_is_named_with_the_rows_that_it_made_late() {
    let Some(cluster) = secure() else {
        return;
    };
    let place = Place::new(cluster, "why-future", ("", ""), COUNTS);
    place.send(0, &["12:01:00"]);
    place.send(1, &["12:02:00"]);
    let running = place.start();
    let url = running.1.clone();
    let comes = |words: &str| await_that(words, || place.why(&url).contains(words));
    comes("2 rows read");
    place.send(1, &["2126-01-01T00:00:00"]);
    place.send(0, &["2126-01-02T00:00:00"]);
    comes("watermark of the query: 2125-12-31T23:59:00Z");
    place.send(0, &["12:03:00", "12:04:00"]);
    comes("6 rows read");
    place.says(
        running,
        &[
            "A row of e, partition why-future-1, that came in epoch ",
            "has the ts 2126-01-01T00:00:00Z, 99 years",
            "It moved the watermark to 2125-12-31T23:59:00Z with epoch ",
            "; since then 2 rows came too late and were left out. The watermark never goes back: if that row is wrong, take it out of the input, and go back to before it with tidemark checkpoint DIR --rollback ",
        ],
    );
}
