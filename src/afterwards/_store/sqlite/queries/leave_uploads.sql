-- End what is still arriving, in a copy of the database: its bytes are not copied. Who asks is told that it was there.
UPDATE upload
   SET state = 'expired', writer = writer + 1, changed_at = :now, expires_at = :until
 WHERE state = 'open' AND expires_at > 0;  -- each has an end, and so their index is used
