-- How far the numbers of tasks, files and events go.
SELECT (SELECT coalesce(max(seq), 0) FROM task), (SELECT coalesce(max(seq), 0) FROM file),
       (SELECT coalesce(max(position), 0) FROM event);
