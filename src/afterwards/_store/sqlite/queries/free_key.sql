-- Free a key whose request stored nothing. One that has an answer stays.
DELETE FROM idempotency_key WHERE id = :id AND token = :token;
