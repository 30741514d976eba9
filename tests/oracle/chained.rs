//! Chained state: an operator over the results of another loses nothing, and takes nothing for late
//! that the one below has only just given.
//!
//! A row far in the future comes last, so that append mode closes all that came before it. Then all
//! three modes end at the batch answer.

use super::*;

/// What is later than all rows but the last.
const FAR: &str = "2027";

/// For each pair of operators: a query whose result has a moment that tells the last row's apart.
const PAIRS: &[(&str, &str)] = &[
    (
        "aggregate over aggregate",
        "SELECT window.start AS ws, window.end AS we, max(n) AS most, count(*) AS kinds FROM
           (SELECT window, kind, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), kind) GROUP BY window",
    ),
    (
        "window of window_time",
        "SELECT window.start AS ws, max(n) AS most, sum(s) AS s FROM
           (SELECT window_time(window) AS wt, kind, count(*) AS n, sum(amount) AS s FROM events
            GROUP BY window(ts, '3 minutes'), kind) GROUP BY window(wt, '10 minutes')",
    ),
    (
        "sliding windows of windows",
        "SELECT window.start AS ws, sum(n) AS n FROM
           (SELECT window, count(*) AS n FROM events GROUP BY window(ts, '1 minute'))
         GROUP BY window(window, '6 minutes', '2 minutes')",
    ),
    (
        "three levels",
        "SELECT window.start AS ws, max(most) AS most FROM
           (SELECT window, max(n) AS most FROM
              (SELECT window, kind, count(*) AS n FROM events GROUP BY window(ts, '1 minute'), kind)
            GROUP BY window(window, '4 minutes'))
         GROUP BY window(window, '12 minutes')",
    ),
    (
        "sessions of windows",
        "SELECT session_window.start AS s, session_window.end AS e, user, sum(n) AS n, max(n) AS most FROM
           (SELECT window_time(window) AS wt, user, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'), user)
         GROUP BY session_window(wt, '1 minute'), user",
    ),
    (
        "windows of sessions",
        "SELECT window.start AS ws, count(*) AS n, max(n) AS longest, count(DISTINCT user) AS users FROM
           (SELECT window_time(session_window) AS wt, user, count(*) AS n FROM events
            GROUP BY session_window(ts, '1 minute'), user)
         GROUP BY window(wt, '8 minutes')",
    ),
    (
        "sessions of sessions",
        "SELECT session_window.start AS s, session_window.end AS e, sum(n) AS n, count(*) AS sessions FROM
           (SELECT session_window, kind, count(*) AS n FROM events GROUP BY session_window(ts, '6 seconds'), kind)
         GROUP BY session_window(session_window, '2 seconds')",
    ),
    (
        "windows of the rows of sessions",
        "SELECT window.start AS ws, kind, count(*) AS n FROM SESSION(TABLE events PARTITION BY kind, DESCRIPTOR(ts),
           INTERVAL '8' SECOND) GROUP BY window(window_time, '5 minutes'), kind",
    ),
    (
        "union of aggregates",
        "SELECT ws, what, n FROM (
           SELECT window.start AS ws, 'w' AS what, count(*) AS n FROM events GROUP BY window(ts, '5 minutes')
           UNION ALL
           SELECT session_window.start AS ws, 's' AS what, count(*) AS n FROM events GROUP BY session_window(ts, '7 seconds'))",
    ),
    (
        "aggregate over a union of aggregates",
        "SELECT window.start AS ws, sum(n) AS n, max(n) AS most FROM (
           SELECT window, count(*) AS n FROM events WHERE kind = 'a' GROUP BY window(ts, '2 minutes')
           UNION ALL
           SELECT window, count(*) AS n FROM events WHERE kind <> 'a' GROUP BY window(ts, '5 minutes'))
         GROUP BY window(window, '10 minutes')",
    ),
    (
        "HAVING over what changes",
        "SELECT window.start AS ws, count(*) AS n, min(n) AS least FROM
           (SELECT window, user, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), user HAVING count(*) BETWEEN 2 AND 4)
         GROUP BY window HAVING count(*) > 3",
    ),
    (
        "DISTINCT of what changes",
        "SELECT DISTINCT window.start AS ws, n FROM
           (SELECT window, user, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), user)",
    ),
    (
        "windows of an interval join",
        "SELECT window.start AS ws, count(*) AS n, max(other) AS hi FROM
           (SELECT a.ts AS ts, b.id AS other FROM events a JOIN events b
            ON a.user = b.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '2' MINUTE) GROUP BY window(ts, '5 minutes')",
    ),
    (
        "sessions of an outer join",
        "SELECT session_window.start AS s, session_window.end AS e, kind, count(*) AS n, count(other) AS m FROM
           (SELECT a.ts AS ts, a.kind AS kind, b.id AS other FROM events a LEFT JOIN events b
            ON a.user = b.user AND b.amount > a.amount AND b.ts > a.ts AND b.ts < a.ts + INTERVAL '1' MINUTE WHERE a.ts IS NOT NULL)
         GROUP BY session_window(ts, '4 seconds'), kind",
    ),
    (
        "join of windows",
        "SELECT l.window.start AS ws, l.kind, l.n, r.s FROM
           (SELECT window, kind, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), kind) l LEFT JOIN
           (SELECT window, kind, sum(amount) AS s FROM events WHERE amount > 300 GROUP BY window(ts, '5 minutes'), kind) r
           ON l.window = r.window AND l.kind = r.kind AND l.n > 3",
    ),
    (
        "windows of a join of windows",
        "SELECT window.start AS ws, sum(n) AS n, max(m) AS m FROM
           (SELECT l.window AS w, l.n AS n, r.n AS m FROM
             (SELECT window, user, count(*) AS n FROM events GROUP BY window(ts, '2 minutes'), user) l JOIN
             (SELECT window, user, count(*) AS n FROM events GROUP BY window(ts, '2 minutes'), user) r
             ON l.window = r.window AND l.user < r.user AND l.n = r.n)
         GROUP BY window(w, '6 minutes')",
    ),
    (
        "join of a join",
        "SELECT x.ts AS ts, x.id, y.id AS y, z.id AS z FROM events x
           JOIN events y ON x.user = y.user AND y.ts BETWEEN x.ts AND x.ts + INTERVAL '1' MINUTE
           JOIN events z ON y.user = z.user AND z.ts BETWEEN y.ts AND y.ts + INTERVAL '1' MINUTE",
    ),
    (
        "windows of rows that have no match",
        "SELECT window.start AS ws, count(*) AS n FROM
           (SELECT * FROM events a WHERE ts IS NOT NULL AND NOT EXISTS (SELECT 1 FROM events b
            WHERE b.user = a.user AND b.ts > a.ts AND b.ts <= a.ts + INTERVAL '3' MINUTE)) GROUP BY window(ts, '5 minutes')",
    ),
    (
        "first rows of a join of windows",
        "SELECT ws, user, n FROM (SELECT l.window.start AS ws, l.user AS user, l.n + r.n AS n,
             ROW_NUMBER() OVER (PARTITION BY l.window ORDER BY l.n + r.n DESC, l.user) AS place FROM
             (SELECT window, user, count(*) AS n FROM events GROUP BY window(ts, '5 minutes'), user) l JOIN
             (SELECT window, user, count(*) AS n FROM events WHERE amount > 0 GROUP BY window(ts, '5 minutes'), user) r
             ON l.window = r.window AND l.user = r.user) WHERE place <= 2",
    ),
    (
        "join of what was deduplicated",
        "SELECT a.ts AS ts, a.id, b.id AS other FROM
           (SELECT DISTINCT ON (user, ts) user, ts, id FROM events) a JOIN events b
           ON a.user = b.user AND b.ts BETWEEN a.ts - INTERVAL '1' MINUTE AND a.ts",
    ),
    (
        "windows of what was deduplicated in a join",
        "SELECT window.start AS ws, count(*) AS n FROM
           (SELECT DISTINCT ON (user, ts) user, ts FROM
             (SELECT a.user AS user, a.ts AS ts FROM events a JOIN events b
              ON a.user = b.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '2' MINUTE))
         GROUP BY window(ts, '5 minutes')",
    ),
    (
        "rows looked back on",
        "SELECT ts, id, lag(id, 2) OVER (PARTITION BY user ORDER BY ts) AS l,
           sum(amount) OVER (PARTITION BY user ORDER BY ts RANGE BETWEEN INTERVAL '3' MINUTE PRECEDING AND CURRENT ROW) AS s,
           max(id) OVER (PARTITION BY user ORDER BY ts ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING) AS m FROM events WHERE ts IS NOT NULL",
    ),
    (
        "rows looked back on for a while",
        "SELECT ts, id, count(*) OVER (PARTITION BY kind ORDER BY ts RANGE BETWEEN INTERVAL '20' SECOND PRECEDING AND CURRENT ROW) AS n,
           first_value(id) OVER (PARTITION BY kind ORDER BY ts RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW) AS f
         FROM events WHERE ts IS NOT NULL",
    ),
    (
        "windows of rows looked back on",
        "SELECT window.start AS ws, sum(n) AS n, max(r) AS r FROM
           (SELECT ts, count(*) OVER (PARTITION BY user ORDER BY ts ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS n,
              dense_rank() OVER (PARTITION BY user ORDER BY ts) AS r FROM events WHERE ts IS NOT NULL)
         GROUP BY window(ts, '5 minutes')",
    ),
    (
        "windows looked back on",
        "SELECT we, kind, n, n - lag(n) OVER (PARTITION BY kind ORDER BY we) AS more FROM
           (SELECT window.end AS we, kind, count(*) AS n FROM events GROUP BY window(ts, '2 minutes'), kind)",
    ),
    (
        "sessions looked back on",
        "SELECT wt, user, n, sum(n) OVER (PARTITION BY user ORDER BY wt ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS two FROM
           (SELECT window_time(session_window) AS wt, user, count(*) AS n FROM events GROUP BY session_window(ts, '1 minute'), user)",
    ),
    (
        "an interval join looked back on",
        "SELECT ts, id, other, lag(id) OVER (PARTITION BY user ORDER BY ts, id, other) AS l FROM
           (SELECT a.ts AS ts, a.user AS user, a.id AS id, b.id AS other FROM events a JOIN events b
            ON a.user = b.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE)",
    ),
    (
        "joins of rows looked back on",
        "SELECT a.ts AS ts, a.id, a.l, b.id AS other FROM
           (SELECT ts, user, id, lag(id) OVER (PARTITION BY user ORDER BY ts) AS l FROM events WHERE ts IS NOT NULL) a
           JOIN events b ON a.user = b.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE",
    ),
    (
        "first rows of sessions",
        "SELECT window_start AS ws, user, n, r FROM (SELECT window_start, user, n,
             ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY n DESC, user, wt) AS r FROM
             TUMBLE(TABLE (SELECT window_time(session_window) AS wt, user, count(*) AS n FROM events
                GROUP BY session_window(ts, '1 minute'), user), DESCRIPTOR(wt), INTERVAL '10' MINUTE)) WHERE r <= 2",
    ),
    (
        "sessions of first rows",
        "SELECT session_window.start AS s, session_window.end AS e, user, count(*) AS n, sum(id) AS ids FROM
           (SELECT ts, user, id, ROW_NUMBER() OVER (PARTITION BY user, ts ORDER BY id) AS r FROM events) WHERE r = 1
         GROUP BY session_window(ts, '90 seconds'), user",
    ),
    (
        "nearest rows of what was deduplicated",
        "SELECT a.ts AS ts, a.id, b.id AS other FROM (SELECT DISTINCT ON (user, ts) user, ts, id FROM events) a
           LEFT ASOF JOIN events b MATCH_CONDITION (a.ts > b.ts) ON a.user = b.user WHERE a.ts IS NOT NULL",
    ),
    (
        "windows of the nearest session",
        "SELECT window.start AS ws, count(*) AS n, sum(m) AS m FROM
           (SELECT a.ts AS ts, s.n AS m FROM events a ASOF JOIN
             (SELECT window_time(session_window) AS wt, user, count(*) AS n FROM events GROUP BY session_window(ts, '1 minute'), user) s
             MATCH_CONDITION (a.ts >= s.wt) ON a.user = s.user) GROUP BY window(ts, '5 minutes')",
    ),
    (
        "count(DISTINCT) over sessions",
        "SELECT window.start AS ws, count(DISTINCT n) AS lengths, count(DISTINCT user) AS users FROM
           (SELECT session_window, user, count(*) AS n FROM events GROUP BY session_window(ts, '90 seconds'), user)
         GROUP BY window(session_window, '15 minutes')",
    ),
];

/// Rows in disorder, then one far behind them all.
fn rows_and_the_end(random: &mut StdRng) -> RecordBatch {
    and_the_end(&rows(random, 700, 20 * MINUTE))
}

/// The rows, then one far behind them all.
pub(super) fn and_the_end(rows: &RecordBatch) -> RecordBatch {
    let end = 1_800_000_000_000_000;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![9_999])),
        Arc::new(StringArray::from(vec!["u1"])),
        Arc::new(StringArray::from(vec!["a"])),
        Arc::new(Float64Array::from(vec![1.0])),
        Arc::new(TimestampMicrosecondArray::from(vec![end]).with_timezone("UTC")),
    ];
    let last = RecordBatch::try_new(schema(), columns).unwrap();
    arrow::compute::concat_batches(&schema(), [rows, &last]).unwrap()
}

/// Without the rows that the last one makes.
pub(super) fn but_the_end(bag: BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    bag.into_iter()
        .filter(|(row, _)| !row.contains(FAR))
        .collect()
}

#[test]
fn nothing_is_lost_or_late_between_operators() {
    let mut random = StdRng::seed_from_u64(21);
    let rows = rows_and_the_end(&mut random);
    let last = rows.num_rows() - 1;
    for (what, query) in PAIRS {
        let wanted = but_the_end(bag(&batch(query, &rows), once));
        assert!(!wanted.is_empty(), "{what}");
        for (mode, sign) in [
            ("append", once as fn(&RecordBatch, usize) -> i64),
            ("update", once),
            ("changelog", change),
        ] {
            // What has no key cannot be updated in place.
            let unkeyed = [
                "union of aggregates",
                "first rows of a join of windows",
                "first rows of sessions",
                "rows looked back on",
                "rows looked back on for a while",
                "sessions looked back on",
                "an interval join looked back on",
                "joins of rows looked back on",
                "nearest rows of what was deduplicated",
            ];
            if mode == "update" && unkeyed.contains(what) {
                continue;
            }
            let mut epochs = cut(&mut random, &rows.slice(0, last), 12);
            epochs.push(rows.slice(last, 1));
            let run = Run {
                query,
                mode,
                workers: random.random_range(1..=3),
                epochs: &epochs,
                checkpoint: None,
                trigger: "available-now",
            };
            let got = but_the_end(bag(&stream(&run), sign));
            compare(&format!("{what}, {mode}"), query, &got, &wanted);
        }
    }
}
