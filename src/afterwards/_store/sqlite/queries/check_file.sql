-- What a file's row promises of its bytes, if it is there still.
SELECT size, digest, content IS NULL AND pack IS NULL FROM file WHERE id = :id;
