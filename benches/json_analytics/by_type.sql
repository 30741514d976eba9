-- (a) A window of 5 minutes by a key of 5 values. Run from this directory, after generate.sql.
CREATE TABLE events (
  event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE,
  WATERMARK FOR timestamp AS timestamp - INTERVAL '10' MINUTE
) WITH ('connector' = 'file', 'path' = 'data', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE by_type WITH ('connector' = 'noop', 'outputMode' = 'update', 'trigger' = 'available-now',
  'checkpointLocation' = 'checkpoint/by_type');
INSERT INTO by_type
SELECT window.start, event_type, count(*) AS n, sum(amount) AS amount, approx_count_distinct(user_id) AS users
FROM events GROUP BY window(timestamp, '5 minutes'), event_type;
