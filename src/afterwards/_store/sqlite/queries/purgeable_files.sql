-- Files of some kinds that were stored before a time and that no task has, as one row of JSON: also those that would be
-- kept until later, because a person says so.
SELECT json_group_array(id)
  FROM (SELECT id FROM file
         WHERE uses = 0 AND created_at < :before AND kind IN (SELECT value FROM json_each(:kinds))
         LIMIT :limit);
