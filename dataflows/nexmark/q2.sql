-- q2, selection: the bids for some auctions.
-- State: none.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT auction, price FROM bid WHERE auction % 123 = 0;
