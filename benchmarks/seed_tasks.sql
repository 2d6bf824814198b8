-- An old store: finished tasks, an hour to six days ago, within what is kept, each with its attempt; and tasks that wait.
-- The triggers write the events and, for a claim, the attempt, as they do in a store that lived.
BEGIN IMMEDIATE;

WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :finished)
INSERT INTO task (id, name, state, queue, priority, arguments, signature, followed, on_error, max_attempts,
                  max_interruptions, attempt, created_at, run_at, started_at, finished_at, updated_at, result)
SELECT substr(lower(hex(randomblob(22))), 1, 43), 'benchmarks.task:note_async', 'succeeded', 'default', 0, '[[1,2],{}]', 'seeded',
       0, 'continue', 1, 3, 1, at, at, at + 1000, at + 2000, at + 2000, 'null'
  FROM (SELECT n, :now - 3600000000 - n * 500000 AS at FROM number);

INSERT INTO attempt (task, number, worker, token, state, started_at, ended_at)
SELECT seq, 1, 'seeded', 'seeded', 'succeeded', started_at, finished_at FROM task WHERE signature = 'seeded';

-- Half are due in a year, half name a function that no program here has.
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :waiting)
INSERT INTO task (id, name, state, queue, priority, arguments, signature, followed, on_error, max_attempts,
                  max_interruptions, attempt, created_at, run_at, updated_at)
SELECT substr(lower(hex(randomblob(22))), 1, 43), iif(n % 2, 'benchmarks.task:note_async', 'nowhere:missing'),
       iif(n % 2, 'scheduled', 'queued'), 'default', 0, '[[1,2],{}]', 'seeded', 0, 'continue', 1, 3, 0,
       :now, iif(n % 2, :now + 31536000000000, :now), :now
  FROM number;

COMMIT;
