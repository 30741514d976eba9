-- What a user did without a pause of 30 seconds.
-- from json to noop, append
SELECT session_window.start, user_id, count(*) AS n, sum(amount) AS amount
FROM events GROUP BY session_window(timestamp, '30 seconds'), user_id
