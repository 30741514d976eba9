//! Ready dataflows for Tidemark: SQL to start from. Text only; the command bundles some of it.

pub mod nexmark;

/// Web events to counts per five-minute window and event type, into partitioned Parquet.
pub const WEB_ANALYTICS: &str = include_str!("../sql/web_analytics.sql");

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use tidemark::session::Session;

    use super::WEB_ANALYTICS;

    #[test]
    fn web_analytics_counts_a_closed_window_once() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("web-events");
        std::fs::create_dir(&input).unwrap();
        let event = |id: u32, user: &str, minute: u32| {
            format!(
                "{{\"event_id\":\"e{id}\",\"user_id\":\"{user}\",\"event_type\":\"click\",\"timestamp\":\"2026-01-01T12:{minute:02}:00Z\",\"properties\":{{\"a\":\"b\"}}}}\n"
            )
        };
        let events = [
            event(1, "ada", 1),
            event(2, "ada", 2),
            event(3, "bob", 3),
            event(4, "bob", 30),
        ];
        std::fs::write(input.join("a.json"), events.concat()).unwrap();
        let place = |name: &str| dir.path().join(name).display().to_string();
        let script = WEB_ANALYTICS
            .replace("'web-events'", &format!("'{}'", input.display()))
            .replace("'aggregated'", &format!("'{}'", place("aggregated")))
            .replace(
                "'checkpoints/aggregated'",
                &format!("'{}'", place("checkpoint")),
            )
            .replace("'30 seconds'", "'available-now'");

        let session = Session::builder().workers(2).build().unwrap();
        for query in session.sql(&script).unwrap() {
            query.await_termination().unwrap();
        }

        let check = format!(
            "CREATE TABLE written (event_count BIGINT, unique_users BIGINT, approx_unique BIGINT, event_type STRING)
               WITH ('connector' = 'file', 'path' = '{}', 'format' = 'parquet');
             CREATE TABLE seen WITH ('connector' = 'memory', 'trigger' = 'available-now');
             INSERT INTO seen SELECT event_count, unique_users, approx_unique FROM written WHERE event_type = 'click';",
            place("aggregated")
        );
        session.sql(&check).unwrap()[0].await_termination().unwrap();
        let (_, rows) = session.table("seen").unwrap().unwrap();
        assert_eq!(
            rows.iter()
                .map(arrow::array::RecordBatch::num_rows)
                .sum::<usize>(),
            1
        );
        let number = |column: usize| rows[0].column(column).as_primitive::<Int64Type>().value(0);
        assert_eq!((number(0), number(1), number(2)), (3, 2, 3));
    }
}
