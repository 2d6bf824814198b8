-- One upload.
SELECT id, state, concat, explicit, metadata, name, content_type, owner, digests, length, offset, boot, writer,
       created_at, changed_at, expires_at
  FROM upload
 WHERE id = :id;
