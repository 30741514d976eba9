-- q19, top ten: of each auction the ten greatest bids.
-- State: up to ten bids for each auction.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'update');
INSERT INTO result
SELECT auction, bidder, price, channel, url, dateTime, extra, place
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS place FROM bid)
WHERE place <= 10;
