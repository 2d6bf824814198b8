-- The bytes of a file that are kept in its row.
SELECT content FROM file WHERE id = :id AND content IS NOT NULL;
