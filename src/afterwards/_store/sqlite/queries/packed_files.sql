-- A page of the files whose bytes are in packs.
SELECT seq, size, pack, pack_at FROM file WHERE seq > :after AND pack IS NOT NULL ORDER BY seq LIMIT :limit;
