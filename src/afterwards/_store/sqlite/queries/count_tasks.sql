-- How many tasks there are of each state. Each part counts entries of an index; only finished tasks are many, and all
-- of those that are not in the smaller index have succeeded.
SELECT 'queued' AS state, count(*) AS number FROM task WHERE state = 'queued'
UNION ALL
SELECT 'running', count(*) FROM task WHERE worker IS NOT NULL AND state = 'running'
UNION ALL
SELECT 'waiting', count(*) FROM task WHERE state = 'waiting'
UNION ALL
SELECT state, count(*) FROM task WHERE state IN ('scheduled', 'retrying') GROUP BY state
UNION ALL
SELECT state, count(*) FROM task WHERE finished_at IS NOT NULL AND state <> 'succeeded' GROUP BY state
UNION ALL
SELECT 'succeeded', (SELECT count(*) FROM task WHERE finished_at IS NOT NULL)
                  - (SELECT count(*) FROM task WHERE finished_at IS NOT NULL AND state <> 'succeeded');
