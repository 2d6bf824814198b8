"""Applications with a data directory of their own, by both doors, servers that take uploads, a disk soon full."""

from support.disk import tiny_disk
from support.fixtures import new_site, new_start, site
from support.uploads import server

__all__ = ["new_site", "new_start", "server", "site", "tiny_disk"]
