-- Forget files; their bytes are removed afterwards, because a row without a file must not exist.
DELETE FROM file WHERE id IN (SELECT value FROM json_each(:ids));
