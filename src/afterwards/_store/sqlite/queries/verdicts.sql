-- What a scanner said of files, as far as they have a row.
SELECT id, verdict FROM file WHERE id IN (SELECT value FROM json_each(:ids));
