-- Every function a program handed to add_task.
SELECT name, signature FROM function;
