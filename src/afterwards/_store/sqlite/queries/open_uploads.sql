-- Which of these uploads are open, so that their part files are needed.
SELECT id FROM upload WHERE state = 'open' AND id IN (SELECT value FROM json_each(:ids));
