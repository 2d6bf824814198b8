-- When the next task becomes due.
SELECT min(run_at) FROM task WHERE state IN ('scheduled', 'retrying');
