-- Take an upload from the request that writes it now: from here on that one can record nothing.
UPDATE upload SET writer = writer + 1 WHERE id = :id AND state = 'open' RETURNING writer;
