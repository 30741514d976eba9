-- Two streams of 2.5 million rows in 20 files of JSON each: what was shown, and what was clicked within 15 minutes of it, seven
-- times in ten; and a table of 10,000 pages. Run from this directory: tidemark run generate.sql
CREATE TABLE rows (id BIGINT, page BIGINT, timestamp TIMESTAMP, amount DOUBLE) WITH (
  'connector' = 'datagen', 'numberOfRows' = '2500000', 'seed' = '11',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '0',
  'fields.page.min' = '0', 'fields.page.max' = '9999',
  'fields.timestamp.kind' = 'event-time', 'fields.timestamp.start' = '2026-01-01T00:00:00Z',
  'fields.timestamp.step' = '7200 us', 'fields.timestamp.disorder' = '1 minute',
  'fields.amount.min' = '0', 'fields.amount.max' = '500'
);
CREATE TABLE pages (page BIGINT) WITH ('connector' = 'datagen', 'numberOfRows' = '10000', 'fields.page.kind' = 'sequence', 'fields.page.start' = '0');
CREATE TABLE shown_files WITH ('connector' = 'file', 'path' = 'shown', 'format' = 'json', 'trigger' = 'available-now', 'targetFileSize' = '14mb');
CREATE TABLE clicked_files WITH ('connector' = 'file', 'path' = 'clicked', 'format' = 'json', 'trigger' = 'available-now', 'targetFileSize' = '12mb');
CREATE TABLE page_files WITH ('connector' = 'file', 'path' = 'pages', 'format' = 'json', 'trigger' = 'available-now');
INSERT INTO shown_files
SELECT concat('i', lpad(CAST(id AS STRING), 8, '0')) AS id, concat('/p/', CAST(page AS STRING)) AS page_url, timestamp, round(amount, 2) AS amount FROM rows;
INSERT INTO clicked_files
SELECT concat(CASE WHEN id % 10 < 7 THEN 'i' ELSE 'x' END, lpad(CAST(id AS STRING), 8, '0')) AS id,
       timestamp + INTERVAL '1' SECOND * (id * 7919 % 900) AS timestamp, concat('b', CAST(id % 5 AS STRING)) AS button FROM rows;
INSERT INTO page_files
SELECT concat('/p/', CAST(page AS STRING)) AS page_url, concat('title of page ', CAST(page AS STRING)) AS title FROM pages;
