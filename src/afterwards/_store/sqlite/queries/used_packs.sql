-- Which of these packs a row names.
SELECT DISTINCT pack FROM file WHERE pack IN (SELECT value FROM json_each(:packs));
