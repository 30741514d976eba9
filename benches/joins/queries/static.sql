-- A table of 10,000 rows beside the stream.
SELECT s.id, s.timestamp, p.title FROM shown s JOIN pages p ON s.page_url = p.page_url
