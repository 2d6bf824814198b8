-- How many rows the tables have that hold exactly one.
SELECT 'identity', (SELECT count(*) FROM identity) UNION ALL SELECT 'reopening', (SELECT count(*) FROM reopening);
