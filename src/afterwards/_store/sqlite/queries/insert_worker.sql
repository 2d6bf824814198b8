-- Make a worker known before it takes its first task.
INSERT INTO worker (id, host, pid, boot, program, folder, started_at, lease_until)
VALUES (:id, :host, :pid, :boot, :program, :folder, :started_at, :lease_until);
