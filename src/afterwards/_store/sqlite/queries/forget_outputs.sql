-- Let go of the files that a task made, before it is run again: the next success brings its own.
DELETE FROM task_file
 WHERE role = 'output'
   AND task = (SELECT seq FROM task WHERE id = :id AND finished_at IS NOT NULL);
