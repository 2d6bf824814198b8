-- A write of our own after a failed one: it overwrites what the failed commit may have left in the log.
UPDATE reopening SET times = times + 1;
