-- Tasks, their attempts, their files and the log of everything that happened.
-- Times are UTC microseconds since 1970; leases are milliseconds of the machine's boot clock.
-- Values to choose from are compared one by one, the commonest first: IN with more than two of them builds a table of
-- them for each row that a trigger writes, which was a third of the time of an attempt.

CREATE TABLE worker (
    id          TEXT    PRIMARY KEY,
    host        TEXT    NOT NULL,
    pid         INTEGER NOT NULL,
    boot        TEXT    NOT NULL,
    program     TEXT    NOT NULL,
    folder      TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    stopped_at  INTEGER
) STRICT, WITHOUT ROWID;

-- Every function a program handed to add_task, signed so that a row made by hand names nothing.
CREATE TABLE function (
    name      TEXT PRIMARY KEY,
    signature TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE knows (
    worker TEXT NOT NULL REFERENCES worker ON DELETE CASCADE,
    name   TEXT NOT NULL,
    PRIMARY KEY (name, worker)
) STRICT, WITHOUT ROWID;
CREATE INDEX knows_worker ON knows (worker);

CREATE TABLE task (
    seq               INTEGER PRIMARY KEY,  -- order of acceptance
    id                TEXT    NOT NULL UNIQUE,
    name              TEXT    NOT NULL,
    state             TEXT    NOT NULL CHECK (
        state = 'queued' OR state = 'running' OR state = 'succeeded' OR state = 'waiting' OR state = 'scheduled' OR
        state = 'retrying' OR state = 'failed' OR state = 'quarantined' OR state = 'cancelled' OR state = 'expired'),
    queue             TEXT    NOT NULL,
    priority          INTEGER NOT NULL,
    arguments         TEXT    NOT NULL,
    signature         TEXT    NOT NULL,
    sequence          TEXT,
    after             TEXT,
    followed          INTEGER NOT NULL CHECK (followed = 0 OR followed = 1),
    on_error          TEXT    NOT NULL CHECK (on_error = 'continue' OR on_error = 'stop'),
    max_attempts      INTEGER NOT NULL CHECK (max_attempts >= 1),
    max_interruptions INTEGER NOT NULL CHECK (max_interruptions >= 0),
    attempt           INTEGER NOT NULL CHECK (attempt >= 0),
    failures          INTEGER NOT NULL DEFAULT 0,
    interruptions     INTEGER NOT NULL DEFAULT 0,
    created_at        INTEGER NOT NULL,
    run_at            INTEGER NOT NULL,
    started_at        INTEGER,
    finished_at       INTEGER,
    updated_at        INTEGER NOT NULL,
    worker            TEXT,
    token             TEXT,
    progress          TEXT,
    result            TEXT,
    error             TEXT,
    -- A running task has an owner and a token, and nothing else has a token.
    CHECK ((state = 'running') = (token IS NOT NULL)),
    CHECK (state <> 'running' OR (worker IS NOT NULL AND attempt >= 1 AND started_at IS NOT NULL)),
    -- Only a running task, or one held back until its response is sent, belongs to a worker.
    CHECK (worker IS NULL OR state = 'running' OR (state = 'waiting' AND after IS NULL)),
    -- No limbo: what waits, waits for a task or is held by a worker whose end will free it.
    CHECK (state <> 'waiting' OR after IS NOT NULL OR worker IS NOT NULL),
    CHECK ((finished_at IS NOT NULL) =
           (state = 'succeeded' OR state = 'failed' OR state = 'quarantined' OR state = 'cancelled' OR
            state = 'expired')),
    CHECK (result IS NULL OR state = 'succeeded')
) STRICT;

CREATE INDEX task_ready ON task (name, priority DESC, seq) WHERE state = 'queued';
CREATE INDEX task_due ON task (run_at) WHERE state IN ('scheduled', 'retrying');
CREATE INDEX task_held ON task (worker, token) WHERE worker IS NOT NULL;
CREATE INDEX task_after ON task (after) WHERE state = 'waiting';
CREATE INDEX task_finished ON task (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX task_failed ON task (state, seq) WHERE finished_at IS NOT NULL AND state <> 'succeeded';

CREATE TABLE attempt (
    task       INTEGER NOT NULL REFERENCES task ON DELETE CASCADE,
    number     INTEGER NOT NULL CHECK (number >= 1),
    worker     TEXT    NOT NULL,
    token      TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (
        state = 'running' OR state = 'succeeded' OR state = 'failed' OR state = 'interrupted' OR state = 'released'),
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    error      TEXT,
    PRIMARY KEY (task, number),
    CHECK ((state = 'running') = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX one_running_attempt ON attempt (task) WHERE state = 'running';

CREATE TABLE file (
    seq          INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,
    name         TEXT,  -- what the client called it: shown, never used as a path
    size         INTEGER NOT NULL CHECK (size >= 0),
    content_type TEXT,
    headers      TEXT    NOT NULL,
    digest       TEXT    NOT NULL,
    content      BLOB,  -- NULL: the bytes are a file of this id
    created_at   INTEGER NOT NULL,
    uses         INTEGER NOT NULL DEFAULT 0 CHECK (uses >= 0),  -- by how many tasks
    CHECK (content IS NULL OR length(content) = size)
) STRICT;
CREATE INDEX file_unused ON file (created_at) WHERE uses = 0;

CREATE TABLE task_file (
    task INTEGER NOT NULL REFERENCES task ON DELETE CASCADE,
    file INTEGER NOT NULL REFERENCES file,
    PRIMARY KEY (task, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_file_file ON task_file (file);

CREATE TRIGGER file_taken AFTER INSERT ON task_file BEGIN
    UPDATE file SET uses = uses + 1 WHERE seq = new.file;
END;

CREATE TRIGGER file_left AFTER DELETE ON task_file BEGIN
    UPDATE file SET uses = uses - 1 WHERE seq = old.file;
END;

-- Positions are never used again: pruning keeps the newest row.
CREATE TABLE event (
    position INTEGER PRIMARY KEY,
    task     INTEGER NOT NULL REFERENCES task ON DELETE CASCADE,
    kind     TEXT    NOT NULL CHECK (kind = 'state' OR kind = 'progress' OR kind = 'log'),
    at       INTEGER NOT NULL,
    data     TEXT    NOT NULL
) STRICT;
CREATE INDEX event_task ON event (task, position);

-- Every change of state is in the log, whichever statement made it.
CREATE TRIGGER task_accepted AFTER INSERT ON task BEGIN
    INSERT INTO event (task, kind, at, data)
    VALUES (new.seq, 'state', new.updated_at, json_object('state', new.state, 'attempt', new.attempt));
END;

CREATE TRIGGER task_moved AFTER UPDATE OF state ON task WHEN old.state <> new.state BEGIN
    INSERT INTO event (task, kind, at, data)
    VALUES (new.seq, 'state', new.updated_at, json_object('state', new.state, 'attempt', new.attempt));
END;

-- Every attempt is on record in the transaction that gives the right to run it.
CREATE TRIGGER task_accepted_running AFTER INSERT ON task WHEN new.state = 'running' BEGIN
    INSERT INTO attempt (task, number, worker, token, state, started_at)
    VALUES (new.seq, new.attempt, new.worker, new.token, 'running', new.started_at);
END;

CREATE TRIGGER task_claimed AFTER UPDATE OF attempt ON task WHEN new.attempt > old.attempt BEGIN
    INSERT INTO attempt (task, number, worker, token, state, started_at)
    VALUES (new.seq, new.attempt, new.worker, new.token, 'running', new.started_at);
END;

-- Whoever comes behind a task says so, whether they were accepted together or one by one.
CREATE TRIGGER task_follows AFTER INSERT ON task WHEN new.after IS NOT NULL BEGIN
    UPDATE task SET followed = 1 WHERE id = new.after AND followed = 0;
END;

-- A task that ends frees the one behind it, or cancels all that come behind it when the request asked to stop on an
-- error. Those are found in one go, because a trigger that calls itself gives up after 1,000 tasks; they pass the stop on
-- to what is added behind them later.
CREATE TRIGGER task_ended AFTER UPDATE OF finished_at ON task
WHEN new.followed AND new.finished_at IS NOT NULL AND old.finished_at IS NULL BEGIN
    UPDATE task
       SET state = 'cancelled', on_error = 'stop', finished_at = new.finished_at, updated_at = new.finished_at
     WHERE new.on_error = 'stop' AND new.state <> 'succeeded'
       AND seq IN (WITH RECURSIVE behind (seq, id) AS (
                        SELECT new.seq, new.id
                         UNION
                        SELECT task.seq, task.id FROM behind JOIN task ON task.after = behind.id
                         WHERE task.state = 'waiting')
                   SELECT behind.seq FROM behind WHERE behind.seq <> new.seq);
    UPDATE task
       SET state = iif(run_at > new.finished_at, 'scheduled', 'queued'), updated_at = new.finished_at
     WHERE after = new.id AND state = 'waiting';
END;

-- A task as people and programs read it: with its files, and whether any living process knows its function.
CREATE VIEW task_view AS
SELECT task.seq, task.id, task.name, task.state, task.queue, task.priority, task.arguments, task.signature, task.attempt,
       task.max_attempts, task.failures, task.interruptions, task.created_at, task.run_at, task.started_at,
       task.finished_at, task.updated_at, task.sequence, task.after, task.worker, task.progress, task.result, task.error,
       coalesce((SELECT json_group_array(json_object('id', file.id, 'name', file.name, 'size', file.size,
                           'content_type', file.content_type, 'digest', file.digest) ORDER BY file.seq)
                   FROM task_file JOIN file ON file.seq = task_file.file
                  WHERE task_file.task = task.seq), '[]') AS files,
       EXISTS (SELECT 1 FROM knows WHERE knows.name = task.name) AS known
  FROM task;

-- Which database this is: another one in its place is not written to by a process that has this one's key.
CREATE TABLE identity (id TEXT NOT NULL) STRICT;
INSERT INTO identity VALUES (lower(hex(randomblob(16))));

-- How often the database was opened again after a disk error; the write itself is what matters.
CREATE TABLE reopening (times INTEGER NOT NULL) STRICT;
INSERT INTO reopening VALUES (0);

-- The busiest commands of a transaction as one statement: each column is a JSON array, or NULL for none. A statement costs
-- a hand-over of the interpreter lock, so that `INSERT INTO batch` outside of a transaction is all a commit takes. What is
-- not in a batch costs nothing: each part is a view of its own, and is not written to.
CREATE VIEW batch AS
SELECT NULL AS notes, NULL AS settlements, NULL AS functions, NULL AS tasks, NULL AS late,
       NULL AS worker, NULL AS mark, NULL AS now, NULL AS names, NULL AS most, NULL AS more_names, NULL AS more_most
 WHERE false;
CREATE VIEW batch_fence AS SELECT NULL AS items WHERE false;
CREATE VIEW batch_notes AS SELECT NULL AS items WHERE false;
CREATE VIEW batch_settlements AS SELECT NULL AS items WHERE false;
CREATE VIEW batch_end AS
SELECT NULL AS id, NULL AS attempt, NULL AS token, NULL AS outcome, NULL AS state, NULL AS at, NULL AS run_at, NULL AS result,
       NULL AS error
 WHERE false;
CREATE VIEW batch_tasks AS SELECT NULL AS items WHERE false;
CREATE VIEW batch_late AS SELECT NULL AS items WHERE false;
CREATE VIEW batch_due AS SELECT NULL AS now WHERE false;
CREATE VIEW batch_claim AS SELECT NULL AS worker, NULL AS mark, NULL AS now, NULL AS names, NULL AS most WHERE false;

CREATE TRIGGER batch_written INSTEAD OF INSERT ON batch BEGIN
    INSERT INTO batch_fence SELECT new.notes WHERE new.notes IS NOT NULL;
    INSERT INTO batch_notes SELECT new.notes WHERE new.notes IS NOT NULL;
    INSERT INTO batch_settlements SELECT new.settlements WHERE new.settlements IS NOT NULL;
    INSERT INTO function (name, signature)
    SELECT value ->> 0, value ->> 1 FROM jsonb_each(new.functions) WHERE new.functions IS NOT NULL
    ON CONFLICT (name) DO UPDATE SET signature = excluded.signature WHERE signature <> excluded.signature;
    INSERT INTO batch_tasks SELECT new.tasks WHERE new.tasks IS NOT NULL;
    INSERT INTO batch_late SELECT new.late WHERE new.late IS NOT NULL;
    INSERT INTO batch_due SELECT new.now WHERE new.now IS NOT NULL;
    INSERT INTO batch_claim
    SELECT new.worker, new.mark, new.now, new.names, new.most WHERE new.most > 0;
    INSERT INTO batch_claim
    SELECT new.worker, new.mark, new.now, new.more_names, new.more_most WHERE new.more_most > 0;
END;

-- The fence: an attempt that holds its lease no longer writes nothing, and neither does anything else in this batch.
CREATE TRIGGER batch_fenced INSTEAD OF INSERT ON batch_fence BEGIN
    SELECT raise(ABORT, 'lease lost')
      FROM jsonb_each(new.items) AS item
     WHERE NOT EXISTS (
           SELECT 1 FROM task
            WHERE id = item.value ->> 'id'
              AND attempt = item.value ->> 'attempt'
              AND token = item.value ->> 'token'
              AND state = 'running');
END;

-- What running attempts tell goes into the log, and the newest progress onto the task, where readers find it.
CREATE TRIGGER batch_told INSTEAD OF INSERT ON batch_notes BEGIN
    INSERT INTO event (task, kind, at, data)
    SELECT task.seq, item.value ->> 'kind', item.value ->> 'at', item.value ->> 'data'
      FROM jsonb_each(new.items) AS item JOIN task ON task.id = item.value ->> 'id'
     ORDER BY item.key;
    UPDATE task
       SET progress = item.value ->> 'data', updated_at = item.value ->> 'at'
      FROM (SELECT value, max(key) FROM jsonb_each(new.items)
             WHERE value ->> 'kind' = 'progress' GROUP BY value ->> 'id') AS item
     WHERE task.id = item.value ->> 'id';
END;

-- How attempts ended, and what follows for their tasks. A trigger frees the task behind each.
CREATE TRIGGER batch_settled INSTEAD OF INSERT ON batch_settlements BEGIN
    INSERT INTO batch_end
    SELECT value ->> 'id', value ->> 'attempt', value ->> 'token', value ->> 'outcome', value ->> 'state', value ->> 'at',
           value ->> 'run_at', value ->> 'result', value ->> 'error'
      FROM jsonb_each(new.items);
END;

-- The same fence: an attempt ends once, and only by whoever holds its lease.
CREATE TRIGGER batch_ended INSTEAD OF INSERT ON batch_end BEGIN
    UPDATE task
       SET state = new.state,
           finished_at = iif(new.state = 'queued' OR new.state = 'retrying', NULL, new.at),
           updated_at = new.at,
           run_at = coalesce(new.run_at, run_at),
           result = new.result,
           error = new.error,
           failures = failures + (new.outcome = 'failed'),
           interruptions = interruptions + (new.outcome = 'interrupted'),
           worker = NULL,
           token = NULL
     WHERE id = new.id
       AND attempt = new.attempt  -- a late worker names an older attempt
       AND token = new.token      -- or guessed the number, but not this
       AND state = 'running';
    SELECT raise(ABORT, 'lease lost') WHERE changes() = 0;
    UPDATE attempt
       SET state = new.outcome, ended_at = new.at, error = new.error
     WHERE task = (SELECT seq FROM task WHERE id = new.id) AND number = new.attempt;
END;

-- New tasks. Triggers write their first event and, for those that start at once, their first attempt.
CREATE TRIGGER batch_accepted INSTEAD OF INSERT ON batch_tasks BEGIN
    INSERT INTO task (id, name, state, queue, priority, arguments, signature, sequence, after, followed, on_error,
                      max_attempts, max_interruptions, attempt, created_at, run_at, started_at, updated_at, worker, token)
    SELECT value ->> 'id', value ->> 'name', value ->> 'state', value ->> 'queue', value ->> 'priority',
           value ->> 'arguments', value ->> 'signature', value ->> 'sequence', value ->> 'after', value ->> 'followed',
           value ->> 'on_error', value ->> 'max_attempts', value ->> 'max_interruptions', value ->> 'attempt',
           value ->> 'created_at', value ->> 'run_at', value ->> 'started_at', value ->> 'created_at',
           value ->> 'worker', value ->> 'token'
      FROM jsonb_each(new.items);
END;

-- Tasks added one by one may come after the end of the task they follow, or even after it was pruned: decide for them
-- what its end would have.
CREATE TRIGGER batch_came_late INSTEAD OF INSERT ON batch_late BEGIN
    UPDATE task
       SET state = CASE WHEN late.stopped THEN 'cancelled'
                        WHEN task.run_at > task.updated_at THEN 'scheduled'
                        ELSE 'queued' END,
           on_error = iif(late.stopped, 'stop', task.on_error),  -- what comes behind it is stopped too
           finished_at = iif(late.stopped, task.updated_at, NULL)
      FROM (SELECT added.seq, before.on_error = 'stop' AND before.state <> 'succeeded' AS stopped
              FROM json_each(new.items) AS item
              JOIN task AS added ON added.id = item.value
              LEFT JOIN task AS before ON before.id = added.after
             WHERE added.state = 'waiting' AND added.after IS NOT NULL
               AND (before.id IS NULL OR before.finished_at IS NOT NULL)) AS late
     WHERE task.seq = late.seq;
END;

-- A claim: queue what has become due, then, for each kind of places, begin attempts of the most urgent tasks of some
-- functions: the best few of each name, and of those the best. Asking by name means that tasks of functions this program
-- lacks cost nothing, however many wait.
CREATE TRIGGER batch_became_due INSTEAD OF INSERT ON batch_due BEGIN
    UPDATE task
       SET state = 'queued', updated_at = new.now
     WHERE state IN ('scheduled', 'retrying') AND run_at <= new.now;
END;

CREATE TRIGGER batch_claimed INSTEAD OF INSERT ON batch_claim BEGIN
    UPDATE task
       SET state = 'running', attempt = attempt + 1, worker = new.worker, token = new.mark || lower(hex(randomblob(8))),
           started_at = new.now, updated_at = new.now, progress = NULL, error = NULL
     WHERE seq IN (
           SELECT ready.seq
             FROM json_each(new.names) AS wanted
             JOIN task AS ready ON ready.seq IN (
                  SELECT seq FROM task
                   WHERE state = 'queued' AND name = wanted.value
                   ORDER BY priority DESC, seq
                   LIMIT new.most)
            ORDER BY ready.priority DESC, ready.seq
            LIMIT new.most);
END;
-- What is known of a file beside its bytes: where it came from, what it is, whose it is, and how long it stays.

ALTER TABLE file ADD COLUMN kind TEXT NOT NULL DEFAULT 'input' CHECK (
    kind = 'input' OR kind = 'upload' OR kind = 'artifact');  -- came with a task, by itself, or was made by a task
ALTER TABLE file ADD COLUMN type TEXT;  -- its media type as its bytes say; content_type is what the client said
ALTER TABLE file ADD COLUMN owner TEXT;  -- whose limits it counts for
ALTER TABLE file ADD COLUMN kept_until INTEGER NOT NULL DEFAULT 0;  -- it stays this long even when no task has it
ALTER TABLE file ADD COLUMN verdict TEXT CHECK (
    verdict IS NULL OR verdict = 'held' OR verdict = 'clean' OR verdict = 'infected');  -- of a scanner; NULL: not asked
UPDATE file SET kept_until = created_at + 3600000000;

DROP INDEX file_unused;
CREATE INDEX file_unused ON file (kept_until) WHERE uses = 0;

ALTER TABLE task_file ADD COLUMN role TEXT NOT NULL DEFAULT 'input' CHECK (role = 'input' OR role = 'output');

DROP VIEW task_view;
CREATE VIEW task_view AS
SELECT task.seq, task.id, task.name, task.state, task.queue, task.priority, task.arguments, task.signature, task.attempt,
       task.max_attempts, task.failures, task.interruptions, task.created_at, task.run_at, task.started_at,
       task.finished_at, task.updated_at, task.sequence, task.after, task.worker, task.progress, task.result, task.error,
       coalesce((SELECT json_group_array(json_object('id', file.id, 'name', file.name, 'size', file.size,
                           'content_type', file.content_type, 'type', file.type, 'digest', file.digest,
                           'role', task_file.role, 'verdict', file.verdict) ORDER BY file.seq)
                   FROM task_file JOIN file ON file.seq = task_file.file
                  WHERE task_file.task = task.seq), '[]') AS files,
       EXISTS (SELECT 1 FROM knows WHERE knows.name = task.name) AS known
  FROM task;
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
-- How much is stored, of each owner and altogether, kept by triggers so that a limit is one row to read.

CREATE TABLE usage (
    owner TEXT    PRIMARY KEY,  -- '': everybody, the files that nobody owns included
    bytes INTEGER NOT NULL,
    files INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO usage SELECT '', coalesce(sum(size), 0), count(*) FROM file;
INSERT INTO usage SELECT owner, sum(size), count(*) FROM file WHERE owner <> '' GROUP BY owner;

CREATE TRIGGER file_counted AFTER INSERT ON file BEGIN
    UPDATE usage SET bytes = bytes + new.size, files = files + 1 WHERE owner = '';
    INSERT INTO usage SELECT new.owner, new.size, 1 WHERE new.owner <> ''
    ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes, files = files + 1;
END;

CREATE TRIGGER file_uncounted AFTER DELETE ON file BEGIN
    UPDATE usage SET bytes = bytes - old.size, files = files - 1 WHERE owner = '' OR owner = old.owner;
    DELETE FROM usage WHERE owner = old.owner AND owner <> '' AND files = 0;
END;

-- What a scanner said of a file, for people; its verdict is in a column of its own.
ALTER TABLE file ADD COLUMN finding TEXT;

-- An upload that has not ended counts with what it will have, or has so far when nobody knows.
CREATE TRIGGER upload_counted AFTER INSERT ON upload WHEN new.state = 'open' BEGIN
    UPDATE usage SET bytes = bytes + coalesce(new.length, new.offset), files = files + 1 WHERE owner = '';
    INSERT INTO usage SELECT new.owner, coalesce(new.length, new.offset), 1 WHERE new.owner <> ''
    ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes, files = files + 1;
END;
CREATE TRIGGER upload_grew AFTER UPDATE OF length, offset ON upload
WHEN new.state = 'open' AND old.state = 'open' AND coalesce(new.length, new.offset) <> coalesce(old.length, old.offset) BEGIN
    UPDATE usage SET bytes = bytes + coalesce(new.length, new.offset) - coalesce(old.length, old.offset)
     WHERE owner = '' OR owner = new.owner;
END;
CREATE TRIGGER upload_ended AFTER UPDATE OF state ON upload WHEN old.state = 'open' AND new.state <> 'open' BEGIN
    UPDATE usage SET bytes = bytes - coalesce(old.length, old.offset), files = files - 1 WHERE owner = '' OR owner = old.owner;
    DELETE FROM usage WHERE owner = old.owner AND owner <> '' AND files = 0;
END;
CREATE TRIGGER upload_uncounted AFTER DELETE ON upload WHEN old.state = 'open' BEGIN
    UPDATE usage SET bytes = bytes - coalesce(old.length, old.offset), files = files - 1 WHERE owner = '' OR owner = old.owner;
    DELETE FROM usage WHERE owner = old.owner AND owner <> '' AND files = 0;
END;
-- Where the bytes of a small file are that is neither in its row nor a file of its own: see _files/packs.py.
ALTER TABLE file ADD COLUMN pack INTEGER CHECK (pack IS NULL OR content IS NULL);
ALTER TABLE file ADD COLUMN pack_at INTEGER CHECK ((pack_at IS NULL) = (pack IS NULL));
CREATE INDEX file_pack ON file (pack) WHERE pack IS NOT NULL;

-- Rows as that release left them.
INSERT INTO worker VALUES ('gone', 'h', 1, 'b', 'main:app', '/srv', 1, 1, NULL);
INSERT INTO knows VALUES ('gone', 'f');
INSERT INTO function VALUES ('f', 's');
INSERT INTO task (id, name, state, queue, priority, arguments, signature, followed, on_error, max_attempts,
                  max_interruptions, attempt, created_at, run_at, started_at, finished_at, updated_at, result, error)
VALUES ('succeeded0', 'f', 'succeeded', 'default', 0, '[]', 's', 0, 'continue', 1, 3, 0, 1, 1, 2, 3, 3, '1', NULL),
       ('failed0', 'f', 'failed', 'mail', 5, '[]', 's', 0, 'continue', 2, 3, 0, 1, 1, 2, 3, 3, NULL, '{}'),
       ('queued0', 'f', 'queued', 'default', 0, '[]', 's', 0, 'continue', 1, 3, 0, 1, 1, NULL, NULL, 1, NULL, NULL);
INSERT INTO task (id, name, state, queue, priority, arguments, signature, followed, on_error, max_attempts,
                  max_interruptions, attempt, created_at, run_at, updated_at, worker)
VALUES ('waiting0', 'f', 'waiting', 'default', 0, '[]', 's', 0, 'continue', 1, 3, 0, 1, 1, 1, 'gone');
INSERT INTO attempt VALUES (1, 1, 'gone', 't', 'succeeded', 2, 3, NULL), (2, 1, 'gone', 'u', 'failed', 2, 3, '{}');
INSERT INTO file (id, name, size, headers, digest, content, created_at) VALUES ('file0', 'n', 1, '[]', 'd', x'00', 1);
INSERT INTO task_file (task, file) VALUES (1, 1);
PRAGMA application_id = 1097233527;
PRAGMA user_version = 6;
