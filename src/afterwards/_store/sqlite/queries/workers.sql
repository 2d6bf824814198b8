-- Every worker that has not been ended.
SELECT id, host, pid, boot, started_at, lease_until, program, folder, stopped_at FROM worker;
