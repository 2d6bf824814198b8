-- End an upload early; for a while, who asks for it is told that it was there.
UPDATE upload
   SET state = :state, writer = writer + 1, changed_at = :now, expires_at = :until
 WHERE id = :id AND (state = 'open' OR state = 'finished' AND :state = 'terminated')
RETURNING id;
