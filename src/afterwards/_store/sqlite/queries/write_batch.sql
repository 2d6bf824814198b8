-- Carry out a batch; the trigger `batch_written` of the schema says how.
INSERT INTO batch
VALUES (:notes, :settlements, :functions, :tasks, :late,
        :worker, :mark, :now, :names, :most, :more_names, :more_most);
