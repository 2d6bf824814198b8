-- Every worker that has not been ended, and whoever holds tasks without being known any more: of those, only the id is left.
SELECT id, host, pid, boot, started_at, lease_until, program, folder, stopped_at FROM worker
UNION ALL
SELECT DISTINCT worker, '', 0, '', 0, 0, '', '', NULL FROM task
 WHERE worker IS NOT NULL AND worker NOT IN (SELECT id FROM worker);
