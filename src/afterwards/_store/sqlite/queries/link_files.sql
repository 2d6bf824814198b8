-- Tie files to the tasks that take them.
INSERT INTO task_file (task, file)
SELECT DISTINCT task.seq, file.seq
  FROM jsonb_each(:links) AS link
  JOIN task ON task.id = link.value ->> 0
  JOIN file ON file.id = link.value ->> 1;
