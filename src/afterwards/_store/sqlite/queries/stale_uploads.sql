-- Open uploads to which nothing has come since a time.
SELECT id FROM upload WHERE state = 'open' AND expires_at > 0 AND changed_at < :before;
