-- What a worker still runs, as one row of JSON; nothing when the worker has been ended already.
SELECT json_object('stopped', json(iif(worker.stopped_at IS NULL, 'false', 'true')), 'attempts', json((
           SELECT json_group_array(json_object(
                    'id', id, 'name', name, 'attempt', attempt, 'token', token,
                    'interruptions', interruptions, 'max_interruptions', max_interruptions))
             FROM task WHERE task.worker = :worker AND state = 'running')))
  FROM worker WHERE worker.id = :worker;
