"""Huey on SQLite: the row is deleted when it is claimed, before the task runs, so a crash loses the task."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from huey import SqliteHuey

from benchmarks.peers.command import Peer, Submit, database, main
from benchmarks.task import note

huey = SqliteHuey("bench", filename=str(database()), results=False)
logging.getLogger("huey").setLevel(logging.ERROR)
work_on: Any = huey.task(name="note")(note)


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    yield work_on


def work() -> None:
    """One worker thread, Huey's default and its fastest: the threads of one process share the interpreter."""
    huey.create_consumer(workers=1, periodic=False).run()


if __name__ == "__main__":
    main(Peer(distribution="huey", opened=opened, work=work))
