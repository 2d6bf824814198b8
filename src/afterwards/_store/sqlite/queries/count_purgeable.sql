-- What `purge_tasks` and `purgeable_files` would come to now, and the bytes of those files.
SELECT (SELECT count(*) FROM task
         WHERE :tasks AND finished_at < :before AND (:state IS NULL OR state = :state)
           AND seq < (SELECT max(seq) FROM task)
           AND seq <> (SELECT task FROM event WHERE position = (SELECT max(position) FROM event))),
       count(*), coalesce(sum(size), 0)
  FROM file
 WHERE uses = 0 AND created_at < :before
   AND kind IN (SELECT value FROM json_each(:kinds));
