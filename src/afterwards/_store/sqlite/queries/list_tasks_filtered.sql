-- A page of succeeded tasks, or of a function or queue, newest first: reads on until the page is full.
SELECT * FROM task_view
 WHERE seq < coalesce((SELECT seq FROM task WHERE id = :before), 9223372036854775807)
   AND (:state IS NULL OR state = :state)
   AND (:name IS NULL OR name = :name)
   AND (:queue IS NULL OR queue = :queue)
 ORDER BY seq DESC LIMIT :limit;
