-- A page of tasks of a state that is not final, newest first. Each has a small index that does not grow with what is done.
SELECT * FROM task_view
 WHERE seq IN (
       SELECT seq FROM task WHERE :state = 'queued' AND state = 'queued'
       UNION ALL
       SELECT seq FROM task WHERE :state = 'running' AND worker IS NOT NULL AND state = 'running'
       UNION ALL
       SELECT seq FROM task WHERE :state = 'waiting' AND state = 'waiting'
       UNION ALL
       SELECT seq FROM task WHERE state IN ('scheduled', 'retrying') AND state = :state)
   AND seq < coalesce((SELECT seq FROM task WHERE id = :before), 9223372036854775807)
   AND (:name IS NULL OR name = :name)
   AND (:queue IS NULL OR queue = :queue)
 ORDER BY seq DESC LIMIT :limit;
