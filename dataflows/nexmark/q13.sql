-- q13, bounded side input: each bid with a value from a table that does not change.
-- State: none of the bids; the side table is read at the start.
CREATE TABLE side_input (key BIGINT, value STRING) WITH (
  'connector' = 'datagen', 'streaming' = 'false', 'number-of-rows' = '10000', 'fields.key.kind' = 'sequence'
);
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT b.auction, b.bidder, b.price, b.dateTime, s.value
FROM bid b JOIN side_input s ON b.auction % 10000 = s.key;
