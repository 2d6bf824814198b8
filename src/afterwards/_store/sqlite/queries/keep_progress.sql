-- Keep the newest progress on the task, where a reader of its state finds it.
UPDATE task
   SET progress = item.value ->> 'data', updated_at = item.value ->> 'at'
  FROM (SELECT value, max(key) FROM jsonb_each(:notes)
         WHERE value ->> 'kind' = 'progress' GROUP BY value ->> 'id') AS item
 WHERE task.id = item.value ->> 'id'
   AND task.attempt = item.value ->> 'attempt'
   AND task.token = item.value ->> 'token'
   AND task.state = 'running';
