-- Forget processes, in a copy of the database: none of them works on it. What they held is freed by the next start.
DELETE FROM worker;
