-- Some of the tasks that have a file, those that have not ended first.
SELECT task.id, task.state
  FROM file JOIN task_file ON task_file.file = file.seq JOIN task ON task.seq = task_file.task
 WHERE file.id = :id ORDER BY task.finished_at IS NOT NULL, task.seq LIMIT :limit;
