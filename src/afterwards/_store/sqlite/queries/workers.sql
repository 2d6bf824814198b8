-- Every worker that has not been ended, and whoever holds tasks or keys without being known any more: of those, only the id
-- is left.
SELECT id, host, pid, boot, started_at, lease_until, program, folder, stopped_at FROM worker
UNION ALL
SELECT worker, '', 0, '', 0, 0, '', '', NULL
  FROM (SELECT worker FROM task WHERE worker IS NOT NULL
         UNION
        SELECT worker FROM idempotency_key WHERE worker IS NOT NULL)
 WHERE worker NOT IN (SELECT id FROM worker);
