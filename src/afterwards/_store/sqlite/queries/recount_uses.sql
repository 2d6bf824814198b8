-- Write down anew how many tasks have each of these files.
UPDATE file
   SET uses = (SELECT count(*) FROM task_file WHERE task_file.file = file.seq)
 WHERE id IN (SELECT value FROM json_each(:ids))
   AND uses <> (SELECT count(*) FROM task_file WHERE task_file.file = file.seq);
