-- Delete tasks that ended in a span of time, those that succeeded or the others, oldest first, but never the newest task
-- nor the owner of the newest event: their numbers must not be used again.
DELETE FROM task
 WHERE seq IN (SELECT seq FROM task
                WHERE finished_at >= :since AND finished_at < :before AND (state = 'succeeded') = :succeeded
                  AND seq < (SELECT max(seq) FROM task)
                  AND seq <> (SELECT task FROM event WHERE position = (SELECT max(position) FROM event))
                ORDER BY finished_at LIMIT :limit);
