-- How much there is in a file that does not say whose it is.
SELECT count(*) FROM sqlite_schema;
