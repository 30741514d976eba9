-- q3, local item suggestion: who sells things of category 10 in Oregon, Idaho or California, and which.
-- State: the people of these states and the auctions of the category, for ever.
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append');
INSERT INTO result
SELECT p.name, p.city, p.state, a.id
FROM auction a JOIN person p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA');
