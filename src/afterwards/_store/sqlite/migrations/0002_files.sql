-- What is known of a file beside its bytes: where it came from, what it is, whose it is, and how long it stays.

ALTER TABLE file ADD COLUMN kind TEXT NOT NULL DEFAULT 'input' CHECK (
    kind = 'input' OR kind = 'upload' OR kind = 'artifact');  -- came with a task, by itself, or was made by a task
ALTER TABLE file ADD COLUMN type TEXT;  -- its media type as its bytes say; content_type is what the client said
ALTER TABLE file ADD COLUMN owner TEXT;  -- whose limits it counts for
ALTER TABLE file ADD COLUMN kept_until INTEGER NOT NULL DEFAULT 0;  -- it stays this long even when no task has it
ALTER TABLE file ADD COLUMN verdict TEXT CHECK (
    verdict IS NULL OR verdict = 'held' OR verdict = 'clean' OR verdict = 'infected');  -- of a scanner; NULL: not asked
UPDATE file SET kept_until = created_at + 3600000000;

DROP INDEX file_unused;
CREATE INDEX file_unused ON file (kept_until) WHERE uses = 0;

ALTER TABLE task_file ADD COLUMN role TEXT NOT NULL DEFAULT 'input' CHECK (role = 'input' OR role = 'output');

DROP VIEW task_view;
CREATE VIEW task_view AS
SELECT task.seq, task.id, task.name, task.state, task.queue, task.priority, task.arguments, task.signature, task.attempt,
       task.max_attempts, task.failures, task.interruptions, task.created_at, task.run_at, task.started_at,
       task.finished_at, task.updated_at, task.sequence, task.after, task.worker, task.progress, task.result, task.error,
       coalesce((SELECT json_group_array(json_object('id', file.id, 'name', file.name, 'size', file.size,
                           'content_type', file.content_type, 'type', file.type, 'digest', file.digest,
                           'role', task_file.role, 'verdict', file.verdict) ORDER BY file.seq)
                   FROM task_file JOIN file ON file.seq = task_file.file
                  WHERE task_file.task = task.seq), '[]') AS files,
       EXISTS (SELECT 1 FROM knows WHERE knows.name = task.name) AS known
  FROM task;
