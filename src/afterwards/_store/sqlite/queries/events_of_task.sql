-- Everything after a position, of one task.
SELECT position, :task AS task, kind, at, data
  FROM event WHERE task = (SELECT seq FROM task WHERE id = :task) AND position > :after
 ORDER BY position LIMIT :limit;
