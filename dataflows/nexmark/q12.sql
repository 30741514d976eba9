-- q12, processing-time windows: how many bids of each bidder came in each 10 seconds of the clock.
-- State: a count for each bidder and window, for ever.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'update');
INSERT INTO result
SELECT bidder, count(*) AS bids, window.start AS start, window.end AS end
FROM bid GROUP BY bidder, window(current_timestamp(), '10 seconds');
