-- q10, log to the file system: all bids, by day and minute.
-- State: none.
CREATE TABLE result WITH (
  'connector' = 'file', 'path' = 'nexmark-q10', 'format' = 'csv', 'partitionBy' = 'day,minute', 'outputMode' = 'append'
);
INSERT INTO result
SELECT auction, bidder, price, dateTime, extra,
       date_format(dateTime, 'yyyy-MM-dd') AS day, date_format(dateTime, 'HH:mm') AS minute
FROM bid;
