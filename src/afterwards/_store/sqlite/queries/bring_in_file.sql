-- Keep the bytes of a file in its row.
UPDATE file SET content = :content, pack = NULL, pack_at = NULL WHERE seq = :seq;
