-- Different values, a million of them.
-- from json to noop, update
SELECT event_type, count(DISTINCT CAST(substring(event_id, 2) AS INT) % 1000000) AS ids FROM events GROUP BY event_type
