"""What is stored in a data directory, seen from outside as another process sees it."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from afterwards._domain.tasks import FINAL, TaskRow
from afterwards._store.contract import Filter
from afterwards._store.sqlite.connection import Database
from afterwards._store.sqlite.pool import Pool
from afterwards._store.sqlite.reads import Reads
from support.work import DEADLINE


class Data:
    """One data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._pool: Pool | None = None

    @property
    def reads(self) -> Reads:
        """A second reading connection, as another process would have it."""
        if self._pool is None:
            self._pool = Pool(Database(self.data / "afterwards.db"))
        return Reads(self._pool)

    def rows(self) -> list[TaskRow]:
        """The stored tasks, oldest first."""
        if not (self.data / "afterwards.db").exists():
            return []
        return self.reads.tasks(Filter(limit=1000))[::-1]

    def names(self) -> list[tuple[str, str]]:
        """Name and arguments of each stored task, oldest first."""
        return [(row.name.rpartition(":")[2], row.arguments) for row in self.rows()]

    def states(self) -> list[str]:
        return [row.state.value for row in self.rows()]

    def files(self) -> list[Path]:
        """Uploads on the disk, staged or stored."""
        folders = [self.data / "staging", self.data / "files"]
        return [path for folder in folders if folder.exists() for path in folder.rglob("*") if path.is_file()]

    def refuse_files(self, what: str = "RAISE(ABORT, 'not this one')") -> None:
        """Let each command that stores a file fail by itself, as one with a value that SQLite cannot take does."""
        connection = apsw.Connection(str(self.data / "afterwards.db"))
        connection.set_busy_timeout(10_000)
        connection.execute(f"CREATE TRIGGER refused BEFORE INSERT ON file BEGIN SELECT {what}; END")
        connection.close()

    def settled(self, number: int) -> list[TaskRow]:
        """Return the tasks once there are so many and all have ended."""
        until(lambda: len(rows := self.rows()) >= number and all(row.state in FINAL for row in rows), self.states)
        return self.rows()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


def until(true: Callable[[], bool], shown: Callable[[], object] = lambda: None) -> None:
    """Return as soon as something is true, which another thread or process brings about."""
    end = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not true():
        assert time.monotonic() < end, shown()
        pause.wait(0.01)


async def until_async(true: Callable[[], bool], shown: Callable[[], object] = lambda: None) -> None:
    """Do the same while the running loop goes on."""
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, shown()
        await asyncio.sleep(0.005)
