-- Record what a scanner says of a file. What was found in it once is not taken back by a later scan.
UPDATE file
   SET verdict = iif(verdict = 'infected', verdict, :verdict), finding = iif(verdict = 'infected', finding, :finding)
 WHERE id = :id
RETURNING verdict;
