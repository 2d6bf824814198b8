"""Looks how much room the disk of a data directory has left for people like us."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRoom:
    """A file system at one moment, as a user without privileges sees it."""

    bytes_free: int
    bytes_all: int
    files_free: int | None  # None: it has no fixed number of files
    files_all: int


def look(root: Path) -> DiskRoom:
    """Return the room on the disk of a data directory. Takes microseconds on a local disk."""
    found = os.statvfs(root)
    return DiskRoom(
        bytes_free=found.f_bavail * found.f_frsize,
        bytes_all=found.f_blocks * found.f_frsize,
        files_free=found.f_favail if found.f_files else None,
        files_all=found.f_files,
    )
