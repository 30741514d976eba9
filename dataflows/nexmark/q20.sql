-- q20, expand bid: each bid for something of category 10, with its auction.
-- State: bids, and the auctions of the category, for ever.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.dateTime, b.extra,
       a.itemName, a.description, a.initialBid, a.reserve, a.dateTime AS auctionTime, a.expires, a.seller, a.category,
       a.extra AS auctionExtra
FROM bid b JOIN auction a ON b.auction = a.id
WHERE a.category = 10;
