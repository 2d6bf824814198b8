-- End them; for a while, who asks for one is told that it was there.
UPDATE upload
   SET state = 'expired', writer = writer + 1, changed_at = :now, expires_at = :until
 WHERE id IN (SELECT value FROM json_each(:ids));
