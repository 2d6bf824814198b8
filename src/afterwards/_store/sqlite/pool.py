"""Connections for reading, lent for one short read each, to as many threads as ask.

A connection belongs to no thread: web frameworks start threads by the hundred, and each would leave one behind.
What is idle beyond a few is closed. All of them can be closed for a moment, when the files below are exchanged.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from afterwards._store.sqlite.connection import DISK_ERRORS, Database, close
from afterwards._store.sqlite.sql import QUERIES
from afterwards.errors import Stopped, StorageUnsure, StoreBusy

IDLE = 8  # connections kept open, each with up to 16 MiB of pages


class Pool:
    """Runs the reading queries."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._idle: list[apsw.Connection] = []
        self._lent = 0
        self._paused = False
        self._closed = False
        self._changed = threading.Condition()
        self._versions: apsw.Connection | None = database.open(readonly=True)
        self._process = os.getpid()
        self._life = 0  # how often all connections were exchanged

    @property
    def root(self) -> Path:
        """The data directory."""
        return self._database.path.parent

    def rows(self, query: str, values: dict[str, Any]) -> list[Any]:
        """Return all rows of a query, in one read transaction.

        Raises:
            Stopped: The store was closed.
            StoreBusy, StorageUnsure: The database cannot be read at present.
        """
        try:
            connection = self._take()
            try:
                return connection.execute(QUERIES[query], values).fetchall()
            finally:
                self._give(connection)
        except (apsw.BusyError, *DISK_ERRORS) as error:
            raise self._unreadable(error) from error

    def version(self) -> int:
        """Return a number that differs once another connection has committed."""
        try:
            with self._changed:
                self._wait_until_open()
                if self._versions is None:
                    self._versions = self._database.open(readonly=True)
                return self._life << 32 | int(self._versions.pragma("data_version"))
        except (apsw.BusyError, *DISK_ERRORS) as error:
            raise self._unreadable(error) from error

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Close every connection, and let readers wait until the end of the block.

        Raises:
            StoreBusy: A reader did not come to its end in time.
        """
        with self._changed:
            self._paused = True
            try:
                if not self._changed.wait_for(lambda: self._lent == 0, timeout=self._database.busy):
                    raise StoreBusy(f"{self._lent} readers of {self._database.path} did not come to an end.")
                self._close_idle()
            except BaseException:
                self._resume()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._resume()

    def close(self) -> None:
        """Close every connection; those that are lent, when they come back."""
        with self._changed:
            self._closed = True
            self._close_idle()
            self._changed.notify_all()

    def _take(self) -> apsw.Connection:
        with self._changed:
            self._wait_until_open()
            self._lent += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._database.open(readonly=True)
        except BaseException:
            with self._changed:
                self._lent -= 1
                self._changed.notify_all()
            raise

    def _give(self, connection: apsw.Connection) -> None:
        with self._changed:
            keep = not self._closed and not self._paused and len(self._idle) < IDLE
            if keep:
                self._idle.append(connection)
            else:
                close(connection)
            self._lent -= 1
            if self._paused:
                self._changed.notify_all()

    def _wait_until_open(self) -> None:
        until = time.monotonic() + self._database.busy
        while self._paused and not self._closed:
            if not self._changed.wait(until - time.monotonic()):
                raise StoreBusy(f"the database {self._database.path} is being opened again. Ask again in a moment.")
        if self._closed:
            raise Stopped("the store has been closed. Start the program again.")
        if os.getpid() != self._process:
            raise Stopped(
                f"the store was opened by process {self._process}, and a fork of it cannot read from it. "
                "Start processes with the method spawn."
            )

    def _close_idle(self) -> None:
        for connection in self._idle:
            close(connection)
        self._idle.clear()
        if self._versions is not None:
            close(self._versions)
            self._versions = None

    def _resume(self) -> None:
        self._paused = False
        self._life += 1
        self._changed.notify_all()

    def _unreadable(self, error: apsw.Error) -> StoreBusy | StorageUnsure:
        path = self._database.path
        if isinstance(error, apsw.BusyError):
            return StoreBusy(f"another program kept the database {path} locked for too long. Ask again in a moment.")
        return StorageUnsure(
            f"the database {path} could not be read ({error}). Nothing was changed; "
            "see that the disk is healthy, then ask again."
        )
