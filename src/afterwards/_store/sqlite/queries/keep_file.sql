-- Keep a file for some time more, because a task is about to take it. No row: it is gone.
UPDATE file SET kept_until = max(kept_until, :until) WHERE id = :id RETURNING id;
