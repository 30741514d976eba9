-- The same events as CSV and as Parquet. Run from this directory, after generate.sql.
CREATE TABLE events (
  event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE
) WITH ('connector' = 'file', 'path' = 'data', 'format' = 'json');
CREATE TABLE csv WITH ('connector' = 'file', 'path' = 'csv', 'format' = 'csv', 'trigger' = 'available-now',
  'targetFileSize' = '20mb');
CREATE TABLE parquet WITH ('connector' = 'file', 'path' = 'parquet', 'format' = 'parquet', 'trigger' = 'available-now',
  'targetFileSize' = '5mb');
INSERT INTO csv SELECT * FROM events;
INSERT INTO parquet SELECT * FROM events;
