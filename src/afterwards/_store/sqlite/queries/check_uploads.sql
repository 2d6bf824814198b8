-- A page of open uploads with how many bytes of each are promised to be on the disk.
SELECT seq, id, offset FROM upload WHERE state = 'open' AND seq > :after ORDER BY seq LIMIT :limit;
