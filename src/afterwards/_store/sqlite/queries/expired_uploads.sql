-- Uploads to which nothing came for too long, as one row of JSON.
SELECT json_group_array(id)
  FROM (SELECT id FROM upload WHERE state = 'open' AND expires_at <= :now ORDER BY expires_at LIMIT :limit);
