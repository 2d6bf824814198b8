-- Which of these files have a row.
SELECT id FROM file WHERE id IN (SELECT value FROM json_each(:ids));
