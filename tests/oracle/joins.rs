//! Joins of all kinds, and what is planned as one: sub-queries, sets.

use super::*;

const TABLES: &str =
    "CREATE TABLE a (id BIGINT, user STRING, kind STRING, amount DOUBLE, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '30' MINUTE) WITH ('connector' = 'memory', 'name' = 'a');
    CREATE TABLE b (id BIGINT, user STRING, kind STRING, amount DOUBLE, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '30' MINUTE) WITH ('connector' = 'memory', 'name' = 'b');
    CREATE TABLE versions (id BIGINT, user STRING, kind STRING, amount DOUBLE, ts TIMESTAMP, PRIMARY KEY (user),
    WATERMARK FOR ts AS ts - INTERVAL '30' MINUTE) WITH ('connector' = 'memory', 'name' = 'b');
    CREATE TABLE fixed (id BIGINT, user STRING, kind STRING, amount DOUBLE, ts TIMESTAMP)
    WITH ('connector' = 'memory', 'name' = 'fixed', 'streaming' = 'false');";

/// Whose changelog sums to the batch answer.
const JOINS: &[&str] = &[
    "SELECT a.id, b.id AS other, a.kind FROM a JOIN b ON a.user = b.user",
    "SELECT a.id, b.id AS other FROM a JOIN b ON a.user = b.user AND a.kind = b.kind AND a.amount < b.amount",
    "SELECT a.id, a.user, b.id AS other FROM a LEFT JOIN b ON a.user = b.user AND a.kind <> b.kind AND b.amount > 0",
    "SELECT a.id, b.id AS other, b.kind FROM a RIGHT JOIN b ON a.user = b.user AND a.amount > 500 AND b.amount > 500",
    "SELECT a.id, b.id AS other FROM a FULL JOIN b ON a.user = b.user AND a.kind = b.kind AND abs(a.amount - b.amount) < 30",
    "SELECT a.id, b.id AS other FROM a FULL JOIN b ON a.id = b.id AND a.amount > 0 AND b.amount > 0",
    "SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.id = b.id",
    "SELECT l.user, l.n, r.n AS m FROM (SELECT user, count(*) AS n FROM a GROUP BY user) l
     FULL JOIN (SELECT user, count(*) AS n FROM b WHERE amount > 300 GROUP BY user) r ON l.user = r.user",
    "SELECT l.user, l.n, r.user AS who FROM (SELECT user, count(*) AS n FROM a GROUP BY user) l
     LEFT JOIN (SELECT user, count(*) AS n FROM b GROUP BY user) r ON l.n = r.n AND l.user < r.user",
    "SELECT a.kind, count(*) AS n, sum(b.amount) AS s, count(DISTINCT b.user) AS d FROM a JOIN b ON a.user = b.user GROUP BY a.kind",
    "SELECT a.user, count(*) AS n, count(b.id) AS m FROM a LEFT JOIN b ON a.user = b.user AND b.amount > a.amount GROUP BY a.user",
    "SELECT x.id, y.id AS y, z.id AS z FROM a x JOIN b y ON x.id = y.id LEFT JOIN a z ON y.user = z.user AND z.id < 40",
    "SELECT x.id, y.id AS other FROM a x JOIN a y ON x.user = y.user AND x.id < y.id",
    "SELECT id, kind FROM a WHERE user IN (SELECT user FROM b WHERE amount > 900)",
    "SELECT id, kind FROM a WHERE user NOT IN (SELECT user FROM b WHERE amount > 950 AND user IS NOT NULL)",
    "SELECT id, kind FROM a WHERE user NOT IN (SELECT user FROM b WHERE amount > 950)",
    "SELECT id, kind FROM a WHERE id % 3 = 0 OR user NOT IN (SELECT user FROM b WHERE amount > 950)",
    "SELECT id FROM a WHERE user NOT IN (SELECT user FROM b WHERE b.kind = a.kind AND b.amount > 400)",
    "SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.user = a.user AND b.amount > a.amount + 700)",
    "SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.user = a.user AND b.kind = a.kind)",
    "SELECT id FROM a WHERE amount > 990 OR EXISTS (SELECT 1 FROM b WHERE b.user = a.user AND b.amount > 930)",
    "SELECT id FROM a WHERE kind = 'a' OR user NOT IN (SELECT user FROM b WHERE amount > 930 AND user IS NOT NULL)",
    "SELECT id, amount FROM a WHERE amount > (SELECT avg(amount) + 600 FROM b)",
    "SELECT id, amount FROM a WHERE amount >= (SELECT max(amount) FROM b WHERE b.user = a.user)",
    "SELECT user, (SELECT count(*) FROM b WHERE b.user = a.user) AS n FROM a WHERE id % 5 = 0",
    "SELECT user FROM a INTERSECT SELECT user FROM b WHERE amount > 700",
    "SELECT user, kind FROM a EXCEPT SELECT user, kind FROM b",
    "SELECT user FROM a WHERE id < 300 EXCEPT (SELECT user FROM b WHERE amount > 900 INTERSECT SELECT user FROM a WHERE id > 20)",
    "SELECT a.id, f.id AS fixed FROM a JOIN fixed f ON a.user = f.user",
    "SELECT a.id, f.id AS fixed FROM a LEFT JOIN fixed f ON a.user = f.user AND f.amount < a.amount",
    "SELECT a.id, f.id AS fixed FROM fixed f LEFT JOIN a ON a.user = f.user AND f.kind = a.kind",
    "SELECT a.id, f.id AS fixed FROM a CROSS JOIN fixed f WHERE f.id < 3 AND a.id % 7 = 0",
    "SELECT id FROM a WHERE user IN (SELECT user FROM fixed)",
    "SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM fixed WHERE fixed.user = a.user AND fixed.amount > a.amount)",
    "SELECT f.kind, count(*) AS n FROM a JOIN fixed f ON a.user = f.user GROUP BY f.kind",
    "SELECT count(*) AS n FROM a CROSS JOIN fixed",
    "SELECT a.id, b.id AS other FROM a ASOF JOIN b MATCH_CONDITION (a.id >= b.id) ON a.user = b.user",
    "SELECT a.id, b.id AS other FROM a LEFT ASOF JOIN b MATCH_CONDITION (b.id > a.id) ON a.user = b.user AND a.kind = b.kind",
    "SELECT a.id, b.id AS other FROM a LEFT ASOF JOIN b MATCH_CONDITION (CAST(a.amount AS INT) > CAST(b.amount AS INT))",
    "SELECT l.user, l.n, b.id AS other FROM (SELECT user, max(ts) AS ts, count(*) AS n FROM a GROUP BY user) l
       LEFT ASOF JOIN b MATCH_CONDITION (l.ts >= b.ts) ON l.user = b.user",
    "SELECT a.id, r.n FROM a LEFT ASOF JOIN (SELECT user, kind, max(ts) AS ts, count(*) AS n FROM b GROUP BY user, kind) r
       MATCH_CONDITION (a.ts >= r.ts) ON a.user = r.user",
    "SELECT a.id, r.n FROM a ASOF JOIN (SELECT kind, max(id) AS id, count(*) AS n FROM b GROUP BY kind, id % 20) r
       MATCH_CONDITION (a.id < r.id) ON a.kind = r.kind",
    "SELECT a.id, r.n FROM a ASOF JOIN (SELECT user, window, count(*) AS n FROM b GROUP BY window(ts, '1 minute'), user) r
       MATCH_CONDITION (a.ts >= r.window.end) ON a.user = r.user",
    "SELECT a.id, f.id AS fixed FROM a LEFT ASOF JOIN fixed f MATCH_CONDITION (a.ts <= f.ts) ON a.kind = f.kind",
    "SELECT a.id, v.id AS version, v.amount FROM a LEFT JOIN versions FOR SYSTEM_TIME AS OF a.ts AS v ON a.user = v.user",
    "SELECT v.kind, count(*) AS n FROM a LEFT JOIN versions FOR SYSTEM_TIME AS OF a.ts AS v ON v.user = a.user AND v.amount > a.amount GROUP BY v.kind",
];

/// Whose rows are kept as long as the condition says; the last rows close them.
const BOUNDED: &[&str] = &[
    "SELECT a.id, b.id AS other, a.ts FROM a JOIN b ON a.user = b.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5' MINUTE",
    "SELECT a.id, b.id AS other, a.ts FROM a LEFT JOIN b ON a.user = b.user AND b.ts >= a.ts - INTERVAL '1' MINUTE
       AND b.ts < a.ts + INTERVAL '1' MINUTE",
    "SELECT a.id, b.id AS other, a.ts, b.ts AS bts FROM a FULL JOIN b ON a.user = b.user AND a.kind = b.kind
       AND b.ts - INTERVAL '2' MINUTE <= a.ts AND b.ts + INTERVAL '30' SECOND > a.ts",
    "SELECT a.id, b.id AS other, a.ts FROM a LEFT JOIN b ON a.user = b.user AND a.amount > 0
       AND b.ts BETWEEN a.ts - INTERVAL '5' MINUTE AND a.ts - INTERVAL '1' MINUTE",
    "SELECT a.id, a.ts FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.user = a.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '4' MINUTE)",
    "SELECT a.id, a.ts FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.user = a.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '4' MINUTE)",
    "SELECT a.id, a.ts FROM a WHERE a.amount > 900 OR EXISTS (SELECT 1 FROM b WHERE b.user = a.user AND b.amount > 0
       AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '4' MINUTE)",
    "SELECT l.window.start AS ws, l.user, l.n, r.n AS m FROM
       (SELECT window, user, count(*) AS n FROM a GROUP BY window(ts, '5 minutes'), user) l JOIN
       (SELECT window, user, count(*) AS n FROM b GROUP BY window(ts, '5 minutes'), user) r ON l.window = r.window AND l.user = r.user",
    "SELECT coalesce(l.ws, r.ws) AS ws, l.user, l.n, r.user AS who, r.n AS m FROM
       (SELECT window.start AS ws, user, count(*) AS n FROM a GROUP BY window(ts, '5 minutes'), user) l FULL JOIN
       (SELECT window.start AS ws, user, count(*) AS n FROM b GROUP BY window(ts, '5 minutes'), user) r
       ON l.ws = r.ws AND l.user = r.user AND l.n <= r.n",
    "SELECT window.start AS ws, count(*) AS n, count(other) AS m FROM
       (SELECT a.ts AS ts, b.id AS other FROM a LEFT JOIN b ON a.user = b.user AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5' MINUTE)
     GROUP BY window(ts, '10 minutes')",
    "SELECT x.id, y.id AS y, z.id AS z, x.ts FROM a x JOIN b y ON x.user = y.user AND y.ts BETWEEN x.ts AND x.ts + INTERVAL '2' MINUTE
       LEFT JOIN a z ON y.kind = z.kind AND z.ts BETWEEN y.ts AND y.ts + INTERVAL '10' SECOND",
    "SELECT a.id, v.id AS version, a.ts FROM a JOIN versions FOR SYSTEM_TIME AS OF a.ts AS v ON a.user = v.user",
    "SELECT a.id, v.id AS version, a.ts FROM a LEFT JOIN versions FOR SYSTEM_TIME AS OF a.ts - INTERVAL '1' MINUTE AS v
       ON a.user = v.user AND v.amount > 0",
    "SELECT a.id, b.id AS other, a.ts FROM a LEFT ASOF JOIN b MATCH_CONDITION (a.ts > b.ts) ON a.user = b.user AND a.kind = b.kind",
    "SELECT a.id, b.id AS other, b.amount, a.ts FROM a ASOF JOIN b MATCH_CONDITION (date_trunc('minute', a.ts) >= date_trunc('minute', b.ts)) ON a.kind = b.kind",
    "SELECT a.id, b.id AS other, b.ts AS ts FROM a ASOF JOIN b MATCH_CONDITION (a.ts <= b.ts) ON a.user = b.user",
    "SELECT a.id, b.id AS other, b.ts AS ts FROM a ASOF JOIN b MATCH_CONDITION (date_trunc('minute', a.ts) < date_trunc('minute', b.ts)) ON a.kind = b.kind",
    "SELECT a.id, r.n, a.ts FROM a LEFT ASOF JOIN (SELECT user, window, count(*) AS n FROM b GROUP BY window(ts, '1 minute'), user) r
       MATCH_CONDITION (a.ts >= r.window.end) ON a.user = r.user",
    "SELECT window.start AS ws, count(*) AS n, max(other) AS hi FROM
       (SELECT a.ts AS ts, b.id AS other FROM a ASOF JOIN b MATCH_CONDITION (a.ts >= b.ts) ON a.user = b.user)
     GROUP BY window(ts, '5 minutes')",
    "SELECT window.start AS ws, count(*) AS n, max(id) AS hi FROM
       (SELECT b.ts AS ts, a.id AS id FROM a ASOF JOIN b MATCH_CONDITION (a.ts <= b.ts) ON a.user = b.user)
     GROUP BY window(ts, '5 minutes')",
    "SELECT x.id, v.id AS version, w.id AS last, x.ts FROM a x JOIN versions FOR SYSTEM_TIME AS OF x.ts AS v ON x.user = v.user
       LEFT ASOF JOIN b w MATCH_CONDITION (x.ts > w.ts) ON x.kind = w.kind",
];

/// Two tables of random rows, with the same users, and one that does not change.
struct Tables {
    a: RecordBatch,
    b: RecordBatch,
    fixed: RecordBatch,
}

impl Tables {
    fn new(random: &mut StdRng, count: usize) -> Self {
        Self {
            a: rows(random, count, 20 * MINUTE),
            b: rows(random, count, 20 * MINUTE),
            fixed: rows(random, 20, 20 * MINUTE),
        }
    }

    /// With a row of each table far behind all others, which match.
    fn with_an_end(random: &mut StdRng, count: usize) -> Self {
        let Self { a, b, fixed } = Self::new(random, count);
        // A row without a time is kept for a match that may come at any time.
        let [a, b] = [a, b].map(|rows| {
            let timed = arrow::compute::is_not_null(rows.column(4)).unwrap();
            arrow::compute::filter_record_batch(&rows, &timed).unwrap()
        });
        Self {
            a: chained::and_the_end(&a),
            b: chained::and_the_end(&b),
            fixed,
        }
    }

    fn cut(&self, random: &mut StdRng) -> [Vec<RecordBatch>; 2] {
        [&self.a, &self.b].map(|rows| cut(random, rows, 8))
    }
}

struct JoinRun<'a> {
    query: &'a str,
    mode: &'a str,
    workers: usize,
    epochs: [&'a [RecordBatch]; 2],
    fixed: &'a RecordBatch,
    checkpoint: Option<&'a std::path::Path>,
}

fn session_of(workers: usize, epochs: [&[RecordBatch]; 2], fixed: &RecordBatch) -> Session {
    let session = Session::builder().workers(workers).build().unwrap();
    for (name, epochs) in ["a", "b"].into_iter().zip(epochs) {
        session.add_source(name, source(epochs));
    }
    session.add_source("fixed", source(std::slice::from_ref(fixed)));
    session
}

fn result_of(run: &JoinRun<'_>) -> Vec<RecordBatch> {
    let session = session_of(run.workers, run.epochs, run.fixed);
    let checkpoint = run
        .checkpoint
        .map(|path| format!(", 'checkpointLocation' = '{}'", path.display()))
        .unwrap_or_default();
    let script = format!(
        "{TABLES} CREATE TABLE result WITH ('connector' = 'memory', 'outputMode' = '{}', 'trigger' = 'available-now'{checkpoint});
         INSERT INTO result {};",
        run.mode, run.query
    );
    let queries = session
        .sql(&script)
        .unwrap_or_else(|error| panic!("{error}\n{}", run.query));
    queries[0]
        .await_termination()
        .unwrap_or_else(|error| panic!("{error}\n{}", run.query));
    session.table("result").unwrap().expect("a result").1
}

fn batch_of(query: &str, tables: &Tables) -> BTreeMap<String, i64> {
    let (a, b) = (
        std::slice::from_ref(&tables.a),
        std::slice::from_ref(&tables.b),
    );
    let session = session_of(1, [a, b], &tables.fixed);
    let script = session
        .parse(&format!("{TABLES} {query};"), "oracle")
        .unwrap_or_else(|error| panic!("{error}\n{query}"));
    let Some(Statement::Query(statement)) = script.statements.last() else {
        panic!("no query")
    };
    let batches = session
        .batch(statement)
        .unwrap_or_else(|error| panic!("{error}\n{query}"))
        .1;
    bag(&batches, once)
}

#[test]
fn changelogs_of_joins_sum_to_the_batch_answer() {
    let mut random = StdRng::seed_from_u64(31);
    let tables = Tables::new(&mut random, 250);
    for query in JOINS.iter().chain(BOUNDED) {
        let wanted = batch_of(query, &tables);
        assert!(!wanted.is_empty(), "nothing to find\n{query}");
        for workers in [1, 2, 4] {
            let epochs = tables.cut(&mut random);
            let run = JoinRun {
                query,
                mode: "changelog",
                workers,
                epochs: [&epochs[0], &epochs[1]],
                fixed: &tables.fixed,
                checkpoint: None,
            };
            let what = format!("changelog, {workers} workers");
            compare(&what, query, &bag(&result_of(&run), change), &wanted);
        }
    }
}

#[test]
fn joins_go_on_after_restarts_on_any_number_of_workers() {
    let mut random = StdRng::seed_from_u64(32);
    let tables = Tables::new(&mut random, 250);
    for query in JOINS.iter().chain(BOUNDED) {
        let wanted = batch_of(query, &tables);
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint");
        let epochs = tables.cut(&mut random);
        let most = epochs[0].len().max(epochs[1].len());
        let mut changes: BTreeMap<String, i64> = BTreeMap::new();
        let mut known = 0;
        while known < most {
            known = (known + random.random_range(1..=3)).min(most);
            let run = JoinRun {
                query,
                mode: "changelog",
                workers: random.random_range(1..=3),
                epochs: [0, 1].map(|table| &epochs[table][..known.min(epochs[table].len())]),
                fixed: &tables.fixed,
                checkpoint: Some(&checkpoint),
            };
            for (row, count) in bag(&result_of(&run), change) {
                *changes.entry(row).or_insert(0) += count;
            }
        }
        changes.retain(|_, count| *count != 0);
        compare("restarts", query, &changes, &wanted);
    }
}

#[test]
fn bounded_joins_end_at_the_batch_answer_in_every_mode() {
    let mut random = StdRng::seed_from_u64(33);
    let tables = Tables::with_an_end(&mut random, 300);
    for query in BOUNDED {
        let wanted = chained::but_the_end(batch_of(query, &tables));
        assert!(!wanted.is_empty(), "nothing to find\n{query}");
        for (mode, sign) in [
            ("append", once as fn(&RecordBatch, usize) -> i64),
            ("changelog", change),
        ] {
            let epochs = [&tables.a, &tables.b].map(|rows| {
                let mut epochs = cut(&mut random, &rows.slice(0, rows.num_rows() - 1), 8);
                epochs.resize(8, rows.slice(0, 0));
                epochs.push(rows.slice(rows.num_rows() - 1, 1));
                epochs
            });
            let run = JoinRun {
                query,
                mode,
                workers: random.random_range(1..=3),
                epochs: [&epochs[0], &epochs[1]],
                fixed: &tables.fixed,
                checkpoint: None,
            };
            let got = chained::but_the_end(bag(&result_of(&run), sign));
            compare(mode, query, &got, &wanted);
        }
    }
}

#[test]
fn a_batch_of_nothing_but_rows_without_a_match_is_given_whole() {
    let mut random = StdRng::seed_from_u64(34);
    let tables = Tables {
        a: rows(&mut random, 20_000, 20 * MINUTE),
        ..Tables::new(&mut random, 10)
    };
    let query = "SELECT a.id, f.id AS fixed FROM a LEFT JOIN fixed f ON a.kind = f.kind AND f.amount > a.amount + 100000";
    let wanted = batch_of(query, &tables);
    let run = JoinRun {
        query,
        mode: "append",
        workers: 1,
        epochs: [std::slice::from_ref(&tables.a), &[]],
        fixed: &tables.fixed,
        checkpoint: None,
    };
    compare("append", query, &bag(&result_of(&run), once), &wanted);
}

/// One key with 100,000 rows in state, and 1,000 new ones that each can match a few: that takes about as
/// long as with a key for each hundred.
#[test]
fn a_hot_key_of_an_interval_join_is_not_read_whole_for_each_row() {
    const KEPT: i64 = 100_000;
    const NEW: i64 = 1_000;
    let batch = |count: i64, keys: i64| {
        let numbers = || 0..count;
        let step = KEPT / count * 1_000_000;
        let times: TimestampMicrosecondArray = numbers().map(|n| Some(n * step)).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(numbers().map(Some).collect::<Int64Array>()),
            Arc::new(
                numbers()
                    .map(|n| Some(format!("u{}", n * step / 1_000_000 % keys)))
                    .collect::<StringArray>(),
            ),
            Arc::new(numbers().map(|_| Some("a")).collect::<StringArray>()),
            Arc::new(numbers().map(|_| Some(1.0)).collect::<Float64Array>()),
            Arc::new(times.with_timezone("UTC")),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    };
    let mut random = StdRng::seed_from_u64(35);
    let fixed = rows(&mut random, 1, MINUTE);
    let took = |keys: i64| {
        let (kept, new) = (batch(KEPT, keys), batch(NEW, keys));
        let none = kept.slice(0, 0);
        let run = JoinRun {
            query: "SELECT a.id, b.id AS other FROM a JOIN b ON a.user = b.user
                    AND b.ts BETWEEN a.ts - INTERVAL '1' SECOND AND a.ts + INTERVAL '1' SECOND",
            mode: "append",
            workers: 1,
            epochs: [&[kept, none.clone()], &[none, new]],
            fixed: &fixed,
            checkpoint: None,
        };
        let begun = std::time::Instant::now();
        let found: usize = result_of(&run).iter().map(RecordBatch::num_rows).sum();
        (begun.elapsed(), found)
    };
    let (spread, _) = took(1_000);
    let (hot, found) = took(1);
    assert_eq!(found as i64, 3 * NEW - 1);
    assert!(
        hot < 5 * spread,
        "{hot:?} for one key, {spread:?} for a thousand"
    );
}

#[test]
fn a_silent_side_holds_nothing_back_longer_than_its_idle_timeout() {
    let minute = |id: i64, user: &str, minute: i64| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![id])),
            Arc::new(StringArray::from(vec![user])),
            Arc::new(StringArray::from(vec!["a"])),
            Arc::new(Float64Array::from(vec![1.0])),
            Arc::new(TimestampMicrosecondArray::from(vec![minute * MINUTE]).with_timezone("UTC")),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    };
    let session = Session::builder().workers(2).build().unwrap();
    let (active, silent) = (source(&[minute(1, "x", 0)]), source(&[minute(2, "y", 0)]));
    session.add_source("a", active.clone());
    session.add_source("b", silent);
    let tables = TABLES.replace("'name' = 'b')", "'name' = 'b', 'idleTimeout' = '100 ms')");
    let script = format!(
        "{tables} CREATE TABLE result WITH ('connector' = 'memory', 'outputMode' = 'append');
         INSERT INTO result SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.user = b.user
           AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE;"
    );
    let queries = session.sql(&script).unwrap();
    active.add(minute(3, "z", 100)).unwrap();
    let begun = std::time::Instant::now();
    let mut found = vec![];
    while found.is_empty() && begun.elapsed().as_secs() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let result = session.table("result").unwrap();
        found = result.map_or(vec![], |(_, batches)| batches);
        found.retain(|batch| batch.num_rows() > 0);
    }
    queries[0].stop().unwrap();
    queries[0].await_termination().unwrap();
    let wanted = BTreeMap::from([("1|".to_owned(), 1)]);
    let query = "a LEFT JOIN b";
    compare("idle", query, &bag(&found, once), &wanted);
}
