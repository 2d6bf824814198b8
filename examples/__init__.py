"""One runnable program for each promise of the README; `tests/examples` runs every one of them."""
