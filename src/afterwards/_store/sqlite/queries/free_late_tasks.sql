-- Tasks added one by one may come after the end of the task they follow, or even after it was pruned: decide for them
-- what its end would have.
UPDATE task
   SET state = CASE WHEN late.stopped THEN 'cancelled'
                    WHEN task.run_at > task.updated_at THEN 'scheduled'
                    ELSE 'queued' END,
       on_error = iif(late.stopped, 'stop', task.on_error),  -- what comes behind it is stopped too
       finished_at = iif(late.stopped, task.updated_at, NULL)
  FROM (SELECT added.seq, before.on_error = 'stop' AND before.state <> 'succeeded' AS stopped
          FROM json_each(:ids) AS item
          JOIN task AS added ON added.id = item.value
          LEFT JOIN task AS before ON before.id = added.after
         WHERE added.state = 'waiting' AND added.after IS NOT NULL
           AND (before.id IS NULL OR before.finished_at IS NOT NULL)) AS late
 WHERE task.seq = late.seq;
