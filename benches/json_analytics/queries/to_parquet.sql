-- Two rows of five, into files of Parquet.
-- from json to parquet, append
SELECT event_id, user_id, timestamp, amount FROM events WHERE event_type <> 'page_view'
