"""The one writing connection of a process: transactions, and getting the database back after a failure.

A batch that fails for a reason of one of its commands is rolled back and carried out again with a savepoint for each,
so that only the culprit is refused. A disk that fails during the commit leaves open whether the commit is there
(measured: it can come back after a crash), so nobody is told either way, and nothing is tried again on a connection
that has seen such an error. It is used by one thread.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from afterwards._files.packs import Packs
from afterwards._store.contract import Command
from afterwards._store.sqlite.commands import apply, one_statement
from afterwards._store.sqlite.connection import DISK_ERRORS, LOG_LIMIT, Database, Patience, close
from afterwards._store.sqlite.lineage import Lineage, log_size
from afterwards._store.sqlite.packing import pack
from afterwards._store.sqlite.pool import Pool
from afterwards._store.sqlite.schema import check_owner
from afterwards._store.sqlite.sql import QUERIES
from afterwards._store.upkeep import Prune, Purge
from afterwards.errors import (
    BrokenRule,
    CommandRefused,
    Error,
    StorageFull,
    StorageUnsure,
    StoreBusy,
    StoreRefused,
)

log = logging.getLogger("afterwards.store")

RESET = 5.0  # seconds between attempts to reset a log that has grown too long
RESET_WAIT = 0.1  # seconds such an attempt may keep writers waiting for readers

_STORAGE = (apsw.FullError, apsw.BusyError, *DISK_ERRORS)  # never the fault of one command


class Session:
    """Carries out batches of commands, each in one transaction."""

    def __init__(self, database: Database, pool: Pool) -> None:
        self._database = database
        self._pool = pool
        self._next_reset = 0.0
        self._saved = False  # what a lost log held
        self._connection = database.open()
        self._lineage = Lineage(database.path)
        self._identity = self._connection.execute(QUERIES["identity"]).get
        self._packs = Packs(pool.root, self._used_packs)

    def close(self) -> None:
        """Close the connection."""
        close(self._connection)
        self._packs.close()

    def run(self, commands: Sequence[Command]) -> tuple[list[Any], bool]:
        """Carry out commands and return their answers, and whether they left work for a claimer.

        The answer to a command that failed by itself is its exception.

        Raises:
            StorageFull, StoreBusy: Nothing was stored.
            StorageUnsure: Whether it was stored is unknown; nothing more can be, until `reopen` has succeeded.
        """
        connection, path = self._connection, self._database.path
        try:
            if not self._lineage.intact():
                raise StorageUnsure(_replaced(path, "nothing of the last request was stored"))
            commands = pack(commands, self._packs)
            if not one_statement(commands):
                connection.execute("BEGIN IMMEDIATE")
            try:
                done = apply(connection, commands)
            except _STORAGE:
                raise
            except Exception:  # noqa: BLE001 - of one command: which one is found out now
                self._roll_back()
                connection.execute("BEGIN IMMEDIATE")
                done = self._each_by_itself(commands)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except apsw.FullError as error:
            self._roll_back()
            raise StorageFull(
                f"the disk that holds {path} is full, so nothing was stored. "
                "Free some space; what was accepted before is safe and goes on by itself."
            ) from error
        except apsw.BusyError as error:
            self._roll_back()
            raise StoreBusy(
                f"another program kept the database {path} locked for {self._database.busy:g} s, so nothing was "
                "stored. Close it (a database browser with an open transaction?) and send the request again."
            ) from error
        except DISK_ERRORS as error:
            raise StorageUnsure(
                f"the disk that holds {path} failed while storing ({error}); whether it was stored is unknown. "
                "Send it again with the same Idempotency-Key when /health is well; without one, look whether its task "
                "exists before sending it again."
            ) from error
        except BaseException:
            self._roll_back()
            raise
        if not self._lineage.intact():
            raise StorageUnsure(_replaced(path, "whether the last request was stored is unknown"))
        self._packs.committed()
        if any(isinstance(command, Prune | Purge) for command in commands):
            self._tidy()
        return done

    def _each_by_itself(self, commands: Sequence[Command]) -> tuple[list[Any], bool]:
        connection = self._connection
        answers: list[Any] = []
        work = False
        for command in commands:
            connection.execute("SAVEPOINT by_itself")
            try:
                [answer], queued = apply(connection, [command])
                answers.append(answer)
                work = work or queued
            except _STORAGE:
                raise
            except Exception as error:
                if not connection.in_transaction:  # SQLite gave all of it up, out of memory for one
                    raise
                connection.execute("ROLLBACK TO by_itself")
                answers.append(_as_ours(error, command))
            connection.execute("RELEASE by_itself")
        return answers, work

    def _roll_back(self) -> None:
        """End the transaction, if SQLite has not done so itself; nothing of it was committed."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:  # the connection is of no use any more, and the next BEGIN on it would fail too
            raise StorageUnsure(
                f"the disk that holds {self._database.path} failed ({error}), so the last request was not stored. "
                "Send it again when /health is well again."
            ) from error

    def reopen(self) -> None:
        """Get a connection that works, and write through it.

        After a failed commit the new connection is opened before any other is closed: they share the log's index, which
        does not know the failed commit, so that our write takes its place in the log. Without an index SQLite
        would read the log from the disk, find the failed commit whole, and bring back what was refused (measured).

        Raises:
            apsw.Error, Error, OSError: It does not work yet.
        """
        path = self._database.path
        if self._lineage.intact():
            fresh = self._database.open()
            close(self._connection)
            self._connection = fresh
        else:
            if not self._saved:
                self._save_log()
                self._saved = True
            with self._pool.emptied():
                close(self._connection)
                self._lineage.leave()
                self._connection = self._database.open()
                check_owner(self._connection, self._database)
                if self._connection.execute(QUERIES["identity"]).get != self._identity:
                    raise StoreRefused(
                        f"another database has taken the place of {path}, and this process has the key of the one "
                        "before. Restart the program, or put the data directory back that it was started with."
                    )
                self._lineage = Lineage(self._database.path)
                self._saved = False
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(QUERIES["mark_reopened"])
        self._connection.execute("COMMIT")

    def keep_log_short(self) -> None:
        """Reset the write-ahead log when it has grown, since readers that overlap keep SQLite from doing so."""
        if log_size(self._database.path) < LOG_LIMIT or time.monotonic() < self._next_reset:
            return
        self._next_reset = time.monotonic() + RESET
        self._connection.set_busy_handler(Patience(RESET_WAIT))
        try:
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").get
        except (apsw.BusyError, apsw.FullError, *DISK_ERRORS) as error:  # what was committed stays in the log
            log.warning("the write-ahead log of %s could not be reset: %s", self._database.path, error)
            return
        finally:
            self._connection.set_busy_handler(Patience(self._database.busy))
        if busy:
            log.warning(
                "the write-ahead log of %s has grown to %d MiB, because another program keeps reading from the "
                "database in one long transaction: a backup or a database browser? End it before the disk is full.",
                self._database.path,
                log_size(self._database.path) >> 20,
            )

    def _tidy(self) -> None:
        try:
            self._packs.tidy()
        except (Error, OSError) as error:  # what was committed stays committed, and they are looked at again
            log.warning("packs that nobody needs could not be removed: %s", error)

    def _used_packs(self, packs: Sequence[int]) -> set[int]:
        return {pack for (pack,) in self._pool.rows("used_packs", {"packs": msgspec.json.encode(list(packs)).decode()})}

    def _save_log(self) -> None:
        """Copy a log that has lost its name into the database, through the connection that still has it open.

        This takes the lock for writing, so that no process can commit to the lost log while it is copied, and none that
        looks at the name before it commits will do so afterwards.
        """
        if not self._lineage.only_log_lost():
            log.critical("files of %s were exchanged while in use; the last tasks may be lost", self._database.path)
            return
        busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(FULL)").get
        if busy:
            raise StoreBusy(f"a reader keeps the lost write-ahead log of {self._database.path} from being saved.")


def _replaced(path: object, outcome: str) -> str:
    return (
        f"somebody replaced or removed the files of {path} while they were in use; {outcome}. "
        "Do not open, copy or delete the files of the data directory while the program runs: "
        "make backups through SQLite instead."
    )


def _as_ours(error: Exception, command: Command) -> Exception:
    """Say that nothing of a command is stored, whatever kept it from being carried out."""
    if isinstance(error, Error):
        return error
    what = type(command).__name__
    if isinstance(error, apsw.ConstraintError):
        refused: CommandRefused = BrokenRule(command=what, rule=str(error))
    else:
        refused = CommandRefused(command=what, problem=f"{type(error).__name__}: {error}")
    refused.__cause__ = error
    return refused
