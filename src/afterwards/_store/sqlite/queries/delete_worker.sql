-- Forget a worker whose end is proven and that holds nothing any more.
DELETE FROM worker WHERE id = :worker;
