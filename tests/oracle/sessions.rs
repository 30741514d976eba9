//! What a session is, epoch by epoch: the rules are Spark's, in micro-batches.

use super::*;

const EVENTS: &str =
    "CREATE TABLE events (k STRING, gap STRING, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0' SECOND)
     WITH ('connector' = 'memory', 'name' = 'events');";

/// A row: its key, its gap and the second of its time.
type Row = (&'static str, &'static str, f64);

fn rows_of(rows: &[Row]) -> RecordBatch {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("gap", DataType::Utf8, true),
        Field::new("ts", utc, true),
    ]));
    let texts = |pick: fn(&Row) -> &'static str| -> ArrayRef {
        let some = |text: &'static str| (!text.is_empty()).then_some(text);
        Arc::new(
            rows.iter()
                .map(|row| some(pick(row)))
                .collect::<StringArray>(),
        )
    };
    // A time of nan is none.
    let times: TimestampMicrosecondArray = rows
        .iter()
        .map(|row| (!row.2.is_nan()).then_some((row.2 * 1e6).round() as i64))
        .collect();
    let times = Arc::new(times.with_timezone("UTC"));
    let columns = vec![texts(|row| row.0), texts(|row| row.1), times as ArrayRef];
    RecordBatch::try_new(schema, columns).unwrap()
}

/// What the sink is told, row by row: in a changelog the epoch and a sign come first.
fn told(mode: &str, query: &str, epochs: &[&[Row]]) -> (Vec<String>, u64) {
    let source = MemorySource::new(rows_of(&[]).schema()).one_batch_per_epoch();
    for epoch in epochs {
        source.add(rows_of(epoch)).unwrap();
    }
    let session = session(2, &source);
    let script = format!(
        "{EVENTS} CREATE TABLE result WITH ('connector' = 'memory', 'outputMode' = '{mode}', 'trigger' = 'available-now');
         INSERT INTO result {query};"
    );
    let queries = session
        .sql(&script)
        .unwrap_or_else(|error| panic!("{error}\n{query}"));
    queries[0]
        .await_termination()
        .unwrap_or_else(|error| panic!("{error}\n{query}"));
    let late = (queries[0].recent_progress().iter())
        .flat_map(|progress| &progress.state_operators)
        .map(|operator| operator.num_rows_dropped_by_watermark)
        .sum();
    let batches = session.table("result").unwrap().unwrap().1;
    let mut rows = vec![];
    for batch in &batches {
        let cell = |name: &str, row: usize| {
            let mut column = Arc::clone(batch.column_by_name(name).unwrap());
            if matches!(column.data_type(), DataType::Timestamp(..)) {
                column = cast(&column, &DataType::Int64).unwrap();
            }
            array_value_to_string(&column, row).unwrap()
        };
        for row in 0..batch.num_rows() {
            let shown: Vec<String> = (batch.schema().fields().iter().map(|field| field.name()))
                .filter(|name| !name.starts_with('_'))
                .map(|name| cell(name, row))
                .collect();
            let sign = match mode {
                "changelog" if change(batch, row) > 0 => format!("{} + ", cell("_epoch", row)),
                "changelog" => format!("{} - ", cell("_epoch", row)),
                _ => String::new(),
            };
            rows.push(sign + &shown.join(" "));
        }
    }
    rows.sort();
    (rows, late)
}

/// Sessions by key, as microseconds since 1970. `count(DISTINCT ..)` keeps rows, so that
/// both ways of keeping sessions answer.
fn both_ways(mode: &str, gap: &str, epochs: &[&[Row]]) -> (Vec<String>, u64) {
    let query = |calls: &str| {
        format!(
            "SELECT k, session_window.start AS s, session_window.end AS e, {calls}
             FROM events GROUP BY session_window(ts, {gap}), k"
        )
    };
    let folded = told(mode, &query("count(*) AS n"), epochs);
    let kept = told(mode, &query("count(DISTINCT ts, gap) AS n"), epochs);
    assert_eq!(folded, kept, "{mode}");
    folded
}

fn strings(rows: &[&str]) -> Vec<String> {
    rows.iter().map(|row| (*row).to_owned()).collect()
}

const GAP: &str = "'10 seconds'";

#[test]
fn rows_exactly_one_gap_apart_are_of_one_session() {
    let rows: &[Row] = &[
        ("a", "1", 0.0),
        ("a", "2", 10.0),
        ("a", "3", 20.000_001),
        ("b", "4", 5.0),
        ("b", "5", f64::NAN),
    ];
    let (got, late) = both_ways("update", GAP, &[rows]);
    let wanted = [
        "a 0 20000000 2",
        "a 20000001 30000001 1",
        "b 5000000 15000000 1",
    ];
    assert_eq!((got, late), (strings(&wanted), 0));
}

#[test]
fn a_row_between_two_sessions_makes_them_one_and_takes_both_back() {
    let epochs: &[&[Row]] = &[&[("a", "1", 0.0), ("a", "2", 18.0)], &[("a", "3", 9.0)]];
    // The first epoch's 18 s make the watermark of the second: 9 + 10 s is still to come.
    let (got, _) = both_ways("changelog", GAP, epochs);
    let wanted = [
        "0 + a 0 10000000 1",
        "0 + a 18000000 28000000 1",
        "1 + a 0 28000000 3",
        "1 - a 0 10000000 1",
        "1 - a 18000000 28000000 1",
    ];
    assert_eq!(got, strings(&wanted));
    assert_eq!(
        both_ways("update", GAP, epochs).0,
        strings(&["a 0 28000000 3"])
    );
    assert_eq!(
        both_ways("complete", GAP, epochs).0,
        strings(&["a 0 28000000 3"])
    );
}

#[test]
fn append_gives_a_session_once_when_the_watermark_reaches_its_end() {
    let epochs: &[&[Row]] = &[
        &[("a", "1", 0.0), ("b", "1", 1.0)],
        &[("a", "2", 9.0)],
        &[("c", "1", 19.0)],
        &[],
        &[("c", "2", 20.0)],
    ];
    // At 19 s both a's and b's session have ended; c's has not.
    let wanted = ["a 0 19000000 2", "b 1000000 11000000 1"];
    assert_eq!(both_ways("append", GAP, epochs).0, strings(&wanted));
    // A millisecond less keeps a's open.
    let epochs: &[&[Row]] = &[&[("a", "1", 0.0), ("a", "2", 9.0)], &[("c", "1", 18.999)]];
    assert_eq!(both_ways("append", GAP, epochs).0, strings(&[]));
}

#[test]
fn a_row_is_late_by_its_own_window_however_long_its_session() {
    let epochs: &[&[Row]] = &[
        &[("a", "1", 0.0), ("a", "2", 9.0), ("a", "3", 18.0)],
        &[("z", "1", 15.0)],
        // The watermark of the epoch before is 18 s: 8 + 10 is at it, 8.001 + 10 above.
        &[("a", "4", 8.0), ("a", "5", 8.001)],
    ];
    let (got, late) = both_ways("update", GAP, epochs);
    assert_eq!(got, strings(&["a 0 28000000 4", "z 15000000 25000000 1"]));
    assert_eq!(late, 1);
    let (got, late) = both_ways("complete", GAP, epochs);
    assert_eq!(got, strings(&["a 0 28000000 5", "z 15000000 25000000 1"]));
    assert_eq!(late, 0);
}

#[test]
fn what_comes_after_a_closed_session_begins_another() {
    let epochs: &[&[Row]] = &[
        &[("a", "1", 0.0)],
        &[("z", "1", 10.0)],
        &[("z", "2", 11.0)],
        &[("a", "2", 5.0)],
        &[("z", "3", 30.0)],
    ];
    let wanted = [
        "a 0 10000000 1",
        "a 5000000 15000000 1",
        "z 10000000 21000000 2",
    ];
    assert_eq!(both_ways("append", GAP, epochs).0, strings(&wanted));
    let all = [&wanted[..], &["z 30000000 40000000 1"]].concat();
    assert_eq!(both_ways("update", GAP, epochs).0, strings(&all));
}

#[test]
fn with_a_gap_for_each_row_the_greatest_end_counts() {
    let rows: &[Row] = &[
        ("a", "10 minutes", 0.0),
        ("a", "1 minute", 300.0),
        ("a", "30 seconds", 600.0),
        ("a", "0 seconds", 1200.0),
        ("a", "-5 minutes", 1200.0),
        ("a", "", 1200.0),
        ("a", "nonsense", 1200.0),
    ];
    // Spark's answer to the same rows.
    let (got, late) = both_ways("update", "gap", &[rows]);
    assert_eq!((got, late), (strings(&["a 0 630000000 3"]), 0));
    let one_by_one: Vec<&[Row]> = rows.chunks(1).collect();
    assert_eq!(
        both_ways("update", "gap", &one_by_one).0,
        strings(&["a 0 630000000 3"])
    );
}

#[test]
fn a_row_that_is_taken_back_splits_its_session() {
    // The newest row of each key: k's moves on, and what it held together falls apart.
    let query = "SELECT unix_seconds(session_window.start) AS s, unix_seconds(session_window.end) AS e, count(*) AS n, max(k) AS last
        FROM (SELECT k, max(ts) AS newest FROM events GROUP BY k) GROUP BY session_window(newest, '10 seconds')";
    let epochs: &[&[Row]] = &[
        &[("a", "", 0.0), ("b", "", 8.0), ("c", "", 16.0)],
        &[("b", "", 40.0)],
        &[("c", "", 48.0)],
    ];
    let wanted = [
        "0 + 0 26 3 c",
        "1 + 0 10 1 a",
        "1 + 16 26 1 c",
        "1 + 40 50 1 b",
        "1 - 0 26 3 c",
        "2 + 40 58 2 c",
        "2 - 16 26 1 c",
        "2 - 40 50 1 b",
    ];
    assert_eq!(told("changelog", query, epochs).0, strings(&wanted));
}

#[test]
fn sessions_over_all_rows_and_rows_with_their_session() {
    let rows: &[Row] = &[("a", "", 0.0), ("b", "", 5.0), ("a", "", 30.0)];
    let query = "SELECT session_window, count(*) AS n FROM events GROUP BY session_window(ts, INTERVAL '10' SECOND)";
    let wanted = [
        "{start: 1970-01-01T00:00:00Z, end: 1970-01-01T00:00:15Z} 2",
        "{start: 1970-01-01T00:00:30Z, end: 1970-01-01T00:00:40Z} 1",
    ];
    assert_eq!(told("update", query, &[rows]).0, strings(&wanted));
    let query = "SELECT k, unix_seconds(window_start) AS s, unix_seconds(window_end) AS e, unix_millis(window_time) AS t
        FROM TABLE(SESSION(TABLE events PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' SECOND))";
    let wanted = ["0 + a 0 10 9999", "0 + a 30 40 39999", "0 + b 5 15 14999"];
    assert_eq!(told("changelog", query, &[rows]).0, strings(&wanted));
    // Outside GROUP BY it is the row's own, as in Spark.
    let query = "SELECT k, unix_seconds(session_window(ts, '10 seconds').end) AS e FROM events";
    assert_eq!(
        told("append", query, &[rows]).0,
        strings(&["a 10", "a 40", "b 15"])
    );
}
