-- A page of the files whose bytes are not in their row.
SELECT seq, id, size, digest
  FROM file
 WHERE seq > :after AND content IS NULL AND pack IS NULL
 ORDER BY seq LIMIT :limit;
