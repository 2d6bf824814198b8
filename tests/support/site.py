"""An application with a data directory of its own, and an eye on what is stored when an answer leaves."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi
from fastapi import FastAPI
from fastapi.testclient import TestClient

import afterwards
from afterwards._domain.tasks import FINAL, TaskRow
from afterwards._store.contract import Filter
from afterwards._store.sqlite.connection import Database
from afterwards._store.sqlite.pool import Pool
from afterwards._store.sqlite.reads import Reads
from support import work
from support.work import DEADLINE


class Site:
    """The ASGI application that tests send their requests to: `app` with a recorder around it."""

    def __init__(self, data: Path, door: str = "a", app: FastAPI | None = None, **settings: Any) -> None:
        self.data = data
        self.app = app or FastAPI()
        self.afterwards = afterwards.Afterwards(self.app, data=data, **settings)
        # What endpoints ask for: with door a ours, with door b FastAPI's own, as in a program that never heard of us.
        self.Tasks: Any = afterwards.BackgroundTasks if door == "a" else fastapi.BackgroundTasks
        self.at_start: list[list[tuple[str, str]]] = []  # for each answer, the tasks stored when it left
        self.done_at_start: list[list[Any]] = []  # and what tasks had done by then
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.ended = threading.Condition()
        self.requests = 0
        self._pool: Pool | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def record(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.at_start.append(self.names())
                self.done_at_start.append(list(work.journal))
                self.headers.append(list(message["headers"]))
            await send(message)

        try:
            await self.app(scope, receive, record)
        finally:
            with self.ended:
                self.requests += scope["type"] != "lifespan"
                self.ended.notify_all()

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

    def client(self, **options: Any) -> TestClient:
        return TestClient(self, **options)

    def wait_for_requests(self, number: int) -> None:
        """Return when so many requests are over, with all that follows their answer."""
        with self.ended:
            assert self.ended.wait_for(lambda: self.requests >= number, timeout=DEADLINE)

    def settled(self, number: int) -> list[TaskRow]:
        """Return the tasks once there are so many and all have ended."""
        until(lambda: len(rows := self.rows()) >= number and all(row.state in FINAL for row in rows), self.states)
        return self.rows()

    def close(self) -> None:
        self.afterwards._system.stop()
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
