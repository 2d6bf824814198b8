-- Uploads that may come in several requests. While one is open its bytes are in the file uploads/ID.part of the data
-- directory; once it is finished they are the file of the same id.

CREATE TABLE upload (
    seq          INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,
    state        TEXT    NOT NULL CHECK (
        state = 'open' OR state = 'finished' OR state = 'joined' OR state = 'expired' OR state = 'terminated' OR
        state = 'failed'),
    concat       TEXT CHECK (concat IS NULL OR concat = 'partial' OR concat LIKE 'final;%'),  -- as the client sent it
    explicit     INTEGER NOT NULL CHECK (explicit IN (0, 1)),  -- it ends when the client says so, not at its length
    metadata     TEXT,  -- as the client sent it
    name         TEXT,  -- what the client called it: shown, never used as a path
    content_type TEXT,
    owner        TEXT,
    digests      TEXT    NOT NULL,  -- what the whole must have, and what the client wants to be told
    length       INTEGER CHECK (length >= 0),  -- NULL: not known yet
    offset       INTEGER NOT NULL CHECK (offset >= 0),  -- so many bytes are on stable storage
    boot         TEXT    NOT NULL,  -- the start of the machine in which the offset last grew
    writer       INTEGER NOT NULL DEFAULT 0,  -- the fence: grows with each request that takes the upload from another
    worker       TEXT,  -- only a request of this one knows of it: nobody can go on with it once that has ended
    created_at   INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    expires_at   INTEGER,  -- NULL: not by itself; a finished one stays as long as its file
    CHECK (length IS NULL OR offset <= length),
    CHECK (state <> 'finished' OR offset = length)
) STRICT;
CREATE INDEX upload_expiring ON upload (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX upload_of_worker ON upload (worker) WHERE worker IS NOT NULL;

-- A finished upload is over when its file is: for a while, who asks is told that it was there.
CREATE TRIGGER upload_file_gone AFTER DELETE ON file WHEN old.kind = 'upload' BEGIN
    UPDATE upload
       SET state = 'expired', expires_at = old.kept_until + 604800000000
     WHERE id = old.id AND state = 'finished';
END;
