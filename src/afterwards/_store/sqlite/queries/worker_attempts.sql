-- What a worker still runs, as one row of JSON; nothing when it has been ended already and holds nothing.
SELECT json_object('stopped', json(iif(worker.stopped_at IS NULL, 'false', 'true')), 'attempts', json((
           SELECT json_group_array(json_object(
                    'id', id, 'name', name, 'attempt', attempt, 'token', token,
                    'interruptions', interruptions, 'max_interruptions', max_interruptions))
             FROM task WHERE task.worker = :worker AND state = 'running')))
  FROM (SELECT :worker AS id) AS wanted LEFT JOIN worker ON worker.id = wanted.id
 WHERE worker.id IS NOT NULL
    OR EXISTS (SELECT 1 FROM task WHERE task.worker = :worker)
    OR EXISTS (SELECT 1 FROM idempotency_key WHERE idempotency_key.worker = :worker);
