-- Queue a final task again, with its counters at zero: a person decided so.
UPDATE task
   SET state = 'queued', failures = 0, interruptions = 0, finished_at = NULL, updated_at = :now, run_at = :now,
       result = NULL, progress = NULL
 WHERE id = :id AND finished_at IS NOT NULL;
