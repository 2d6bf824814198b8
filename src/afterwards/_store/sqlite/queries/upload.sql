-- One upload, with what a scanner says of its file.
SELECT id, state, concat, explicit, metadata, name, content_type, owner, digests, length, offset, boot, writer,
       worker, created_at, changed_at, expires_at, (SELECT verdict FROM file WHERE file.id = upload.id) AS verdict
  FROM upload
 WHERE id = :id;
