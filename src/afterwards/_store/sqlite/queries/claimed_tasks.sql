-- The claims made in this transaction, in the order in which to start them, as one row of JSON.
SELECT json_group_array(json_object(
         'id', id, 'name', name, 'attempt', attempt, 'token', token, 'arguments', arguments, 'signature', signature,
         'created_at', created_at, 'started_at', started_at, 'failures', failures, 'interruptions', interruptions,
         'max_attempts', max_attempts, 'max_interruptions', max_interruptions,
         'followed', json(iif(followed, 'true', 'false')))
         ORDER BY priority DESC, seq)
  FROM task
 WHERE worker = :worker AND state = 'running'
   AND token > :batch AND token < :batch || 'g';  -- those that begin with it: a token is hexadecimal
