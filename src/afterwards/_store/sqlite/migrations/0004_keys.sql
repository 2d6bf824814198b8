-- Idempotency keys: which request each belongs to, and what it was answered.
-- A key is held by the worker whose request runs, or has an answer: never both, never neither. The end of a worker frees
-- what it held, like its tasks, so that no key waits for a process that is gone.

CREATE TABLE idempotency_key (
    seq         INTEGER PRIMARY KEY,
    id          BLOB    NOT NULL UNIQUE,  -- a keyed digest of caller, route and key: who reads this learns none of them
    worker      TEXT,
    token       TEXT,     -- of the request that holds it: the fence of its answer
    fingerprint BLOB,     -- of the request that was answered; NULL: its body never came whole
    status      INTEGER,
    headers     TEXT,     -- JSON: [[name, value], ...]
    body        BLOB,     -- NULL: it was a stream, or too large to keep
    expires_at  INTEGER,
    CHECK ((worker IS NULL) = (token IS NULL)),
    CHECK ((worker IS NULL) = (status IS NOT NULL)),
    CHECK ((status IS NULL) = (headers IS NULL) AND (status IS NULL) = (expires_at IS NULL)),
    CHECK (status IS NOT NULL OR (fingerprint IS NULL AND body IS NULL))
) STRICT;

CREATE INDEX key_held ON idempotency_key (worker) WHERE worker IS NOT NULL;
CREATE INDEX key_expires ON idempotency_key (expires_at) WHERE expires_at IS NOT NULL;
