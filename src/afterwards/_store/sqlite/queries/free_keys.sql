-- Free the keys of requests that a dead worker can no longer answer.
DELETE FROM idempotency_key WHERE worker = :worker;
