-- 5 million web events of about 140 bytes in 20 files of JSON, a minute of disorder, 100,000 skewed users.
-- Run from this directory: tidemark run generate.sql
CREATE TABLE events (
  event_id BIGINT, user_id BIGINT, event_type STRING, page BIGINT, timestamp TIMESTAMP, amount DOUBLE
) WITH (
  'connector' = 'datagen', 'numberOfRows' = '5000000', 'seed' = '7',
  'fields.event_id.kind' = 'sequence', 'fields.event_id.start' = '0',
  'fields.user_id.min' = '0', 'fields.user_id.max' = '99999', 'fields.user_id.skew' = '1.1',
  'fields.event_type.values' = 'page_view:60,click:25,add_to_cart:10,purchase:4,refund:1',
  'fields.page.min' = '0', 'fields.page.max' = '999',
  'fields.timestamp.kind' = 'event-time', 'fields.timestamp.start' = '2026-01-01T00:00:00Z',
  'fields.timestamp.step' = '3600 us', 'fields.timestamp.disorder' = '1 minute',
  'fields.amount.min' = '0', 'fields.amount.max' = '500'
);
CREATE TABLE json WITH ('connector' = 'file', 'path' = 'data', 'format' = 'json', 'trigger' = 'available-now',
  'targetFileSize' = '46mb');
INSERT INTO json
SELECT concat('e', lpad(CAST(event_id AS STRING), 8, '0')) AS event_id, concat('u', CAST(user_id AS STRING)) AS user_id,
       event_type, concat('/p/', CAST(page AS STRING)) AS page_url, timestamp, round(amount, 2) AS amount
FROM events;
