-- The attempts of a task, first one first.
SELECT number, attempt.worker, attempt.state, attempt.started_at, ended_at, attempt.error
  FROM attempt JOIN task ON task.seq = attempt.task WHERE task.id = :id ORDER BY number;
