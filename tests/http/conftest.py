"""Applications with a data directory of their own, by both doors, and a disk that is soon full."""

from support.disk import tiny_disk
from support.fixtures import new_site, new_start, site

__all__ = ["new_site", "new_start", "site", "tiny_disk"]
