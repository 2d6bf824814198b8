-- The state a task is in.
SELECT state FROM task WHERE id = :id;
