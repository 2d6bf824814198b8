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

-- An upload that has not ended counts with what it will have, or has so far when nobody knows.
CREATE TRIGGER upload_counted AFTER INSERT ON upload WHEN new.state = 'open' BEGIN
    UPDATE usage SET bytes = bytes + coalesce(new.length, new.offset), files = files + 1 WHERE owner = '';
    INSERT INTO usage SELECT new.owner, coalesce(new.length, new.offset), 1 WHERE new.owner <> ''
    ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes, files = files + 1;
END;
CREATE TRIGGER upload_grew AFTER UPDATE OF length, offset ON upload
WHEN new.state = 'open' AND old.state = 'open' AND coalesce(new.length, new.offset) <> coalesce(old.length, old.offset) BEGIN
    UPDATE usage SET bytes = bytes + coalesce(new.length, new.offset) - coalesce(old.length, old.offset)
     WHERE owner = '' OR owner = new.owner;
END;
CREATE TRIGGER upload_ended AFTER UPDATE OF state ON upload WHEN old.state = 'open' AND new.state <> 'open' BEGIN
    UPDATE usage SET bytes = bytes - coalesce(old.length, old.offset), files = files - 1 WHERE owner = '' OR owner = old.owner;
    DELETE FROM usage WHERE owner = old.owner AND owner <> '' AND files = 0;
END;
CREATE TRIGGER upload_uncounted AFTER DELETE ON upload WHEN old.state = 'open' BEGIN
    UPDATE usage SET bytes = bytes - coalesce(old.length, old.offset), files = files - 1 WHERE owner = '' OR owner = old.owner;
    DELETE FROM usage WHERE owner = old.owner AND owner <> '' AND files = 0;
END;
