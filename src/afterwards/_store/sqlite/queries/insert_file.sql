-- Store what is known of a file whose bytes are safe already, or come with the row.
INSERT INTO file (id, name, size, content_type, headers, digest, content, pack, pack_at, created_at, kind, type, owner,
                  kept_until, verdict)
VALUES (:id, :name, :size, :content_type, :headers, :digest, :content, :pack, :pack_at, :created_at, :kind, :type, :owner,
        :kept_until, :verdict)
ON CONFLICT (id) DO NOTHING;  -- the same upload handed to a second task
