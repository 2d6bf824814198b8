"""Applications with a data directory of their own, by both doors, files behind a server, a disk soon full."""

from support.disk import tiny_disk
from support.fixtures import new_site, new_start, site
from support.shelf import shelf

__all__ = ["new_site", "new_start", "shelf", "site", "tiny_disk"]
