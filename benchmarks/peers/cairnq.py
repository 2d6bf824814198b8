"""CairnQ on SQLite: WAL, synchronous FULL, leases; the handler runs on the worker's loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cairnq import CairnQ, Worker

from benchmarks.peers.command import Peer, Submit, database, main
from benchmarks.task import note

CONCURRENCY = 16  # the default of 1 drains several times slower


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    tasks = CairnQ.sqlite(str(database()))

    async def submit(number: int, sent: int) -> None:
        await tasks.submit("note", {"number": number, "sent": sent})

    try:
        yield submit
    finally:
        closed = tasks.close()
        if asyncio.iscoroutine(closed):
            await closed


async def handle(context: Any, payload: dict[str, int]) -> None:
    note(payload["number"], payload["sent"])


def work() -> None:
    worker = Worker.sqlite(str(database()), concurrency=CONCURRENCY)

    worker.task("note")(handle)
    worker.serve()


if __name__ == "__main__":
    main(Peer(distribution="cairnq", opened=opened, work=work))
