-- A page of tasks, newest first.
SELECT * FROM task_view
 WHERE seq < coalesce((SELECT seq FROM task WHERE id = :before), 9223372036854775807)
 ORDER BY seq DESC LIMIT :limit;
