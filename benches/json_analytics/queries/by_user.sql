-- (b) A window of 5 minutes by a key of 100,000 skewed values.
-- from json to noop, update
SELECT window.start, user_id, count(*) AS n, sum(amount) AS amount
FROM events GROUP BY window(timestamp, '5 minutes'), user_id
