"""The SQLite store: one file, one writer thread, readers beside it."""

import logging
from collections.abc import Callable
from pathlib import Path

import apsw

from afterwards._store.contract import Command, Reply
from afterwards._store.sqlite.connection import Database, refused
from afterwards._store.sqlite.pool import Pool
from afterwards._store.sqlite.reads import Reads
from afterwards._store.sqlite.schema import prepare
from afterwards._store.sqlite.session import Session
from afterwards._store.sqlite.writer import Writer

log = logging.getLogger("afterwards.store")


class SqliteStore(Reads):
    """Tasks in one SQLite file."""

    def __init__(self, path: Path, *, vfs: str | None = None, busy: float = 10.0) -> None:
        """Open or create the database.

        Args:
            path: The database file. Its folder is made if it is missing.
            vfs: SQLite's interface to the disk; the system's own by default.
            busy: Seconds to wait for the lock of another program before giving up.

        Raises:
            StoreRefused: The place, the file or the library cannot be used; nothing was changed.
        """
        database = Database(path, vfs, busy)
        prepare(database)
        try:
            pool = Pool(database)
            session = Session(database, pool)
        except apsw.Error as error:
            raise refused(database, error) from error
        super().__init__(pool)
        self._watchers: list[Callable[[bool], None]] = []
        self._session = session
        self._writer = Writer(session, self._committed)

    def submit(self, command: Command, reply: Reply) -> None:
        """Hand over a command from any thread."""
        self._writer.submit(command, reply)

    def watch(self, changed: Callable[[bool], None]) -> None:
        """Call back after each commit."""
        self._watchers.append(changed)

    def version(self) -> int:
        """Return SQLite's data version: it differs once another connection has committed, our writer's included."""
        return self._pool.version()

    def health(self) -> str | None:
        """Return why writes are refused at present."""
        return self._writer.trouble

    def close(self) -> None:
        """Commit what was submitted and close every connection."""
        self._writer.close()
        self._pool.close()
        self._session.close()  # the last, because only one that may write clears the log away

    def _committed(self, work: bool) -> None:
        for changed in self._watchers:
            try:
                changed(work)
            except Exception:  # whoever watches must not keep others from hearing, nor waiters from their answers
                log.exception("a watcher of the store failed")
