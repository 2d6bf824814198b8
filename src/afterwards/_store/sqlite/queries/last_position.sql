-- The position of the newest event.
SELECT coalesce(max(position), 0) FROM event;
