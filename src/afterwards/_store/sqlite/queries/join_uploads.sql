-- The parts of an upload are in it now; for a while, who asks for one is told that it was there.
UPDATE upload
   SET state = 'joined', changed_at = :now, expires_at = :until
 WHERE id IN (SELECT value FROM json_each(:ids));
