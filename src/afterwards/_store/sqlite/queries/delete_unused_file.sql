-- Forget one file, unless a task has it. No row: a task has it, or there is none.
DELETE FROM file WHERE id = :id AND uses = 0 RETURNING id;
