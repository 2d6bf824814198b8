-- Queue tasks whose response has been sent.
UPDATE task
   SET state = iif(run_at > :now, 'scheduled', 'queued'), worker = NULL, updated_at = :now
 WHERE worker = :worker AND state = 'waiting' AND id IN (SELECT value FROM json_each(:ids));
