-- Forget uploads that ended long ago.
DELETE FROM upload
 WHERE seq IN (SELECT seq FROM upload WHERE state <> 'open' AND expires_at <= :now LIMIT :limit);
