-- A page of tasks with what their attempts and their neighbours say of them, in the order of acceptance.
SELECT task.seq, task.id, task.name, task.state, task.arguments, task.signature, task.progress, task.result, task.error,
       task.attempt, task.worker, task.token, task.after,
       (SELECT before.finished_at IS NULL FROM task AS before WHERE before.id = task.after) AS after_is_open,
       (SELECT json_group_array(json_array(number, state, worker, token, error))
          FROM attempt WHERE attempt.task = task.seq) AS attempts,
       (SELECT json_group_array(file.id) FROM task_file JOIN file ON file.seq = task_file.file
         WHERE task_file.task = task.seq) AS files
  FROM task
 WHERE seq > :after ORDER BY seq LIMIT :limit;
