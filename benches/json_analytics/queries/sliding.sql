-- Windows of 50 minutes that begin every 5, by a key of 1,000 values.
-- from json to noop, update
SELECT window.start, page_url, count(*) AS n, sum(amount) AS amount
FROM events GROUP BY window(timestamp, '50 minutes', '5 minutes'), page_url
