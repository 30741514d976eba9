-- (a) of Parquet.
-- from parquet to noop, update
SELECT window.start, event_type, count(*) AS n, sum(amount) AS amount, approx_count_distinct(user_id) AS users
FROM events GROUP BY window(timestamp, '5 minutes'), event_type
