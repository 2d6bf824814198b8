-- What `purge_tasks`, `purgeable_files` and `stale_uploads` would come to now: tasks, the files that go with them, files
-- that no task has, and open uploads, each with its bytes; and how many of the tasks stay because of their numbers.
WITH old AS MATERIALIZED (
    SELECT seq, seq = (SELECT max(seq) FROM task)
                OR seq = (SELECT task FROM event WHERE position = (SELECT max(position) FROM event)) AS stays
      FROM task
     WHERE :tasks AND finished_at < :before AND (:state IS NULL OR state = :state)),
wanted AS (SELECT value AS kind FROM json_each(:kinds)),
with_tasks AS (
    SELECT file.size
      FROM (SELECT file, count(*) AS links
              FROM old JOIN task_file ON task_file.task = old.seq WHERE NOT old.stays GROUP BY file) AS held
      JOIN file ON file.seq = held.file
     WHERE file.uses = held.links AND file.created_at < :before AND file.kind IN wanted),
alone AS (SELECT size FROM file WHERE uses = 0 AND created_at < :before AND kind IN wanted),
stale AS (
    SELECT offset FROM upload
     WHERE :uploads AND state = 'open' AND expires_at > 0 AND changed_at < :before)
SELECT (SELECT count(*) FROM old WHERE NOT stays), (SELECT count(*) FROM with_tasks),
       (SELECT coalesce(sum(size), 0) FROM with_tasks), (SELECT count(*) FROM alone),
       (SELECT coalesce(sum(size), 0) FROM alone), (SELECT count(*) FROM stale),
       (SELECT coalesce(sum(offset), 0) FROM stale), (SELECT count(*) FROM old WHERE stays);
