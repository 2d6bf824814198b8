-- Make an upload known.
INSERT INTO upload (id, state, concat, explicit, metadata, name, content_type, owner, digests, length, offset, boot,
                    worker, created_at, changed_at, expires_at)
VALUES (:id, :state, :concat, :explicit, :metadata, :name, :content_type, :owner, :digests, :length, :offset, :boot,
        :worker, :created_at, :changed_at, :expires_at);
