-- Tie files to the tasks that take or made them; what a task took and returned stays its input.
INSERT INTO task_file (task, file, role)
SELECT DISTINCT task.seq, file.seq, link.value ->> 2
  FROM jsonb_each(:links) AS link
  JOIN task ON task.id = link.value ->> 0
  JOIN file ON file.id = link.value ->> 1
 WHERE true
    ON CONFLICT (task, file) DO NOTHING;
