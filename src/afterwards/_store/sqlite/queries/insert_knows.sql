-- Record which functions a worker can run.
INSERT INTO knows (worker, name)
SELECT worker.id, item.value FROM json_each(:names) AS item JOIN worker ON worker.id = :worker
WHERE true
ON CONFLICT DO NOTHING;
