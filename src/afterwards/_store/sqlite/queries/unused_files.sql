-- Files that no task refers to any more, as one row of JSON.
SELECT json_group_array(id) FROM (SELECT id FROM file WHERE uses = 0 AND created_at < :before LIMIT :limit);
