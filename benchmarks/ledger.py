"""Reads our database from outside, to check that what was accepted is done and on record.

The engine is not asked: a plain read-only connection counts the rows it promised, which no writer minds.
"""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from benchmarks.children import Child, ChildFailed

OPEN = ("waiting", "scheduled", "queued", "running", "retrying")


def open_database(data: Path) -> apsw.Connection:
    """The database of a data directory, read-only."""
    connection = apsw.Connection(str(database(data)), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(10_000)
    return connection


def database(data: Path) -> Path:
    """The one SQLite file below a data directory, whatever it is called."""
    found = sorted(path for path in data.rglob("*") if path.is_file() and _is_database(path))
    if len(found) != 1:
        raise ChildFailed(f"{len(found)} databases in {data}, one was expected: {', '.join(map(str, found)) or 'none'}")
    return found[0]


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def states(data: Path) -> dict[str, int]:
    """How many tasks are in each state."""
    with closing(open_database(data)) as connection:
        rows: list[Any] = connection.execute("SELECT state, count(*) FROM task GROUP BY state").fetchall()
    return dict(rows)


def still_open(data: Path) -> int:
    """How many tasks are not final."""
    marks = ", ".join("?" * len(OPEN))
    with closing(open_database(data)) as connection:
        found = connection.execute(f"SELECT count(*) FROM task WHERE state IN ({marks})", OPEN).get
    return int(found)


def settled(data: Path, child: Child, *, within: float) -> float:
    """Wait until no task is open while `child` works; seconds that took."""
    begin = time.monotonic()
    child.until(lambda: still_open(data) == 0, within=within, what="every task final", every=0.1)
    return time.monotonic() - begin


def check(data: Path, *, accepted: int, exact: bool) -> str:
    """Every accepted task succeeded, each with an attempt that says so. Returns the finding in words.

    Args:
        exact: False where the load client stops without waiting for the last answers: then the database may hold
            tasks of requests it did not count, one per connection, but never fewer.

    Raises:
        ChildFailed: A task is missing, not succeeded, or has no succeeded attempt.
    """
    with closing(open_database(data)) as connection:

        def count(query: str) -> int:
            return int(connection.execute(query).get)

        stored = count("SELECT count(*) FROM task")
        succeeded = count("SELECT count(*) FROM task WHERE state = 'succeeded'")
        on_record = count("SELECT count(DISTINCT task) FROM attempt WHERE state = 'succeeded' AND ended_at IS NOT NULL")
    finding = f"{accepted} accepted, {stored} stored, {succeeded} succeeded, {on_record} with both ends on record"
    if not (stored == succeeded == on_record and (stored == accepted if exact else stored >= accepted)):
        raise ChildFailed(f"the record does not match: {finding}")
    return finding
