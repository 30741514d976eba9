-- q6, average selling price: of each seller's winning bids the mean of the last ten and this one.
-- State: auctions, for ever; bids until the watermark has passed them; the winning bid of each auction, with and without
-- its mean.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'update');
INSERT INTO result
SELECT seller, id,
       avg(price) OVER (PARTITION BY seller ORDER BY dateTime, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS price
FROM (
  SELECT a.seller, a.id, b.price, b.dateTime,
         ROW_NUMBER() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.dateTime) AS place
  FROM auction a JOIN bid b ON a.id = b.auction AND b.dateTime BETWEEN a.dateTime AND a.expires)
WHERE place = 1;
