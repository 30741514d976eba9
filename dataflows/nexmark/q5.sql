-- q5, hot items: the auctions with the most bids of the last 10 seconds, every 2 seconds.
-- State: a count for each auction and window that is open, and the first of each window.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT w.start AS start, auction, bids
FROM (
  SELECT w, auction, bids, RANK() OVER (PARTITION BY w ORDER BY bids DESC) AS place
  FROM (
    SELECT window AS w, auction, count(*) AS bids
    FROM bid GROUP BY window(dateTime, '10 seconds', '2 seconds'), auction))
WHERE place = 1;
