-- Which of these files have a row, or will have one when the upload that they belong to is finished. One statement, so
-- that an upload which ends meanwhile is found as one or as the other.
SELECT id FROM file WHERE id IN (SELECT value FROM json_each(:ids))
 UNION
SELECT id FROM upload WHERE state = 'open' AND id IN (SELECT value FROM json_each(:ids));
