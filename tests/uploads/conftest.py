"""Applications with a data directory of their own, and servers that take uploads."""

from support.fixtures import new_site, new_start, site
from support.uploads import server

__all__ = ["new_site", "new_start", "server", "site"]
