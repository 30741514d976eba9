-- (b) A window of 5 minutes by a key of 100,000 skewed values. Run from this directory, after generate.sql.
CREATE TABLE events (
  event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE,
  WATERMARK FOR timestamp AS timestamp - INTERVAL '10' MINUTE
) WITH ('connector' = 'file', 'path' = 'data', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE by_user WITH ('connector' = 'noop', 'outputMode' = 'update', 'trigger' = 'available-now',
  'checkpointLocation' = 'checkpoint/by_user');
INSERT INTO by_user
SELECT window.start, user_id, count(*) AS n, sum(amount) AS amount
FROM events GROUP BY window(timestamp, '5 minutes'), user_id;
