"""Applications with a data directory of their own, and files behind a real server."""

from support.fixtures import new_site, new_start, site
from support.shelf import shelf

__all__ = ["new_site", "new_start", "shelf", "site"]
