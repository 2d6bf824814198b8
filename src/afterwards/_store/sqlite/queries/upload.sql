-- One upload, with what a scanner says of its file, and until when that is kept while no task has it.
SELECT id, state, concat, explicit, metadata, name, content_type, owner, digests, length, offset, boot, writer,
       worker, created_at, changed_at, expires_at,
       (SELECT verdict FROM file WHERE file.id = upload.id) AS verdict,
       (SELECT kept_until FROM file WHERE file.id = upload.id AND uses = 0) AS kept_until
  FROM upload
 WHERE id = :id;
