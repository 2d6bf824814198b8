"""DBOS, a workflow engine: its queue on SQLite, or on PostgreSQL when the harness has started one for it."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbos import DBOS, DBOSConfig

from benchmarks.peers.command import Peer, Submit, database, main, server
from benchmarks.task import SERVER, note

QUEUE = "bench"


@DBOS.workflow(name="note")
def note_workflow(number: int, sent: int) -> None:
    note(number, sent)


def launch(*, listening: bool) -> None:
    """Start the engine; where `listening`, it also runs what is queued."""
    address = server() if os.environ.get(SERVER) else f"sqlite:///{database()}"
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": address,
        "application_version": "1",
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.listen_queues([QUEUE] if listening else ["nothing"])
    DBOS.launch()
    DBOS.register_queue(QUEUE)


def prepare() -> None:
    launch(listening=False)
    DBOS.destroy()


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    """In a web process it runs the tasks too, as its users have it; `fill` and `trickle` only hand over."""
    await asyncio.to_thread(launch, listening=serving)

    def submit(number: int, sent: int) -> None:
        DBOS.enqueue_workflow(QUEUE, note_workflow, number, sent)

    try:
        yield submit
    finally:
        await asyncio.to_thread(DBOS.destroy)


def work() -> None:
    launch(listening=True)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    DBOS.destroy()


if __name__ == "__main__":
    main(Peer(distribution="dbos", opened=opened, work=work, prepare=prepare))
