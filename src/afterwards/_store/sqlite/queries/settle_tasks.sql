-- Move tasks on after their attempt ended, under the same fence. A trigger frees the task behind each.
UPDATE task
   SET state = item.value ->> 'state',
       finished_at = iif(item.value ->> 'state' IN ('queued', 'retrying'), NULL, item.value ->> 'at'),
       updated_at = item.value ->> 'at',
       run_at = coalesce(item.value ->> 'run_at', run_at),
       result = item.value ->> 'result',
       error = item.value ->> 'error',
       progress = coalesce(item.value ->> 'progress', progress),
       failures = failures + (item.value ->> 'outcome' = 'failed'),
       interruptions = interruptions + (item.value ->> 'outcome' = 'interrupted'),
       worker = NULL,
       token = NULL
  FROM jsonb_each(:settlements) AS item
 WHERE task.id = item.value ->> 'id'
   AND task.attempt = item.value ->> 'attempt'
   AND task.token = item.value ->> 'token'
   AND task.state = 'running';
