-- How many of these are parts of an upload, complete, and not used by another.
SELECT count(*)
  FROM upload
 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'open' AND concat = 'partial' AND offset = length;
