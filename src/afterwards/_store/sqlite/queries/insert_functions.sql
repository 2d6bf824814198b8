-- Remember functions by name, so that a restarted program knows what to look for.
INSERT INTO function (name, signature)
SELECT value ->> 0, value ->> 1 FROM jsonb_each(:functions) WHERE true
ON CONFLICT (name) DO UPDATE SET signature = excluded.signature WHERE signature <> excluded.signature;
