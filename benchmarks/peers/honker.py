"""Honker, a SQLite extension: WAL with synchronous NORMAL, so an accepted task may be lost in a power cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import honker

from benchmarks.peers.command import Peer, Submit, database, main
from benchmarks.task import note


@asynccontextmanager
async def opened(serving: bool) -> AsyncIterator[Submit]:
    queue = honker.open(str(database())).queue("bench")

    def submit(number: int, sent: int) -> None:
        queue.enqueue({"number": number, "sent": sent})

    yield submit


async def work() -> None:
    """The loop of its documentation: one job claimed, run and acknowledged at a time."""
    queue = honker.open(str(database())).queue("bench")
    async for job in queue.claim("bench-worker"):
        note(job.payload["number"], job.payload["sent"])
        job.ack()
        await asyncio.sleep(0)


if __name__ == "__main__":
    main(Peer(distribution="honker", opened=opened, work=work))
