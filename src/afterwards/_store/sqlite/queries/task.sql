-- One task.
SELECT * FROM task_view WHERE id = :id;
