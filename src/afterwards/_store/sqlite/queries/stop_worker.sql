-- Record that a worker was told to stop.
UPDATE worker SET stopped_at = :now WHERE id = :worker AND stopped_at IS NULL;
