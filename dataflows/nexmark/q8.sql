-- q8, monitor new users: who came and began an auction in the same 10 seconds.
-- State: the people and the sellers of each window that is open.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT p.id, p.name, p.w.start AS start
FROM (SELECT DISTINCT id, name, window(dateTime, '10 seconds') AS w FROM person) p
JOIN (SELECT DISTINCT seller, window(dateTime, '10 seconds') AS w FROM auction) a
ON p.id = a.seller AND p.w = a.w;
