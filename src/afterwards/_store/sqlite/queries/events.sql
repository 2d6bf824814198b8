-- Everything after a position, of all tasks.
SELECT position, task.id AS task, kind, at, data
  FROM event JOIN task ON task.seq = event.task
 WHERE position > :after ORDER BY position LIMIT :limit;
