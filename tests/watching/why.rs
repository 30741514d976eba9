//! "Why is there no output?": the words for each cause, from a running query, its checkpoint and its
//! script.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemark::runtime::StreamingQuery;
use tidemark::session::Session;
use tidemark_connectors::sources::memory::MemorySource;

use crate::place::{LIMIT, Place};

const MINUTE: i64 = 60_000_000;
/// 2026-01-01 12:00:00.
const NOON: i64 = 1_767_268_800_000_000;

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("ts", time, true),
    ]))
}

/// Rows at these moments, in minutes after noon; [`NEVER`]: without an event time.
fn rows(minutes: &[i64]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(minutes.iter().copied()));
    let times = minutes
        .iter()
        .map(|at| (*at < NEVER).then(|| NOON + at * MINUTE));
    let times: TimestampMicrosecondArray = times.collect();
    let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
    RecordBatch::try_new(schema(), vec![keys, times]).expect("rows")
}

const NEVER: i64 = i64::MAX;

/// A query over tables in memory.
struct Asked {
    query: Arc<StreamingQuery>,
    _session: Session,
}

impl Asked {
    /// `idle`: an option more of each table. The tables are `events` and `others`.
    fn new(select: &str, idle: &str, tables: [&MemorySource; 2]) -> Self {
        let session = Session::builder().build().expect("a session");
        let mut script = String::new();
        for (name, source) in ["events", "others"].into_iter().zip(tables) {
            session.add_source(name, source.clone());
            script += &format!(
                "CREATE TABLE {name} (k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
                   WITH ('connector' = 'memory', 'name' = '{name}'{idle});"
            );
        }
        script += "CREATE TABLE out WITH ('connector' = 'memory', 'outputMode' = 'append');";
        let mut queries = session
            .sql(&format!("{script} INSERT INTO out {select}"))
            .expect("it starts");
        Self {
            query: queries.pop().expect("a query"),
            _session: session,
        }
    }

    /// What it says once all is processed, in one line.
    fn why(&self) -> String {
        self.query.process_all_available().expect("it runs");
        one_line(&self.query.why())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn source() -> MemorySource {
    MemorySource::new(schema()).one_batch_per_epoch()
}

#[track_caller]
fn says(said: &str, wanted: &str) {
    assert!(said.contains(wanted), "'{wanted}' is not in:\n{said}");
}

const COUNTS: &str =
    "SELECT window.start AS s, count(*) AS n FROM events GROUP BY window(ts, '5 minutes')";

#[test]
fn append_mode_waits_for_its_window() {
    let events = source();
    events.add(rows(&[1, 2, 6])).expect("rows");
    let asked = Asked::new(COUNTS, "", [&events, &source()]);
    let said = asked.why();
    says(&said, "Query out, append mode: it runs");
    says(&said, "The last epoch gave 1 row");
    says(&said, "1 row waits in operator 2 (Aggregate");
    says(
        &said,
        "append mode gives each window once, when the watermark has passed its end. It comes out when the watermark reaches 2026-01-01T12:10:00Z; it stands at 2026-01-01T12:05:00Z, 5 minutes before.",
    );
    says(
        &said,
        "The watermark is held by events: the newest ts there is 2026-01-01T12:06:00Z; the last rows came just now. It takes a row with a ts of 2026-01-01T12:11:00Z or later.",
    );
    says(
        &said,
        "memory-0 2026-01-01T12:06:00Z 2026-01-01T12:05:00Z 3 just now",
    );
    events.add(rows(&[11])).expect("rows");
    says(&asked.why(), "2026-01-01T12:15:00Z 1 5 minutes");
}

#[test]
fn a_partition_that_is_silent_holds_the_others_until_it_is_idle() {
    let events = source();
    events.add_to("p1", rows(&[1])).expect("rows");
    events.add_to("p0", rows(&[30, 31])).expect("rows");
    let asked = Asked::new(COUNTS, "", [&events, &source()]);
    let said = asked.why();
    says(&said, "Nothing has come out yet:");
    says(&said, "2 rows wait in operator 2");
    says(
        &said,
        "The first comes out when the watermark reaches 2026-01-01T12:05:00Z",
    );
    says(
        &said,
        "The watermark is held by partition p1 of events: the newest ts there is 2026-01-01T12:01:00Z, and others are up to 30 minutes ahead; the last rows came",
    );
    says(
        &said,
        "It takes a row with a ts of 2026-01-01T12:06:00Z or later there. If nothing more is to come there, 'idleTimeout' = '1 minute' on table events lets the others go on",
    );
    says(&said, "p1 2026-01-01T12:01:00Z 2026-01-01T12:00:00Z 1");
    says(&said, "<- holds the watermark");
    drop(asked);

    let asked = Asked::new(COUNTS, ", 'idleTimeout' = '1 hour'", [&events, &source()]);
    says(
        &asked.why(),
        "It is left out once nothing has come for 1 hour ('idleTimeout'), which is in 59 minutes",
    );
    drop(asked);

    let asked = Asked::new(
        COUNTS,
        ", 'idleTimeout' = '200 milliseconds'",
        [&events, &source()],
    );
    let began = Instant::now();
    loop {
        // The other one speaks again and again.
        events.add_to("p0", rows(&[31])).expect("rows");
        let said = asked.why();
        if said.contains("The last epoch gave") || said.contains("Nothing has come out since") {
            says(&said, "idle: left out");
            break;
        }
        assert!(began.elapsed() < LIMIT, "it is never idle: {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_row_of_the_far_future_is_named_with_what_it_made_late() {
    let events = source();
    let century = 100 * 365 * 24 * 60;
    events.add(rows(&[1, 2])).expect("rows");
    events.add(rows(&[3, century])).expect("rows");
    events.add(rows(&[4, 8])).expect("rows");
    events.add(rows(&[9])).expect("rows");
    let asked = Asked::new(COUNTS, "", [&events, &source()]);
    let said = asked.why();
    says(
        &said,
        "A row of events, partition memory-0, that came in epoch 1 has the ts 2125-12-08T12:00:00Z, 99 years",
    );
    says(
        &said,
        "in the future. 3 rows came since, and the newest of that has 2026-01-01T12:09:00Z, 99 years",
    );
    says(
        &said,
        "It moved the watermark to 2125-12-08T11:59:00Z with epoch 2; since then 1 row came too late and was left out. The watermark never goes back: if that row is wrong, take it out of the input, and go back to before it with tidemark checkpoint DIR --rollback 0.",
    );
    says(&said, "; 1 came too late");
    says(&said, "1 row waits in operator 2");
}

#[test]
fn a_join_whose_other_side_is_silent_says_so() {
    let (events, others) = (source(), source());
    events.add(rows(&[1, 2, 3])).expect("rows");
    let join = "SELECT e.k FROM events e LEFT JOIN others o ON e.k = o.k AND o.ts BETWEEN e.ts AND e.ts + INTERVAL '5' MINUTE";
    let asked = Asked::new(join, "", [&events, &others]);
    let said = asked.why();
    says(
        &said,
        "No row of others (memory) has been read: no row has come there, or none where reading began. The slowest table decides about the watermark, so there is none until others speaks; 'idleTimeout'",
    );
    says(
        &said,
        "pairs rows of events with rows of others: none of others have come, so 3 rows of events wait there for a match.",
    );
    says(&said, "3 rows wait in operator");
    says(
        &said,
        "a row without a match is given once none can come any more. The first comes out when the watermark reaches",
    );
    says(
        &said,
        "There is no watermark yet: no row of others with an event time has come, and the slowest table decides.",
    );
    says(&said, "others (memory): 0 rows read");
    // It speaks, and no row has a match.
    others.add(rows(&[7])).expect("rows");
    let said = asked.why();
    says(
        &said,
        "has found no match: 3 rows of events and 1 of others are kept",
    );
    says(&said, "watermark of the query: 2026-01-01T12:02:00Z");
}

#[test]
fn rows_that_are_left_out_are_told_of() {
    let events = source();
    events.add(rows(&[1, 2])).expect("rows");
    let asked = Asked::new("SELECT k FROM events WHERE k > 5", "", [&events, &source()]);
    let said = asked.why();
    says(
        &said,
        "None of the 2 rows that were read got past: Filter k > 5",
    );
    events.add(rows(&[6])).expect("rows");
    says(
        &asked.why(),
        "The last epoch gave 1 row (just now; 1 row in all). Nothing waits.",
    );
    drop(asked);

    let events = source();
    events.add(rows(&[NEVER, NEVER])).expect("rows");
    let asked = Asked::new(COUNTS, "", [&events, &source()]);
    says(
        &asked.why(),
        "All 2 rows of events have a null ts: without event time there is no watermark",
    );
    drop(asked);

    let asked = Asked::new(COUNTS, "", [&source(), &source()]);
    says(
        &asked.why(),
        "Nothing has come out yet: - No row of events (memory) has been read",
    );
}

#[test]
fn a_session_waits_for_its_gap() {
    let events = source();
    events.add(rows(&[1, 2, 20])).expect("rows");
    let sessions = "SELECT session_window.end AS e, count(*) AS n FROM events GROUP BY session_window(ts, '5 minutes')";
    let asked = Asked::new(sessions, "", [&events, &source()]);
    let said = asked.why();
    says(&said, "append mode gives each session once");
    says(
        &said,
        "It comes out when the watermark reaches 2026-01-01T12:25:00Z; it stands at 2026-01-01T12:19:00Z, 6 minutes before",
    );
}

const SCRIPT: &str = "
CREATE TABLE events (k STRING, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE counts WITH ('connector' = 'file', 'path' = 'out', 'format' = 'json', 'checkpointLocation' = 'ckpt');
INSERT INTO counts
  SELECT window.start AS s, count(*) AS n FROM events GROUP BY window(ts, '5 minutes');
";

/// Of a script that has not run, a query that runs, its checkpoint, and the script again.
#[test]
fn the_command_asks_scripts_checkpoints_and_servers() {
    let place = Place::new(SCRIPT);
    let ask = |target: &str| {
        let output = place.ends(&["why", target]);
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{said}{:?}", output.stderr);
        (one_line(&said), said)
    };
    let (said, _) = ask("s.sql");
    says(
        &said,
        "Query counts, append mode: it has not run yet; this is what its plan says. What it will give, and when:",
    );
    says(
        &said,
        "gives each window once, when the watermark has passed its end. The watermark is the newest ts that every partition of events has reached, less 1 minute: a window that ends at 12:00 comes out once rows of events have come whose ts is 1 minute after 12:00 or later.",
    );

    let running = place.run(&[]);
    place.write("in/a.json", r#"{"k":"a","ts":"2026-01-01T12:01:00Z"}"#);
    let wanted = "It comes out when the watermark reaches 2026-01-01T12:05:00Z; it stands at 2026-01-01T12:00:00Z, 5 minutes before.";
    let (_, told) = running.until("a row that waits", "/queries/counts/why", |_, body| {
        one_line(body).contains(wanted)
    });
    says(&one_line(&told), "1 row waits in operator");
    let (of_server, _) = ask(&running.url("/"));
    says(&of_server, wanted);
    says(&ask(&running.url("/queries/counts")).0, wanted);
    says(
        &ask("ckpt").0,
        "another process runs it; this is what its checkpoint says",
    );
    let unknown = place.ends(&["why", &running.url("/queries/x")]);
    assert_eq!(unknown.status.code(), Some(1));
    let base = running.url("");
    running.stop();

    let (of_checkpoint, shown) = ask("ckpt");
    says(
        &of_checkpoint,
        "Query counts, append mode: it is not running; this is what its checkpoint says. Epoch 1 was committed",
    );
    says(&of_checkpoint, wanted);
    assert_eq!(ask("s.sql").0, of_checkpoint);
    assert!(
        shown.lines().all(|line| line.chars().count() < 150),
        "{shown}"
    );

    let gone = place.ends(&["why", &base]);
    let said = String::from_utf8(gone.stderr).expect("text");
    assert_eq!(gone.status.code(), Some(1));
    says(
        &said,
        "give the address that `tidemark run --http` has said",
    );
    let missing = place.ends(&["why", "nowhere.sql"]);
    assert_eq!(missing.status.code(), Some(2));
    fs::create_dir(place.path().join("empty")).expect("a directory");
    assert_eq!(place.ends(&["why", "empty"]).status.code(), Some(2));
    // Another query of that checkpoint.
    place.write("s.sql", &SCRIPT.replace("5 minutes", "6 minutes"));
    let other = place.ends(&["why", "s.sql"]);
    let said = String::from_utf8(other.stderr).expect("text");
    assert_eq!(other.status.code(), Some(2));
    says(&said, "is not that of this query");
}
