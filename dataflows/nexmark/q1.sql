-- q1, currency conversion: the price of each bid in euros.
-- State: none.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT auction, bidder, 0.908 * price AS price, dateTime, extra FROM bid;
