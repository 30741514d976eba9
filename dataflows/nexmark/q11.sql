-- q11, user sessions: how many bids each bidder made in a row, with no more than 10 seconds between two.
-- State: the sessions that are open.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT bidder, count(*) AS bids, session_window.start AS start, session_window.end AS end
FROM bid GROUP BY bidder, session_window(dateTime, '10 seconds');
