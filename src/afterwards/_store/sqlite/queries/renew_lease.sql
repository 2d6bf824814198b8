-- Prolong a worker's lease. No row: it has been given up for dead, and what it runs is somebody else's.
UPDATE worker SET lease_until = :lease_until WHERE id = :worker;
