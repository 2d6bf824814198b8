-- Begin attempts of the most urgent queued tasks of some functions: the best few of each name, then the best of those.
-- Asking by name means that tasks of functions this program lacks cost nothing, however many wait.
UPDATE task
   SET state = 'running', attempt = attempt + 1, worker = :worker, token = :batch || lower(hex(randomblob(8))),
       started_at = :now, updated_at = :now, progress = NULL, error = NULL
 WHERE seq IN (
       SELECT ready.seq
         FROM json_each(:names) AS wanted
         JOIN task AS ready ON ready.seq IN (
              SELECT seq FROM task
               WHERE state = 'queued' AND name = wanted.value
               ORDER BY priority DESC, seq
               LIMIT :limit)
        ORDER BY ready.priority DESC, ready.seq
        LIMIT :limit);
