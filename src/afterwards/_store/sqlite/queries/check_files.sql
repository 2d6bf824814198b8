-- A page of files with how many tasks have each, in the order of acceptance.
SELECT seq, id, name, size, headers, digest, content, pack, pack_at, uses,
       (SELECT count(*) FROM task_file WHERE task_file.file = file.seq) AS links
  FROM file
 WHERE seq > :after ORDER BY seq LIMIT :limit;
