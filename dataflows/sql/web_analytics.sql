-- Web events to counts per window and type: the first pipeline of most streaming tutorials.
-- Run it in a directory that has web-events/ with JSON files: tidemark run web_analytics.sql
CREATE TABLE web_events (
  event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP,
  properties MAP<STRING, STRING>,
  WATERMARK FOR timestamp AS timestamp - INTERVAL '10' MINUTE
) WITH ('connector' = 'file', 'path' = 'web-events', 'format' = 'json', 'maxFilesPerTrigger' = '100');

CREATE TABLE aggregated WITH (
  'connector' = 'file', 'path' = 'aggregated', 'format' = 'parquet', 'partitionBy' = 'event_type',
  'outputMode' = 'append', 'trigger' = '30 seconds', 'checkpointLocation' = 'checkpoints/aggregated'
);

INSERT INTO aggregated
SELECT window.start AS window_start, window.end AS window_end, event_type, count(*) AS event_count,
       count(DISTINCT user_id) AS unique_users, approx_count_distinct(event_id) AS approx_unique
FROM web_events
GROUP BY window(timestamp, '5 minutes'), event_type;
