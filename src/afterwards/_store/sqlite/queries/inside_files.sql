-- A page of the files whose bytes are in their row.
SELECT seq, id, digest, content FROM file WHERE seq > :after AND content IS NOT NULL ORDER BY seq LIMIT :limit;
