-- A page of tasks of a final state that is not success, newest first, by task_failed.
SELECT * FROM task_view
 WHERE state = :state AND finished_at IS NOT NULL AND state <> 'succeeded'
   AND seq < coalesce((SELECT seq FROM task WHERE id = :before), 9223372036854775807)
   AND (:name IS NULL OR name = :name)
   AND (:queue IS NULL OR queue = :queue)
 ORDER BY seq DESC LIMIT :limit;
