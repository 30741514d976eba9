//! The state of every stateful operator moves to other numbers of workers and processes, and the
//! result is that of the batch.

use std::fs;

use crate::{Place, text};

const EVENTS: &str = "
CREATE TABLE events (u STRING, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '1');
";

const RATES: &str = "
CREATE TABLE rates (u STRING, v BIGINT, ts TIMESTAMP, PRIMARY KEY (u), WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '1');
";

/// A table's name, its output mode, its query. What the watermark never closes is marked by 2099.
const QUERIES: &[(&str, &str, &str)] = &[
    ("windowed", "append", "SELECT CAST(window.start AS STRING) AS s, u, count(*) AS n, sum(v) AS v, min(v) AS lo, max(v) AS hi
      FROM events GROUP BY window(ts, '5 minutes'), u"),
    ("sliding", "append", "SELECT CAST(window.start AS STRING) AS s, count(*) AS n, count(DISTINCT u) AS us
      FROM events GROUP BY window(ts, '2 hours', '1 hour')"),
    ("folded", "append", "SELECT CAST(session_window.start AS STRING) AS s, u, count(*) AS n, sum(v) AS v
      FROM events GROUP BY session_window(ts, '3 minutes'), u"),
    ("general", "append", "SELECT CAST(session_window.start AS STRING) AS s, u, count(DISTINCT v % 7) AS n,
      substr(md5(CAST(array_sort(collect_list(v)) AS STRING)), 1, 16) AS vs FROM events GROUP BY session_window(ts, '3 minutes'), u"),
    ("whole", "append", "SELECT CAST(window_start AS STRING) AS s, u, v
      FROM TABLE(SESSION(TABLE events PARTITION BY u, DESCRIPTOR(ts), INTERVAL '3' MINUTE))"),
    ("interval", "append", "SELECT CAST(a.ts AS STRING) AS s, a.u, a.v, coalesce(b.v, -1) AS w FROM events a LEFT JOIN events b
      ON a.u = b.u AND b.v > a.v AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '3' MINUTE"),
    ("unmatched", "append", "SELECT CAST(ts AS STRING) AS s, u, v FROM events a WHERE NOT EXISTS
      (SELECT 1 FROM events b WHERE b.u = a.u AND b.ts > a.ts AND b.ts <= a.ts + INTERVAL '2' MINUTE)"),
    ("deduplicated", "append", "SELECT CAST(ts AS STRING) AS s, u, v FROM (SELECT DISTINCT ON (u, v % 20) u, v, ts FROM events)"),
    ("ranked", "append", "SELECT CAST(window_start AS STRING) AS s, u, v, r FROM (SELECT window_start, u, v,
      ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY v DESC, u, ts) AS r
      FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' MINUTE))) WHERE r <= 3"),
    ("looking_back", "append", "SELECT CAST(ts AS STRING) AS s, u, v, coalesce(lag(v) OVER (PARTITION BY u ORDER BY ts, v), -1) AS l,
      count(*) OVER (PARTITION BY u ORDER BY ts, v ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS c FROM events"),
    ("over_all", "complete", "SELECT u, v, sum(v) OVER (PARTITION BY v % 10 ORDER BY ts, u) AS c FROM events WHERE v % 4 = 0"),
    ("versions", "append", "SELECT CAST(a.ts AS STRING) AS s, a.u, a.v, coalesce(r.v, -1) AS w FROM events a
      LEFT JOIN rates FOR SYSTEM_TIME AS OF a.ts - INTERVAL '1' MINUTE AS r ON a.u = r.u"),
    ("later", "append", "SELECT CAST(b.ts AS STRING) AS s, a.u, a.v, b.v AS w FROM events a
      ASOF JOIN events b MATCH_CONDITION (a.ts < b.ts) ON a.u = b.u"),
    ("corrected", "complete", "SELECT a.u, max(a.v - b.v) AS w FROM events a ASOF JOIN events b MATCH_CONDITION (a.ts >= b.ts)
      ON a.u = b.u AND a.v % 2 = b.v % 2 GROUP BY a.u"),
    ("joined", "complete", "SELECT l.u, l.n, count(*) AS c, max(r.u) AS hi FROM (SELECT u, count(*) AS n FROM events GROUP BY u) l
      LEFT JOIN (SELECT u, count(*) AS n FROM events WHERE v % 2 = 0 GROUP BY u) r ON l.n > r.n AND length(l.u) = length(r.u)
      GROUP BY l.u, l.n"),
    ("totals", "complete", "SELECT u, count(*) AS n, sum(v) AS v, min(v) AS lo, max(v) AS hi, approx_count_distinct(v) AS d
      FROM events GROUP BY u"),
    ("nested", "complete", "SELECT n, count(*) AS us, min(u) AS lo, max(u) AS hi, sum(v) AS v
      FROM (SELECT u, count(*) AS n, max(v) AS v FROM events GROUP BY u) GROUP BY n"),
    ("pairs", "complete", "SELECT DISTINCT u, v % 7 AS r FROM events"),
    ("of_pairs", "complete", "SELECT r, count(*) AS n, count(DISTINCT length(u)) AS l
      FROM (SELECT DISTINCT u, v % 7 AS r FROM events) GROUP BY r"),
    ("distinct_values", "complete", "SELECT v % 10 AS k, count(DISTINCT u) AS us, sum(DISTINCT v) AS s FROM events GROUP BY v % 10"),
    ("lists", "complete", "SELECT u, substr(md5(CAST(array_sort(collect_list(v)) AS STRING)), 1, 16) AS vs, CAST(array_sort(collect_set(v % 5)) AS STRING) AS rs
      FROM events GROUP BY u"),
    ("one_row", "complete", "SELECT count(*) AS n, sum(v) AS v, max(u) AS u FROM events"),
];

fn script() -> String {
    let query = |(table, mode, query): &(&str, &str, &str)| {
        format!(
            "CREATE TABLE {table} WITH ('connector' = 'file', 'path' = '{table}', 'format' = 'json', 'outputMode' = '{mode}',
               'trigger' = 'available-now', 'checkpointLocation' = 'checkpoint/{table}');
             INSERT INTO {table} {query};\n"
        )
    };
    QUERIES
        .iter()
        .map(query)
        .fold(format!("{EVENTS}{RATES}"), |all, one| all + &one)
}

/// The cells of a row of JSON, as the batch's tables show them.
fn cells(row: &str) -> Vec<String> {
    let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(row).unwrap();
    row.values()
        .map(|value| value.as_str().map_or(value.to_string(), str::to_owned))
        .collect()
}

/// The rows of each table of the batch, in the order of the queries.
fn batch(place: &Place) -> Vec<Vec<Vec<String>>> {
    let output = place.command(0, &["--batch"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    let of_table = |(table, ..): &(&str, &str, &str)| -> Vec<Vec<String>> {
        let lines = shown
            .lines()
            .skip_while(|line| *line != format!("{table}:"))
            .skip(1)
            .take_while(|line| line.starts_with(['+', '|']));
        let mut rows: Vec<Vec<String>> = lines
            .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
            .skip(1)
            .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
            .collect();
        rows.sort();
        rows
    };
    QUERIES.iter().map(of_table).collect()
}

#[test]
fn state_moves_between_workers_and_processes() {
    let place = Place::new(&script());
    // Some sessions last from one file to the next.
    let input = |file: usize| {
        let rows: String = (0..240_usize)
            .map(|row| {
                let user = (row * row * 31 + row * 17 + file * 7) % 23;
                let second = file * 1200 + row * 5 + user % 3;
                let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
                let ts = format!("2026-01-01T{hour:02}:{minute:02}:{second:02}Z");
                format!(
                    "{{\"u\":\"u{user}\",\"v\":{},\"ts\":\"{ts}\"}}\n",
                    row * 37 % 101
                )
            })
            .collect();
        fs::write(place.path().join(format!("in/{file}.json")), rows).unwrap();
    };
    let rounds = [(1, 1), (1, 3), (2, 1), (1, 1), (2, 2)];
    for (round, (processes, workers)) in rounds.into_iter().enumerate() {
        input(2 * round);
        input(2 * round + 1);
        if round == rounds.len() - 1 {
            // Closes all that was before it.
            let last = "{\"u\":\"u1\",\"v\":1,\"ts\":\"2099-01-01T00:00:00Z\"}\n";
            fs::write(place.path().join("in/last.json"), last).unwrap();
        }
        place.run(processes, workers, &[]);
    }
    for ((table, mode, _), mut wanted) in QUERIES.iter().zip(batch(&place)) {
        if *mode == "append" {
            wanted.retain(|row| !row[0].starts_with("2099") && !row[0].starts_with("2098"));
        }
        let mut rows: Vec<Vec<String>> = place.rows(table).iter().map(|row| cells(row)).collect();
        rows.sort();
        assert!(!wanted.is_empty(), "{table}");
        assert_eq!(rows, wanted, "{table}");
    }
}
