-- Take a key for a request, if nobody has it or its answer has expired. No change: somebody has it.
INSERT INTO idempotency_key (id, worker, token)
VALUES (:id, :worker, :token)
ON CONFLICT (id) DO UPDATE
   SET worker = excluded.worker, token = excluded.token,
       fingerprint = NULL, status = NULL, headers = NULL, body = NULL, expires_at = NULL
 WHERE expires_at <= :now;  -- NULL while a request holds it
