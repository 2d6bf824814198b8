"""Remembers the few bytes of small files stored a moment ago, so that their tasks need not read them back.

Only what the database has committed gets here, and it is the same object that was written. Each is given out once:
a task that runs again, or another process, reads the row.
"""

import threading
from collections.abc import Iterable

from afterwards._files.stored import StoredFile

MOST = 4 << 20  # bytes


class Recent:
    """Small files by their id, the oldest forgotten first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._bytes = 0

    def add(self, stored: Iterable[StoredFile]) -> None:
        """Remember the small ones of these."""
        with self._lock:
            for file in stored:
                if file.content is not None and file.id not in self._files and len(file.content) <= self._most:
                    self._files[file.id] = file
                    self._bytes += len(file.content)
            while self._bytes > self._most:
                self._forget(next(iter(self._files)))

    def pop(self, id: str) -> StoredFile | None:
        """Return a file that is remembered, and forget it."""
        with self._lock:
            return self._forget(id) if id in self._files else None

    def _forget(self, id: str) -> StoredFile:
        file = self._files.pop(id)
        self._bytes -= len(file.content or b"")
        return file
