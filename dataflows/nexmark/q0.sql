-- q0, pass through: every bid as it is. What source and sink cost.
-- State: none.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT auction, bidder, price, dateTime, extra FROM bid;
