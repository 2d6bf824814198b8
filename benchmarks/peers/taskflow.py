"""fastapi-taskflow with its SQLite snapshot: tasks live in memory until they are done, so a crash loses them."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI
from fastapi_taskflow import ManagedBackgroundTasks, TaskAdmin, TaskManager

from benchmarks.peers.command import Peer, Submit, database, main
from benchmarks.task import note_async

manager = TaskManager(snapshot_db=str(database()), snapshot_interval=60.0)
manager.task()(note_async)


def application() -> FastAPI:
    """The drop-in way of its documentation: FastAPI's own annotation, patched."""
    app = FastAPI()
    TaskAdmin(app, manager, auto_install=True)
    numbers = itertools.count()

    @app.post("/task", status_code=202)
    async def task(background_tasks: BackgroundTasks) -> dict[str, int]:
        number = next(numbers)
        background_tasks.add_task(note_async, number, time.monotonic_ns())
        return {"number": number}

    return app


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    """Outside a request: what one request would have collected is run at once."""
    await manager.startup()

    async def submit(number: int, sent: int) -> None:
        tasks = ManagedBackgroundTasks(manager)
        tasks.add_task(note_async, number, sent)
        await tasks()

    try:
        yield submit
    finally:
        await manager.shutdown()


async def alone(count: int) -> None:
    """All tasks are registered first, then run as Starlette runs those of one response: one after the other."""
    await manager.startup()
    tasks = ManagedBackgroundTasks(manager)
    for number in range(count):
        tasks.add_task(note_async, number, time.monotonic_ns())
    await tasks()
    await asyncio.sleep(0)
    await manager.shutdown()


if __name__ == "__main__":
    main(Peer(distribution="fastapi-taskflow", opened=opened, alone=alone, application=application))
