-- q9, winning bids: of each auction the greatest bid while it was open, of equal ones the first.
-- State: auctions, for ever; bids until the watermark has passed them; the winning bid of each auction with its auction.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'update');
INSERT INTO result
SELECT id, itemName, description, initialBid, reserve, dateTime, expires, seller, category, extra,
       auction, bidder, price, bidTime, bidExtra
FROM (
  SELECT a.*, b.auction, b.bidder, b.price, b.dateTime AS bidTime, b.extra AS bidExtra,
         ROW_NUMBER() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.dateTime) AS place
  FROM auction a JOIN bid b ON a.id = b.auction AND b.dateTime BETWEEN a.dateTime AND a.expires)
WHERE place = 1;
