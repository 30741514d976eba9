-- Rows that pass a condition.
-- from json to noop, append
SELECT event_id, user_id, timestamp, amount FROM events WHERE event_type = 'purchase' AND amount > 250
