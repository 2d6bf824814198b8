-- Record how many bytes are on stable storage, if the caller still holds the upload.
UPDATE upload
   SET offset = :offset, boot = :boot, length = coalesce(length, :length), changed_at = :now, expires_at = :expires_at
 WHERE id = :id
   AND state = 'open'
   AND writer = :writer  -- a late writer names an older number
   AND offset <= :offset;
