-- Files that no task refers to any more and that need not be kept any longer, as one row of JSON.
SELECT json_group_array(id) FROM (SELECT id FROM file WHERE uses = 0 AND kept_until < :now LIMIT :limit);
