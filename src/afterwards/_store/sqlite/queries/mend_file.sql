-- Put back the bytes of a file that are kept in its row, in a copy of the database.
UPDATE file SET content = :content WHERE id = :id AND content IS NOT NULL;
