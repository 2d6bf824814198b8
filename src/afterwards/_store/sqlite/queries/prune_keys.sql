-- Delete answers that have expired, oldest first.
DELETE FROM idempotency_key
 WHERE seq IN (SELECT seq FROM idempotency_key WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit);
