-- One file, with its bytes when they are kept here.
SELECT id, name, size, content_type, headers, digest, content, kind, type, owner, kept_until, verdict, pack, pack_at
  FROM file
 WHERE id = :id;
