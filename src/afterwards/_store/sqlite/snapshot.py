"""Copies a database as it is at one moment, while others write to it, and reads such a copy.

The copy is made page by page inside one read transaction, so that it never begins anew, however busy the writers are.
It is one file without a log beside it, which can be copied, compared and read from a disk that cannot be written.
Uploads that are still arriving have ended in it, because their bytes go on changing and are not copied. It knows no
process: those that work on the original will never work on it.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from afterwards._domain.uploads import REMEMBERED
from afterwards._files.packs import read
from afterwards._store.sqlite.connection import DISK_ERRORS, Database
from afterwards._store.sqlite.schema import check_owner
from afterwards._store.sqlite.sql import MIGRATIONS, QUERIES
from afterwards.errors import StorageFull, StorageUnsure, StoreBusy, StoreRefused

PAGES = 1_000  # in one step: 4 MiB
ROWS = 1_000
FULL_ROWS = 100  # with the bytes of files in them


def make_snapshot(source: Path, target: Path, advance: Callable[[float], None]) -> None:
    """Copy a database into a file that does not exist yet.

    Raises:
        StoreRefused: The source is no database of ours, or one of an older or newer release, or is damaged.
        StoreBusy, StorageFull, StorageUnsure: It could not be read, or the copy not be written.
    """
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    database = Database(source)
    with _reading(source), _opened(database.look) as live:
        check_owner(live, database)
        version = live.pragma("user_version")
        if version != len(MIGRATIONS):
            raise StoreRefused(
                f"the database {source} was written by an older Afterwards (schema {version} of {len(MIGRATIONS)}). "
                "Start the program once, which brings it up to date, then make the backup."
            )
        with _writing(target), _opened(lambda: apsw.Connection(str(target))) as copy:
            live.execute("BEGIN")
            live.execute(QUERIES["identity"]).fetchall()  # from here on, this connection sees one moment
            with copy.backup("main", live, "main") as pages:
                while not pages.done:
                    pages.step(PAGES)
                    advance(1 - pages.remaining / max(1, pages.page_count))
            live.execute("ROLLBACK")  # before the rest: a long read would keep the log from being reset
            copy.pragma("journal_mode", "delete")
            copy.pragma("foreign_keys", True)
            copy.execute(QUERIES["forget_workers"])
            now = time.time_ns() // 1000
            _bring_in(copy, source.parent)
            copy.execute(QUERIES["leave_uploads"], {"now": now, "until": now + REMEMBERED})
            found = [said for (said,) in copy.execute("PRAGMA integrity_check") if said != "ok"]
            if found:
                raise StoreRefused(
                    f"the database {source} is damaged, so that a backup of it would be too: {found[0]}. "
                    "See `afterwards doctor`, and keep the backups you have."
                )


def _bring_in(copy: apsw.Connection, root: Path) -> None:
    """Take the bytes of small files into their rows, so that the copy needs no packs.

    Whoever makes it holds them. Of what is damaged there, the digest in the row tells.
    """
    after: Any = 0
    while rows := copy.execute(QUERIES["packed_files"], {"after": after, "limit": ROWS}).fetchall():
        copy.execute("BEGIN")
        size: Any
        number: Any
        at: Any
        for after, size, number, at in rows:
            content = read(root, (number, at), size).ljust(size, b"\0")
            copy.execute(QUERIES["bring_in_file"], {"seq": after, "content": content})
        copy.execute("COMMIT")


class Snapshot:
    """A copy that nobody writes to."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    @property
    def version(self) -> int:
        """The number of its schema."""
        return int(self._connection.pragma("user_version"))

    @property
    def identity(self) -> str:
        """Which database it is a copy of."""
        return str(self._connection.execute(QUERIES["identity"]).get)

    def counts(self) -> dict[str, int]:
        """Return how many tasks it has by state."""
        return {str(state): int(number) for state, number in self._rows("count_tasks") if number}

    def files(self) -> Iterator[tuple[str, int, str]]:
        """Yield id, size and digest of each file whose bytes are not in the database."""
        after = -(2**63)
        while rows := self._rows("outside_files", after=after, limit=ROWS):
            yield from ((id, size, digest) for _, id, size, digest in rows)
            after = rows[-1][0]

    def small_files(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield id, digest and bytes of each file whose bytes are in the database."""
        after = -(2**63)
        while rows := self._rows("inside_files", after=after, limit=FULL_ROWS):
            yield from ((id, digest, content) for _, id, digest, content in rows)
            after = rows[-1][0]

    def content(self, id: str) -> bytes | None:
        """Return the bytes of a file, if they are in the database."""
        rows = self._rows("inside_file", id=id)
        return rows[0][0] if rows else None

    def _rows(self, query: str, **values: Any) -> list[Any]:
        return self._connection.execute(QUERIES[query], values).fetchall()


@contextmanager
def reading_snapshot(path: Path) -> Iterator[Snapshot]:
    """Open a copy for reading.

    Raises:
        StoreRefused: It is no database of ours, or one of a newer release.
        StorageUnsure: It cannot be read.
    """
    database = Database(path)
    with _reading(path), _opened(lambda: database.open(readonly=True)) as connection:
        check_owner(connection, database)
        yield Snapshot(connection)


def put_back(path: Path, contents: dict[str, bytes]) -> None:
    """Put the bytes of small files, by their ids, back into a copy that nobody has open.

    Raises:
        StorageFull: There is no room for it.
    """
    with _writing(path), _opened(lambda: apsw.Connection(str(path))) as copy, copy:
        for id, content in contents.items():
            copy.execute(QUERIES["mend_file"], {"id": id, "content": content})


@contextmanager
def _opened(open_it: Callable[[], apsw.Connection]) -> Iterator[apsw.Connection]:
    connection = open_it()
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.NotADBError as error:
        raise StoreRefused(f"{path} is not an SQLite database. Look whether it is the right place.") from error
    except apsw.BusyError as error:
        raise StoreBusy(
            f"another program kept the database {path} locked for too long. Try again in a moment."
        ) from error
    except DISK_ERRORS as error:
        raise StorageUnsure(f"the database {path} could not be read ({error}). See `afterwards doctor`.") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.FullError as error:
        raise StorageFull(f"no space is left on the disk of {path.parent} for a copy of the database.") from error
