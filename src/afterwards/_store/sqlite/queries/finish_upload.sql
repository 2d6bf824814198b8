-- End an upload whose bytes are stored, if the caller still holds it.
UPDATE upload
   SET state = 'finished', offset = :length, length = :length, changed_at = :now, expires_at = NULL
 WHERE id = :id
   AND state = 'open'
   AND writer = :writer
   AND offset = coalesce(:offset, offset)
   AND coalesce(length, :length) = :length;
