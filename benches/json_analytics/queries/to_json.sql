-- Two rows of five, into files of JSON.
-- from json to json, append
SELECT event_id, user_id, timestamp, amount FROM events WHERE event_type <> 'page_view'
