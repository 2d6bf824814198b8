-- Store new tasks; triggers write their first event and, for those that start at once, their first attempt.
INSERT INTO task (id, name, state, queue, priority, arguments, signature, sequence, after, followed, on_error,
                  max_attempts, max_interruptions, attempt, created_at, run_at, started_at, updated_at, worker, token)
SELECT value ->> 'id', value ->> 'name', value ->> 'state', value ->> 'queue', value ->> 'priority',
       value ->> 'arguments', value ->> 'signature', value ->> 'sequence', value ->> 'after', value ->> 'followed',
       value ->> 'on_error', value ->> 'max_attempts', value ->> 'max_interruptions', value ->> 'attempt',
       value ->> 'created_at', value ->> 'run_at', value ->> 'started_at', value ->> 'created_at',
       value ->> 'worker', value ->> 'token'
  FROM jsonb_each(:tasks);
