"""An application with a data directory of its own, and an eye on what is stored when an answer leaves."""

import threading
from pathlib import Path
from typing import Any

import fastapi
from fastapi import FastAPI
from fastapi.testclient import TestClient

import afterwards
from support import work
from support.data import Data, until, until_async
from support.work import DEADLINE

__all__ = ["Site", "until", "until_async"]


class Site(Data):
    """The ASGI application that tests send their requests to: `app` with a recorder around it."""

    def __init__(self, data: Path, door: str = "a", app: FastAPI | None = None, **settings: Any) -> None:
        super().__init__(data)
        self.app = app or FastAPI()
        self.afterwards = afterwards.Afterwards(self.app, data=data, **settings)
        # What endpoints ask for: with door a ours, with door b FastAPI's own, as in a program that never heard of us.
        self.Tasks: Any = afterwards.BackgroundTasks if door == "a" else fastapi.BackgroundTasks
        self.at_start: list[list[tuple[str, str]]] = []  # for each answer, the tasks stored when it left
        self.done_at_start: list[list[Any]] = []  # and what tasks had done by then
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.ended = threading.Condition()
        self.requests = 0

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

    def client(self, **options: Any) -> TestClient:
        return TestClient(self, **options)

    def wait_for_requests(self, number: int) -> None:
        """Return when so many requests are over, with all that follows their answer."""
        with self.ended:
            assert self.ended.wait_for(lambda: self.requests >= number, timeout=DEADLINE)

    def close(self) -> None:
        self.afterwards._system.stop()
        super().close()
