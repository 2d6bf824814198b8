-- Entries of the log, in a span of positions, whose data is no JSON.
SELECT event.position, task.id FROM event LEFT JOIN task ON task.seq = event.task
 WHERE event.position > :after AND event.position <= :until AND NOT json_valid(event.data)
 ORDER BY event.position;
