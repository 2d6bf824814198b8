-- Let uploads end now of which only the requests of a worker knew that has ended.
UPDATE upload SET writer = writer + 1, expires_at = :now WHERE worker = :worker AND state = 'open';
