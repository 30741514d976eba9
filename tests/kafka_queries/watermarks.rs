//! Event time over the partitions of a topic: one that lags loses nothing, one that is quiet holds the
//! others back until it is idle.

use std::fs;

use crate::broker::{await_that, consume, produce_values, secure};
use crate::{kill, run, start};

#[test]
fn a_partition_that_lags_loses_nothing_and_one_that_is_idle_holds_nothing_back() {
    let Some(cluster) = secure() else {
        return;
    };
    let servers = cluster.servers();
    cluster.create_topic("lagging", 2, &[]);
    cluster.create_topic("windows", 1, &[]);
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path();
    let scripts = [
        ("once.sql", "", ", 'trigger' = 'available-now'"),
        ("on.sql", ", 'idleTimeout' = '1 second'", ""),
    ];
    for (name, idle, trigger) in scripts {
        let kafka = format!(
            "'connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'format' = 'json'"
        );
        let script = format!(
            "CREATE TABLE e (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0' SECOND)
               WITH ({kafka}, 'subscribe' = 'lagging', 'startingOffsets' = 'earliest'{idle});
             CREATE TABLE o WITH ({kafka}, 'topic' = 'windows', 'outputMode' = 'append', 'keyFormat' = 'raw',
               'keyColumns' = 'start', 'checkpointLocation' = 'ckpt'{trigger});
             INSERT INTO o SELECT window.start AS start, count(*) AS n FROM e GROUP BY window(ts, '1 minute');"
        );
        fs::write(dir.join(name), script).expect("written");
    }
    let send = |partition, clock: &str| {
        let value = format!("{{\"ts\":\"2026-01-01T{clock}Z\"}}");
        produce_values(&servers, "lagging", partition, &[&value]);
    };
    let once = || {
        let (ended, words) = run(dir, &["run", "once.sql", "--progress", "none"]);
        assert!(ended, "{words}");
    };
    let closed = || -> Vec<String> {
        let windows = consume(&servers, "windows").into_iter();
        windows.filter_map(|(_, value)| value).collect()
    };
    // The first partition is an hour ahead.
    send(0, "12:00:00");
    send(0, "12:05:00");
    send(1, "11:00:00");
    once();
    send(1, "11:00:30");
    once();
    assert_eq!(closed(), Vec::<String>::new());
    send(1, "11:02:00");
    once();
    let mut wanted = vec![r#"{"start":"2026-01-01T11:00:00.000Z","n":2}"#];
    assert_eq!(closed(), wanted);

    let running = start(dir, &["run", "on.sql", "--progress", "none"]);
    await_that("the second partition to be idle", || {
        send(0, "12:05:01");
        closed().len() >= 3
    });
    kill(running);
    wanted.extend([
        r#"{"start":"2026-01-01T11:02:00.000Z","n":1}"#,
        r#"{"start":"2026-01-01T12:00:00.000Z","n":1}"#,
    ]);
    assert_eq!(closed(), wanted);
}
