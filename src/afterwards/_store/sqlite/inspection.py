"""Reads a whole database and says what in it is not as it should be.

It works beside running programs and changes nothing: one connection that only reads, and short reads of a page each,
because one long read would keep the write-ahead log from being reset. Only SQLite's own check of the file is a single
read, however long it takes. The files of the database are never opened otherwise: see `lineage.py`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec

from afterwards._domain.amounts import counted
from afterwards._domain.documents import ProgressDocument
from afterwards._domain.findings import Finding, Level, Repair
from afterwards._domain.ids import is_id
from afterwards._domain.signing import Signer
from afterwards._domain.tasks import FINAL, Failure, TaskState
from afterwards._domain.values import to_plain
from afterwards._files.packs import read
from afterwards._store.sqlite.connection import Database
from afterwards._store.sqlite.schema import APPLICATION_ID
from afterwards._store.sqlite.sql import MIGRATIONS, QUERIES
from afterwards.errors import DamagedArguments

PAGE = 200  # rows in one read
POSITIONS = 5_000  # of the log in one read
STEPS = 1_000_000  # of SQLite's machine between two signs of life
_STATES = frozenset(TaskState)
_DIGEST = re.compile("blake3:[0-9a-f]{64}")
_FILES_NAMED = re.compile(r'"\$(?:file|bytes-file|bytearray-file)":"([0-9a-f]{43})"')  # see _domain/values.py
_REPORT = "This is a fault in Afterwards, or somebody wrote to the database: please report it with this line."
_BACKUP = "Stop the programs and restore the newest backup with `afterwards restore`."

Advance = Callable[[float], None]  # told the part that is done, from 0 to 1


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What a row says of a file, for whoever looks at its bytes."""

    id: str
    name: str | None
    size: int
    digest: str
    content: bytes | None


class Inspection:
    """One look at a database."""

    def __init__(self, connection: apsw.Connection, root: Path) -> None:
        self._connection = connection
        self._root = root
        self.tasks = 0  # seen so far
        self.events = 0

    def version(self) -> Finding | None:
        """Tell why the rows cannot be understood; None when they can."""
        application, version = self._connection.pragma("application_id"), self._connection.pragma("user_version")
        if application != APPLICATION_ID:
            problem, remedy = f"it belongs to another program (application id {application})", "Look at --data."
        elif version > len(MIGRATIONS):
            problem = f"it was written by a newer Afterwards (schema {version}, this one knows up to {len(MIGRATIONS)})"
            remedy = "Upgrade Afterwards here, then check again."
        elif version < len(MIGRATIONS):
            problem = f"it was written by an older Afterwards (schema {version} of {len(MIGRATIONS)})"
            remedy = "Start the program once, which brings it up to date, then check again."
        else:
            return None
        return Finding(code="database_version", subject="afterwards.db", problem=problem, remedy=remedy)

    def structure(self, *, quick: bool, advance: Advance) -> Iterator[Finding]:
        """Let SQLite check its file, every index and constraint, and every reference between tables."""

        def tick() -> bool:
            advance(0.0)  # how far it is, SQLite does not say
            return False

        self._connection.set_progress_handler(tick, STEPS)
        try:
            yield from self._structure(quick=quick)
        finally:
            self._connection.set_progress_handler(None)

    def _structure(self, *, quick: bool) -> Iterator[Finding]:
        check = "quick_check" if quick else "integrity_check"
        for (said,) in self._connection.execute(f"PRAGMA {check}"):
            if said != "ok":
                yield _damaged(said)
        for table, row, parent, _ in self._connection.execute("PRAGMA foreign_key_check"):
            yield _damaged(f"row {row} of {table} refers to a row of {parent} that is not there")
        for table, number in self._rows("check_singles"):
            if number != 1:
                yield _damaged(f"the table {table} has {number} rows instead of one")

    def extent(self) -> tuple[int, int, int]:
        """Return how far the numbers of tasks, files and events go."""
        tasks, files, events = self._rows("check_extent")[0]
        return tasks, files, events

    def functions(self, signer: Signer | None) -> Iterator[Finding]:
        """Check that every function that may be run was named by a program with this key."""
        for name, signature in self._rows("functions"):
            if signer is not None and signature != signer.function(name):
                yield Finding(
                    code="forged_function",
                    subject=f"function {name}",
                    problem="its row is not signed with the key of this data directory",
                    remedy="Find out who wrote it, or put the right key back; the program signs its functions anew.",
                )

    def task_rows(self, signer: Signer | None, advance: Advance) -> Iterator[Finding]:
        """Check every task, with its attempts and the files that its arguments name."""
        last = max(1, self.extent()[0])
        unsigned: list[Finding] = []
        for row in self._pages("check_tasks"):
            task = _Task(*row)
            if signer is not None and task.signature != signer.task(task.id, task.name, task.arguments):
                unsigned.append(
                    task.finding(
                        "forged_task",
                        "its row is not signed with the key of this data directory, so it will not be run",
                        "Find out who wrote it, or put the right key back and retry it.",
                    )
                )
            yield from task.findings()
            self.tasks += 1
            advance(task.seq / last)
        if len(unsigned) > 1 and len(unsigned) == self.tasks:
            yield Finding(
                code="wrong_key",
                subject="key",
                problem=f"it signed none of the {counted(self.tasks, 'task')}: it is the key of another data directory",
                remedy="Put the right key back from a backup.",
            )
        else:
            yield from unsigned

    def event_rows(self, advance: Advance) -> Iterator[Finding]:
        """Check that the log can be read."""
        last = self.extent()[2]
        for after in range(0, last, POSITIONS):
            for position, task in self._rows("check_events", after=after, until=after + POSITIONS):
                yield Finding(
                    code="damaged_event",
                    subject=f"event {position} of task {task}",
                    problem="its data is not JSON, so the event streams that reach it fail",
                    remedy=f"{_BACKUP} It also goes with its task, when that is deleted.",
                )
            advance(after / max(1, last))
        self.events = last

    def files(self, found: Callable[[Finding], None]) -> Iterator[tuple[CheckedFile, float]]:
        """Check the rows of files, and hand on each with the part of them that is done."""
        last = max(1, self.extent()[1])
        for seq, id, name, size, headers, digest, content, pack, at, uses, links in self._pages("check_files"):
            if pack is not None:
                content = read(self._root, (pack, at), size)
            subject = f"file {id}"
            if not is_id(id) or not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not _reads(headers):
                found(
                    Finding(
                        code="damaged_row",
                        subject=subject,
                        problem="its id, digest or headers are not written as Afterwards writes them",
                        remedy=_BACKUP,
                    )
                )
            if uses != links:
                found(
                    Finding(
                        code="wrong_uses",
                        subject=subject,
                        problem=f"its row counts {counted(uses, 'task')} that have it, and there are {links:,}",
                        remedy="`afterwards doctor --repair` counts anew."
                        + (" Until then it may be deleted while a task needs it." if uses < links else ""),
                        repair=Repair.USES,
                        target=id,
                    )
                )
            yield CheckedFile(id, name, size, digest, content), seq / last

    def file(self, id: str) -> tuple[int, str, bool] | None:
        """Return size, digest and whether the bytes are a file, as a row says now; None when there is no such row."""
        rows = self._rows("check_file", id=id)
        if not rows:
            return None
        size, digest, outside = rows[0]
        return size, digest, bool(outside)

    def tasks_of(self, id: str, limit: int) -> list[tuple[str, str]]:
        """Return id and state of some of the tasks that have a file."""
        return self._rows("tasks_of_file", id=id, limit=limit)

    def known_files(self, ids: Sequence[str]) -> set[str]:
        """Return which of these files have a row, or belong to an upload that is open."""
        return {id for (id,) in self._rows("known_files", ids=msgspec.json.encode(list(ids)).decode())}

    def uploads(self) -> Iterator[tuple[str, int]]:
        """Yield each upload that is open, with how many of its bytes are on stable storage."""
        for _, id, offset in self._pages("check_uploads"):
            yield id, offset

    def open_uploads(self, ids: Sequence[str]) -> set[str]:
        """Return which of these uploads are open."""
        return {id for (id,) in self._rows("open_uploads", ids=msgspec.json.encode(list(ids)).decode())}

    def workers(self) -> list[tuple[str, int, str]]:
        """Return id, process and machine of every worker on record, and of those unknown that hold tasks."""
        return [(row[0], row[2], row[1]) for row in self._rows("workers")]

    def _pages(self, query: str) -> Iterator[Any]:
        after = -(2**63)
        while rows := self._rows(query, after=after, limit=PAGE):
            yield from rows
            after = rows[-1][0]

    def _rows(self, query: str, **values: Any) -> list[Any]:
        return self._connection.execute(QUERIES[query], values).fetchall()


@contextmanager
def inspecting(path: Path, found: Callable[[Finding], None]) -> Iterator[Inspection | None]:
    """Open a database for a look; None when it cannot be opened. What cannot be read becomes a finding."""
    try:
        connection = Database(path).look()
    except apsw.Error as error:
        found(_damaged(f"it cannot be opened: {error}"))
        yield None
        return
    try:
        yield Inspection(connection, path.parent)
    finally:
        connection.close()


@contextmanager
def reading(what: str, found: Callable[[Finding], None]) -> Iterator[None]:
    """Make a finding of it when a part of the database cannot be read, so that the other parts are still checked."""
    try:
        yield
    except apsw.BusyError as error:
        found(_damaged(f"another program kept it locked: {error}", remedy="Close that program, then check again."))
    except (apsw.Error, UnicodeDecodeError) as error:
        found(_damaged(f"its {what} cannot be read: {error}"))


@dataclass(frozen=True, slots=True)
class _Task:
    """A row of `check_tasks.sql`."""

    seq: int
    id: str
    name: str
    state: str
    arguments: str
    signature: str
    progress: str | None
    result: str | None
    error: str | None
    attempt: int
    worker: str | None
    token: str | None
    after: str | None
    after_is_open: int | None
    attempts: str
    files: str

    def finding(self, code: str, problem: str, remedy: str, level: Level = Level.PROBLEM) -> Finding:
        return Finding(code=code, subject=f"task {self.id} ({self.name})", problem=problem, remedy=remedy, level=level)

    def findings(self) -> Iterator[Finding]:
        """Yield what the row contradicts."""
        attempts: list[list[Any]] = msgspec.json.decode(self.attempts)
        unreadable = [name for name, good in self._texts() if not good]
        unreadable += [f"error of attempt {number}" for number, *_, error in attempts if not _reads_as(error, Failure)]
        if unreadable:
            yield self.finding("damaged_row", f"its {', '.join(unreadable)} cannot be read back", _BACKUP)
        if not is_id(self.id) or self.state not in _STATES:
            yield self.finding("damaged_row", f"its id or state ({self.state}) is none that Afterwards writes", _BACKUP)
            return
        running = [one for one in attempts if one[1] == "running"]
        if self.state == TaskState.RUNNING:
            if [one[:4] for one in running] != [[self.attempt, "running", self.worker, self.token]]:
                yield self.finding("wrong_attempts", f"it runs, and attempt {self.attempt} does not say so", _REPORT)
        elif running:
            yield self.finding("wrong_attempts", f"it is {self.state}, and attempt {running[0][0]} runs", _REPORT)
        if any(number > self.attempt for number, *_ in attempts):
            yield self.finding("wrong_attempts", f"it has attempts beyond its newest, {self.attempt}", _REPORT)
        if self.state == TaskState.WAITING and self.after is not None and not self.after_is_open:
            yield self.finding("limbo", f"it waits for task {self.after}, which has ended or is gone", _REPORT)
        missing = set(_FILES_NAMED.findall(self.arguments)) - set(msgspec.json.decode(self.files))
        if missing and self.state not in FINAL:
            named = ", ".join(sorted(missing))
            yield self.finding("missing_link", f"its arguments name files that it is not tied to: {named}", _REPORT)

    def _texts(self) -> Iterator[tuple[str, bool]]:
        yield "arguments", _restores(self.arguments)
        yield "result", _restores(self.result)
        yield "progress", _reads_as(self.progress, ProgressDocument)
        yield "error", _reads_as(self.error, Failure)


def _damaged(said: str, remedy: str = _BACKUP) -> Finding:
    return Finding(code="database_damaged", subject="afterwards.db", problem=said, remedy=remedy)


def _restores(text: str | None) -> bool:
    try:
        return text is None or to_plain(text) is not Ellipsis
    except DamagedArguments:
        return False


def _reads_as(text: str | None, kind: type) -> bool:
    try:
        return text is None or msgspec.json.decode(text, type=kind) is not None
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False


def _reads(headers: str) -> bool:
    try:
        msgspec.json.decode(headers, type=list[tuple[str, str]])
    except (msgspec.DecodeError, TypeError, UnicodeEncodeError):
        return False
    return True
