"""Real files, and a real disk that is soon full."""

from support.disk import tiny_disk

__all__ = ["tiny_disk"]
