-- Queue what a dead worker held back for responses that it can no longer send.
UPDATE task
   SET state = iif(run_at > :now, 'scheduled', 'queued'), worker = NULL, updated_at = :now
 WHERE worker = :worker AND state = 'waiting';
