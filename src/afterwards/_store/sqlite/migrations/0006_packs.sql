-- Where the bytes of a small file are that is neither in its row nor a file of its own: see _files/packs.py.
ALTER TABLE file ADD COLUMN pack INTEGER CHECK (pack IS NULL OR content IS NULL);
ALTER TABLE file ADD COLUMN pack_at INTEGER CHECK ((pack_at IS NULL) = (pack IS NULL));
CREATE INDEX file_pack ON file (pack) WHERE pack IS NOT NULL;
