-- Keep the answer of a request under its key. No change: another request has taken the key.
INSERT INTO idempotency_key (id, fingerprint, status, headers, body, expires_at)
VALUES (:id, :fingerprint, :status, :headers, :body, :expires_at)
ON CONFLICT (id) DO UPDATE
   SET worker = NULL, token = NULL, fingerprint = excluded.fingerprint, status = excluded.status,
       headers = excluded.headers, body = excluded.body, expires_at = excluded.expires_at
 WHERE token = :token;  -- the fence: one that stood still names a token that has gone
