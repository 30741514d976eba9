-- The stream alone.
SELECT id, timestamp, page_url FROM shown WHERE amount >= 0
