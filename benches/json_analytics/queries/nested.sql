-- How many users have how many events.
-- from json to noop, update
SELECT n, count(*) AS users FROM (SELECT user_id, count(*) AS n FROM events GROUP BY user_id) GROUP BY n
