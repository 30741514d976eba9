-- What was clicked within 15 minutes.
SELECT s.id, s.page_url, s.timestamp, c.timestamp AS clicked, c.button FROM shown s JOIN clicked c
  ON s.id = c.id AND c.timestamp BETWEEN s.timestamp AND s.timestamp + INTERVAL 15 MINUTES
