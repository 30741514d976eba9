-- q7, highest bid: the greatest bids of each 10 seconds.
-- State: the greatest bids of each window that is open.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT auction, bidder, price, dateTime, extra
FROM (
  SELECT *, RANK() OVER (PARTITION BY window(dateTime, '10 seconds') ORDER BY price DESC) AS place FROM bid)
WHERE place = 1;
