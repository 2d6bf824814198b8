-- Write progress and log lines of running attempts into the log, under the fence. No row: the lease was lost.
INSERT INTO event (task, kind, at, data)
SELECT task.seq, item.value ->> 'kind', item.value ->> 'at', item.value ->> 'data'
  FROM jsonb_each(:notes) AS item
  JOIN task ON task.id = item.value ->> 'id'
           AND task.attempt = item.value ->> 'attempt'
           AND task.token = item.value ->> 'token'
           AND task.state = 'running'
 ORDER BY item.key;
