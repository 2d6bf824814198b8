-- Record how attempts ended, where the caller still holds the lease. No row: the lease was lost.
UPDATE attempt
   SET state = item.value ->> 'outcome', ended_at = item.value ->> 'at', error = item.value ->> 'error'
  FROM jsonb_each(:settlements) AS item
  JOIN task ON task.id = item.value ->> 'id'
 WHERE attempt.task = task.seq
   AND attempt.number = item.value ->> 'attempt'  -- the fence: a late worker names an older attempt
   AND attempt.token = item.value ->> 'token'     -- or guessed the number, but not this
   AND attempt.state = 'running';
