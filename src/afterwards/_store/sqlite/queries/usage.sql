-- How much is stored of each of some owners; '' is everybody.
SELECT owner, bytes, files FROM usage WHERE owner IN (SELECT value FROM json_each(:owners));
