-- A file that has no row although a task was to be tied to it.
SELECT link.value ->> 1
  FROM jsonb_each(:links) AS link
 WHERE NOT EXISTS (SELECT 1 FROM file WHERE file.id = link.value ->> 1)
 LIMIT 1;
