-- Keep a file no longer than tasks have it.
UPDATE file SET kept_until = 0 WHERE id = :id;
