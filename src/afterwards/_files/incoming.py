"""Writes what comes in to a part file, and says how much of it is on stable storage.

The thread that has the bytes writes them; every 64 MiB or second a second thread syncs what has been written, while
the first goes on, and then tells the offset: nothing is promised before it is on the disk. After an error of the disk
nothing more is told, and what was not told before is cut off: a second sync of the same bytes may succeed without
having written them.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

from afterwards._domain.checksums import Hashes
from afterwards._files.disk import honest_errors
from afterwards._files.parts import Part
from afterwards._files.pools import Pool
from afterwards._files.writing import OrderedWriter
from afterwards.errors import Error, StorageFull

SYNC_BYTES = 64 << 20
SYNC_SECONDS = 1.0

_syncers = Pool("syncer", 4)


class Incoming:
    """The bytes of one request on their way into a part file that this process has locked."""

    def __init__(
        self,
        part: Part,
        offset: int,
        *,
        hashes: Hashes | None,
        check: Hashes | None,
        told: Callable[[int], None] | None,
    ) -> None:
        """Prepare.

        Args:
            part: Where they go.
            offset: Where in it.
            hashes: Of the upload so far, if they are known up to here: the new bytes go in too.
            check: Of the bytes of this request.
            told: Called on a thread of ours with each offset up to which all is on stable storage.
        """
        self.stable = offset
        self._part = part
        self._writer = OrderedWriter(part.fd, offset)
        self._hashes = hashes
        self.check = check
        self._told = told
        self._synced = offset  # a sync has begun up to here
        self._last_sync = time.monotonic()
        self._syncing: Future[None] | None = None
        self._failure: Error | None = None

    def write(self, block: Any) -> None:
        """Take the next bytes. Blocks.

        Raises:
            StorageFull: There was no room for all of them; what fitted is there.
            StorageUnsure: The disk failed.
        """
        if self._failure is not None:
            raise self._failure
        with self._honest():
            self._writer.write(block)
        for hashes in (self._hashes, self.check):
            if hashes is not None:
                hashes.update(block)
        self._sync_in_time()

    @property
    def offset(self) -> int:
        """Behind the last byte that has come."""
        return self._writer.end

    def _honest(self) -> AbstractContextManager[None]:
        return honest_errors(f"receiving an upload of which {self.offset:,} bytes had arrived", self._part.root)

    def _sync_in_time(self) -> None:
        now = time.monotonic()
        written = self._writer.written
        due = written - self._synced >= SYNC_BYTES or now - self._last_sync >= SYNC_SECONDS
        if self._told is None or not due or (self._syncing is not None and not self._syncing.done()):
            return
        self._synced, self._last_sync = written, now
        self._syncing = _syncers.submit(self._sync, written)

    def _sync(self, offset: int) -> None:
        try:
            with honest_errors(f"storing the first {offset:,} bytes of an upload", self._part.root):
                self._part.sync()
        except Error as error:
            self._failure = error
            return
        self.stable = offset
        if self._told is not None:
            self._told(offset)

    def end(self) -> int:
        """Bring all that has come onto stable storage; return the offset behind it. Blocks.

        Raises:
            StorageFull: There was no room for all of it; what fitted is there.
            StorageUnsure: The disk failed; the part file ends at the last offset that was told.
        """
        full = None
        if self._failure is None and not self._writer.failed:
            try:
                with self._honest():
                    self._writer.settle()
            except StorageFull as error:
                full = error
            except Error as error:
                self._failure = error
        self._wait()
        if self._failure is None and self.stable < self.offset:
            self._told = None
            self._sync(self.offset)
        if self._failure is not None:
            self.give_up()
            self._part.cut(self.stable)
            raise self._failure
        if full is not None:
            raise full
        return self.stable

    def give_up(self) -> None:
        """Write nothing more. Blocks; afterwards the part file is the caller's to cut or to remove."""
        self._writer.give_up()
        self._wait()

    def _wait(self) -> None:
        if self._syncing is not None:
            self._syncing.result()
