-- Read what a key was answered; the status is NULL while its request runs.
SELECT fingerprint, status, headers, body FROM idempotency_key WHERE id = :id;
