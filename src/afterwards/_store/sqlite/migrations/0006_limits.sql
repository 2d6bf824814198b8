-- How much is stored, of each owner and altogether, kept by triggers so that a limit is one row to read.

CREATE TABLE usage (
    owner TEXT    PRIMARY KEY,  -- '': everybody, the files that nobody owns included
    bytes INTEGER NOT NULL,
    files INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO usage SELECT '', coalesce(sum(size), 0), count(*) FROM file;
INSERT INTO usage SELECT owner, sum(size), count(*) FROM file WHERE owner <> '' GROUP BY owner;

CREATE TRIGGER file_counted AFTER INSERT ON file BEGIN
    UPDATE usage SET bytes = bytes + new.size, files = files + 1 WHERE owner = '';
    INSERT INTO usage SELECT new.owner, new.size, 1 WHERE new.owner <> ''
    ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes, files = files + 1;
END;

CREATE TRIGGER file_uncounted AFTER DELETE ON file BEGIN
    UPDATE usage SET bytes = bytes - old.size, files = files - 1 WHERE owner = '' OR owner = old.owner;
    DELETE FROM usage WHERE owner = old.owner AND owner <> '' AND files = 0;
END;

-- What a scanner said of a file, for people; its verdict is in a column of its own.
ALTER TABLE file ADD COLUMN finding TEXT;
