-- What a scanner said of a file.
SELECT finding FROM file WHERE id = :id;
