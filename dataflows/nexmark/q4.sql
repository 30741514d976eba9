-- q4, average price of a category: the mean of the winning bids of its auctions.
-- State: auctions, for ever; bids until the watermark has passed them; the greatest price of each auction; a sum for each
-- category.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'update');
INSERT INTO result
SELECT category, avg(final) AS price
FROM (
  SELECT a.id, a.category, max(b.price) AS final
  FROM auction a JOIN bid b ON a.id = b.auction AND b.dateTime BETWEEN a.dateTime AND a.expires
  GROUP BY a.id, a.category)
GROUP BY category;
