-- Queue what has become due.
UPDATE task
   SET state = 'queued', updated_at = :now
 WHERE state IN ('scheduled', 'retrying') AND run_at <= :now;
