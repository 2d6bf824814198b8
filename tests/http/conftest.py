"""Applications with a data directory of their own, by both doors."""

from support.fixtures import new_site, new_start, site

__all__ = ["new_site", "new_start", "site"]
