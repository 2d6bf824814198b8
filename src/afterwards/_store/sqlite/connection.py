"""Opens connections to the database, each with the same settings, and names what can go wrong with one."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from sys import platform

import apsw

from afterwards._store.sqlite.lineage import log_size
from afterwards.errors import StoreRefused

log = logging.getLogger("afterwards.store")

# What the disk, not a command, can make a statement raise. After one of these a connection is not trusted any more.
DISK_ERRORS = (
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.ProtocolError,
)

LOG_LIMIT = 64 * 1024 * 1024  # bytes the write-ahead log may keep on the disk between two resets
CHECKPOINT_PAGES = 1000  # of 4 KiB

SHORT_NAP = 0.0005  # seconds: about the time another process needs for its commit
NAP = 0.005  # seconds, once it is clear that somebody holds the lock for longer
SHORT_NAPS = 40  # about 30 ms of them


class Patience:
    """Waits for the lock of another process in short naps, up to a limit.

    SQLite's own handler soon sleeps 50 to 100 ms at a time, so that of two busy processes one starves:
    measured with two processes on two cores: the longest wait 130 to 730 ms with it, 16 to 58 ms with this, for 6 to
    45 % fewer commits in all.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until = 0.0

    def __call__(self, tries: int) -> bool:
        """Sleep and return True, or return False when the time is over."""
        now = time.monotonic()
        if tries == 0:
            self._until = now + self.seconds
        if now >= self._until:
            return False
        time.sleep(SHORT_NAP if tries < SHORT_NAPS else NAP)
        return True


@dataclass(frozen=True, slots=True)
class Database:
    """Where a database is and how to open it."""

    path: Path
    vfs: str | None = None  # SQLite's interface to the disk; None: the system's own
    busy: float = 10.0  # seconds; longer than any transaction of ours: beyond it somebody holds the lock who should not

    def open(self, *, readonly: bool = False) -> apsw.Connection:
        """Open the database, which must exist, with the settings every connection of ours has.

        Raises:
            apsw.Error: It cannot be opened or read.
        """
        flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
        connection = apsw.Connection(str(self.path), flags=flags, vfs=self.vfs, statementcachesize=100)
        try:
            connection.set_busy_handler(Patience(self.busy))
            connection.pragma("trusted_schema", False)
            connection.pragma("foreign_keys", True)
            connection.pragma("recursive_triggers", False)  # task_ended works on a whole chain by itself
            connection.pragma("cache_size", -16_384)  # KiB
            connection.pragma("temp_store", "MEMORY")
            connection.pragma("mmap_size", 0)
            connection.pragma("synchronous", "FULL")
            if platform == "darwin":  # where fsync stops at the drive's own cache
                connection.pragma("fullfsync", True)
                connection.pragma("checkpoint_fullfsync", True)
            connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            connection.pragma("journal_size_limit", LOG_LIMIT)
        except BaseException:
            connection.close()
            raise
        return connection

    def look(self) -> apsw.Connection:
        """Open the database to look at it, and leave it as it is, log and all.

        Not for reading only: SQLite then leaves CHECK constraints out of its own check (measured with 3.54.1), and the
        index of the log behind.

        Raises:
            apsw.Error: It cannot be opened or read.
        """
        connection = self.open()
        try:
            connection.pragma("query_only", True)
            if log_size(self.path):  # closing as the last would copy the log into the file: a program's business
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.pragma("schema_version")  # the first read: before it, nothing is known of the file
        except BaseException:
            connection.close()
            raise
        return connection


def close(connection: apsw.Connection) -> None:
    """Close a connection; what the disk has to say to that changes nothing of what was committed."""
    try:
        connection.close()
    except apsw.Error as error:
        log.warning("closing a connection to the database: %s", error)


def refused(database: Database, error: apsw.Error) -> StoreRefused:
    """Say why a database cannot be opened."""
    path = database.path
    if isinstance(error, apsw.NotADBError):
        return foreign(path, "it is not an SQLite database")
    if isinstance(error, apsw.BusyError):
        return StoreRefused(
            f"the database {path} was locked by another program for {database.busy:g} s. "
            "Close the program that holds it (a database browser with an open transaction?) and start again."
        )
    return StoreRefused(
        f"the database {path} cannot be opened: {error}. Check that its folder can be written by this user "
        "and lies on a healthy disk with space left."
    )


def foreign(path: Path, why: str) -> StoreRefused:
    """Say that a file is not ours."""
    return StoreRefused(
        f"{path} is not a database of Afterwards: {why}. Nothing was changed. "
        "Choose another data directory with --data or AFTERWARDS_DATA."
    )
