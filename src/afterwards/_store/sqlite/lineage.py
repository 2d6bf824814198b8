"""Knows the files that the open connections work on, and notices when others take their place.

A program that opens and closes the database with a lock of its own, or a person with `rm`, can remove the
write-ahead log while it is in use: SQLite goes on writing into a file without a name, and everything is gone at
the end of the process. Only names are looked at here: opening and closing a file would drop our own locks on it.
"""

import os
import time
from pathlib import Path

from afterwards.errors import StoreBusy

_SETTLED = 100_000_000  # nanoseconds after which a folder's time tells every later change: kernels count in up to 10 ms

_Identity = tuple[int, int] | None  # device and inode; None: there is no such file


class Lineage:
    """The database and its write-ahead log, as they were when the connections were opened."""

    def __init__(self, path: Path) -> None:
        """Take down what is there now."""
        self.path = path
        self.database, self.log, self.index = (_identity(f"{path}{ending}") for ending in ("", "-wal", "-shm"))
        self._folder = str(path.parent)
        self._unchanged: object = None  # the folder, while no name in it can have changed since it was looked through

    def intact(self) -> bool:
        """Tell whether the names still lead to our files.

        This is asked at every commit, and every look at the disk gives up the interpreter lock: as long as the
        folder's own time of change stands still, one look is enough.
        """
        try:
            found = os.stat(self._folder)
        except FileNotFoundError:
            return False
        folder = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if folder == self._unchanged:
            return True
        intact = _identity(f"{self.path}-wal") == self.log and _identity(str(self.path)) == self.database
        settled = found.st_mtime_ns + _SETTLED < time.time_ns()
        self._unchanged = folder if intact and settled else None
        return intact

    def only_log_lost(self) -> bool:
        """Tell whether the log has lost its name and nobody has begun another: it can still be saved."""
        return _identity(f"{self.path}-wal") is None and _identity(str(self.path)) == self.database

    def leave(self) -> None:
        """Make sure that connections opened from now on share nothing with the old files. All of ours are closed.

        Other processes may still hold the index of the lost log, which says nothing true of a new one: it loses its
        name as the log did. They notice at their next write.

        Raises:
            StoreBusy: Somebody has begun another log beside the old index.
        """
        index = _identity(f"{self.path}-shm")
        if index is None or index != self.index:
            return  # the last that closed it took it away, or a new one has begun
        if not self.only_log_lost():
            raise StoreBusy(
                f"the write-ahead log of {self.path} was exchanged while several processes had it open. "
                "Stop all programs that use this database, then start them again."
            )
        os.unlink(f"{self.path}-shm")


def log_size(path: Path) -> int:
    """Return the bytes of the write-ahead log."""
    try:
        return os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        return 0


def _identity(name: str) -> _Identity:
    try:
        found = os.stat(name)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
