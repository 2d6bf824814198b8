"""Runnable programs for what the README promises; `tests/examples` runs every one of them."""
